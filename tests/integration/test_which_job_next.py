"""Which job is next, and when: priority, run_at, expires_s, unique keys and pauses, kept by the store."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest

from headway.contract.encoding import dumps, rfc3339
from headway.contract.pauses import Subject
from headway.contract.records import Job, Unique
from headway.contract.states import ErrorCode, State
from headway.contract.store import JobStore
from tests.support.clocked_store import ClockedStore
from tests.support.fake_worker import claim, create
from tests.support.stack import Stack
from tests.support.wait import until

QUEUE = "nobody"


def refused(store: JobStore, job_id: str, worker: str = "w:1") -> bool:
    """Whether a worker that has the job's message is refused the job."""
    ref = store.ref(job_id)
    assert ref is not None
    return store.claim(ref, token="t" + job_id, lease_s=10, worker=worker) is None


def job(store: JobStore, job_id: str) -> Job:
    found = store.get(job_id)
    assert found is not None
    return found


def next_one(store: JobStore) -> str | None:
    """Claim the job that is next."""
    following = store.next(0, QUEUE)
    if following is None:
        return None
    claim(store, following[0].id)
    return following[0].id


def order(store: JobStore) -> list[str]:
    """Claim all, as they are next."""
    found = []
    while (job_id := next_one(store)) is not None:
        found.append(job_id)
    return found


# -- priority ------------------------------------------------------------------------------------------


def test_an_owners_jobs_go_by_priority_and_then_as_they_came(store: JobStore) -> None:
    low, usual, high, usual_too, highest = (create(store, priority=n) for n in (0, 4, 8, 4, 9))
    assert order(store) == [highest, high, usual, usual_too, low]


def test_the_groups_of_an_owner_take_turns_and_each_has_its_jobs_in_their_order(store: JobStore) -> None:
    large = [create(store, group="large") for _ in range(6)]
    alone = [create(store) for _ in range(2)]
    late = [create(store, group="late") for _ in range(2)]
    turns = zip(large, alone, late, strict=False)
    assert order(store) == [*(job_id for turn in turns for job_id in turn), *large[2:]]
    assert not [*store.redis.scan_iter(store.keys.turns(0, QUEUE) + "*")]


def test_a_group_that_comes_later_does_not_wait_behind_all_of_another_nor_go_before_it(
    store: JobStore,
) -> None:
    large = [create(store, group="large") for _ in range(20)]
    taken = [next_one(store) for _ in range(8)]
    small = [create(store, group="small") for _ in range(3)]
    taken += [next_one(store) for _ in range(7)]
    assert taken[:8] == large[:8]
    assert [job_id for job_id in taken[8:] if job_id in small] == small
    assert len({*taken[8:]} & {*large}) == 4
    urgent = create(store, group="large", priority=9)
    assert next_one(store) == urgent


def test_groups_of_one_job_each_go_as_they_came_however_many_come_later(store: JobStore) -> None:
    groups = (f"g{n}" for n in count())
    waiting = [create(store, group=next(groups)) for _ in range(5)]
    for _ in range(20):
        assert next_one(store) == waiting.pop(0)
        waiting.append(create(store, group=next(groups)))


def test_a_group_that_submits_one_job_after_another_does_not_hold_up_the_others(store: JobStore) -> None:
    large = [create(store, group="large") for _ in range(4)]
    taken = []
    for _ in range(8):
        create(store, group="small")
        taken.append(next_one(store))
    assert [job_id for job_id in taken if job_id in large] == large


def test_a_group_whose_jobs_were_canceled_is_not_behind_their_turns(store: JobStore) -> None:
    canceled = [create(store, group="a") for _ in range(20)]
    stays = create(store, group="a")
    more = [create(store, group="a") for _ in range(20)]
    others = [create(store, group="b") for _ in range(60)]
    store.cancel_many([ref for job_id in canceled + more if (ref := store.ref(job_id))])
    new = create(store, group="a")
    store.cancel(stays)
    newer = create(store, group="a")
    found = order(store)
    assert found.index(new) < found.index(newer) < 24
    assert [job_id for job_id in found if job_id in others] == others
    alone = [create(store, group="a") for _ in range(20)]
    others = [create(store, group="b") for _ in range(10)]
    store.cancel_many([ref for job_id in alone if (ref := store.ref(job_id))])
    assert create(store, group="a") in order(store)[:2]


def test_a_priority_puts_no_job_before_another_owners_turn(store: JobStore) -> None:
    modest = [create(store, owner="modest", priority=0) for _ in range(3)]
    greedy = [create(store, owner="greedy", priority=9) for _ in range(3)]
    found = order(store)
    assert [job_id in greedy for job_id in found[:2]].count(True) == 1
    assert [job_id in greedy for job_id in found[2:4]].count(True) == 1
    assert [job_id for job_id in found if job_id in modest] == modest


def test_a_job_that_is_tried_again_goes_before_those_of_a_higher_priority(clocked: ClockedStore) -> None:
    first = create(clocked, priority=0, max_attempts=3)
    clocked.retry(claim(clocked, first), delay_s=1, reason="once more")
    urgent = create(clocked, priority=9)
    clocked.advance(1)
    assert clocked.alarms.answer(first) is not None
    assert order(clocked) == [first, urgent]


def test_a_worker_is_given_only_jobs_of_its_types_from_a_queue_that_others_share(store: JobStore) -> None:
    for _ in range(120):
        create(store, type="others", priority=9)
    mine = create(store, type="mine")
    found = store.next(0, QUEUE, ["mine", "more"])
    assert found is not None
    assert (found[0].id, found[1]) == (mine, "mine")
    assert store.next(0, QUEUE, ["none"]) is None


# -- run_at and expires_s ------------------------------------------------------------------------------


def test_a_job_is_never_begun_before_its_time_and_has_its_message_then(clocked: ClockedStore) -> None:
    at = clocked.now_ms + 60_000
    job_id = create(clocked, run_at_ms=at)
    assert job(clocked, job_id).run_at == rfc3339(at)
    clocked.set_time(at - 1)
    assert clocked.next(0, QUEUE) is None
    assert refused(clocked, job_id), "by whatever message"
    # An alarm that goes off too early changes nothing.
    clocked.redis.zadd(clocked.keys.alarms(0), {job_id: 1})
    assert clocked.alarms.answer(job_id) is None
    assert refused(clocked, job_id)
    assert clocked.redis.zscore(clocked.keys.alarms(0), job_id) == at
    clocked.set_time(at)
    due = clocked.alarms.answer(job_id)
    assert due is not None
    assert (due.id, due.why) == (job_id, "run_at")
    assert order(clocked) == [job_id]
    assert job(clocked, job_id).attempt == 1


def test_a_job_whose_time_has_come_takes_its_place_by_priority(clocked: ClockedStore) -> None:
    later = create(clocked, run_at_ms=clocked.now_ms + 1000, priority=9)
    usual = create(clocked)
    clocked.advance(1)
    clocked.alarms.answer(later)
    assert order(clocked) == [later, usual]


def test_a_job_that_has_not_begun_in_time_fails_and_one_that_has_goes_on(clocked: ClockedStore) -> None:
    begun, late, tried = (create(clocked, expires_s=5, max_attempts=3) for _ in range(3))
    claim(clocked, begun)
    clocked.retry(claim(clocked, tried), delay_s=0, reason="once more")
    clocked.advance(5)
    assert refused(clocked, late), "its alarm may be late, and its message is not"
    for job_id in (begun, late, tried):
        clocked.alarms.answer(job_id)
    error = job(clocked, late).error
    assert error is not None
    assert (error.code, "expires_s" in error.message) == (ErrorCode.TIMEOUT, True)
    assert job(clocked, begun).state is State.RUNNING
    assert job(clocked, tried).state is State.RETRYING
    assert not refused(clocked, tried)


def test_a_job_that_is_about_to_fail_holds_up_none_behind_it(clocked: ClockedStore) -> None:
    late = create(clocked, expires_s=5)
    behind = create(clocked)
    clocked.advance(6)
    assert refused(clocked, late)
    assert next_one(clocked) == behind
    assert clocked.alarms.answer(late) is None
    assert job(clocked, late).state == State.FAILED


def test_what_a_job_may_wait_counts_from_its_time_on(clocked: ClockedStore) -> None:
    at = clocked.now_ms + 100_000
    job_id = create(clocked, run_at_ms=at, expires_s=5)
    assert job(clocked, job_id).expires_at == rfc3339(at + 5000)
    clocked.set_time(at)
    assert clocked.alarms.answer(job_id) is not None
    assert clocked.redis.zscore(clocked.keys.alarms(0), job_id) == at + 5000
    clocked.set_time(at + 5000)
    clocked.alarms.answer(job_id)
    assert job(clocked, job_id).state is State.FAILED


# -- unique --------------------------------------------------------------------------------------------


def test_a_unique_key_belongs_to_one_job_until_that_ends(store: JobStore) -> None:
    live = Unique(key="nightly")
    first = create(store, unique=live)
    assert create(store, unique=live) == first
    held = claim(store, first)
    assert create(store, unique=live) == first
    assert create(store, unique=live, owner="another") != first
    store.end(held, State.SUCCEEDED)
    second = create(store, unique=live)
    assert second != first
    store.cancel(second)
    assert store.redis.keys(f"{store.keys.prefix}*unique*") == [
        store.keys.clock(0).replace("clock", f"unique:another:{_hash('nightly')}").encode()
    ], "the key goes with the end of its job"


def test_a_key_that_is_unique_in_the_queue_is_free_once_its_job_has_begun(store: JobStore) -> None:
    queued = Unique(key="k", while_="queued")
    first = create(store, unique=queued, max_attempts=3)
    assert create(store, unique=queued) == first
    held = claim(store, first)
    second = create(store, unique=queued)
    assert second != first
    store.retry(held, delay_s=0, reason="once more")
    assert create(store, unique=queued) == second, "and a second attempt takes it from nobody"
    claim(store, first)
    store.cancel(first)
    assert create(store, unique=queued) == second


def test_many_at_once_with_one_unique_key_make_one_job(store: JobStore) -> None:
    made = set()
    threads = [
        threading.Thread(target=lambda: made.add(create(store, unique=Unique(key="k")))) for _ in range(16)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1
    assert len(store.listings.page("local")[0]) == 1


def test_a_repeated_request_is_answered_with_the_job_that_held_the_key(store: JobStore) -> None:
    from headway.contract.new_job import NewJob

    new = NewJob("local", "t", {}, QUEUE, 1, unique=Unique(key="k"))
    first = create(store, unique=Unique(key="k"))
    assert store.create(new, once=("mine", "hash"))[0] == first
    store.end(claim(store, first), State.SUCCEEDED)
    assert store.create(new, once=("mine", "hash"))[0] == first, "as its answer was lost"
    assert store.create(new, once=("other", "hash"))[0] != first


def _hash(key: str) -> str:
    import hashlib

    return hashlib.blake2b(key.encode(), digest_size=16).hexdigest()


# -- pauses --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "name"), [("queue", QUEUE), ("type", "t")])
def test_nothing_is_taken_from_what_is_paused_also_by_who_has_the_message(
    clocked: ClockedStore, kind: Any, name: str
) -> None:
    held = claim(clocked, create(clocked))
    waits = create(clocked)
    other = create(clocked, type="other", queue="elsewhere")
    clocked.pauses.add(Subject(kind, name, queue=QUEUE), "me")
    assert clocked.next(0, QUEUE) is None
    assert refused(clocked, waits)
    clocked.advance(10)
    assert clocked.alarms.answer(waits) is None, "a message would be in vain"
    assert not refused(clocked, other)
    clocked.end(held, State.SUCCEEDED)
    assert clocked.pauses.end(Subject(kind, name, queue=QUEUE))
    due = clocked.alarms.answer(waits)
    assert due is not None, "at once, not when its alarm would have gone off"
    assert order(clocked) == [waits]
    assert not clocked.pauses.end(Subject(kind, name))


def test_a_paused_type_holds_up_no_other_type_of_its_queue(store: JobStore) -> None:
    for _ in range(3):
        create(store, type="paused")
    runs = create(store, type="runs")
    store.pauses.add(Subject("type", "paused"))
    assert order(store) == [runs]


def test_a_draining_worker_is_refused_and_another_gets_the_message_at_once(clocked: ClockedStore) -> None:
    job_id = create(clocked)
    clocked.pauses.add(Subject("worker", "host:1:ab"))
    assert refused(clocked, job_id, worker="host:1:ab:77")
    due = clocked.alarms.answer(job_id)
    assert due is not None
    assert not refused(clocked, job_id, worker="host:2:cd:78")


def test_a_pause_is_in_every_partition_and_listed_once(valkey_server: Any) -> None:
    from contextlib import closing

    from headway.contract.keys import Keys
    from headway.contract.layout import Layout

    with closing(ClockedStore(valkey_server.url, Keys("test-paused:", Layout(3)))) as store:
        store.pauses.add(Subject("queue", QUEUE), "me")
        for owner in "abcdefgh":
            assert refused(store, create(store, owner=owner))
        (pause,) = store.pauses.all()
        assert (pause.kind, pause.name, pause.by) == ("queue", QUEUE, "me")
        store.pauses.end(Subject("queue", QUEUE))


# -- over HTTP -----------------------------------------------------------------------------------------

TYPES = {
    name: dumps({"name": name, "title": name, "queue": QUEUE, "params": {"type": "object"}})
    for name in ("one", "two", "gone")
}


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with Stack(tmp_path_factory.mktemp("next"), DRAIN_S="0", TYPE_TTL_S="3600") as stack:
        stack.start_web()
        about = {"host": "h", "pid": 1, "concurrency": 1, "queues": [QUEUE], "started_at": ""}
        stack.store.registry.register("h:1:ab", TYPES, 3600, about)
        yield stack


def post(web: Stack, path: str, body: Any = None) -> tuple[int, Any]:
    status, _, text = web.call("POST", path, {} if body is None else body)
    return status, json.loads(text) if text else None


def test_a_submission_says_what_it_wants_and_its_job_shows_it(web: Stack) -> None:
    wants = {"priority": 9, "run_at": "2026-01-01T01:00:00+01:00", "expires_s": 60, "unique": {"key": "k"}}
    made = web.submit("one", {}, **wants)
    assert (made["priority"], made["run_at"]) == (9, "2026-01-01T00:00:00.000Z")
    assert made["expires_at"] is not None
    assert made["unique"] == {"key": "k", "while": "live"}
    status, same = post(web, "/jobs", {"type": "two", "unique": {"key": "k"}})
    assert (status, same["id"]) == (200, made["id"])
    post(web, f"/jobs/{made['id']}/cancel")
    status, again = post(web, f"/jobs/{made['id']}/retry")
    assert (status, again["priority"], again["unique"]["key"]) == (202, 9, "k")
    assert post(web, "/jobs", {"type": "one", "unique": {"key": "k"}})[1]["id"] == again["id"]
    post(web, f"/jobs/{again['id']}/cancel")


@pytest.mark.parametrize(
    ("more", "at"),
    [
        ({"priority": 10}, "/priority"),
        ({"priority": True}, "/priority"),
        ({"run_at": "tomorrow"}, "/run_at"),
        ({"run_at": "2026-13-01T00:00:00Z"}, "/run_at"),
        ({"run_at": "2026-11-01T00:00:00"}, "/run_at"),
        ({"run_at": "9999-01-01T00:00:00Z"}, "/run_at"),
        ({"run_at": "0001-01-01T00:00:00+23:59"}, "/run_at"),
        ({"expires_s": 0}, "/expires_s"),
        ({"expires_s": 0.0004}, "/expires_s"),
        ({"unique": {}}, "/unique/key"),
        ({"unique": {"key": ""}}, "/unique/key"),
        ({"unique": {"key": "k", "while": "ever"}}, "/unique/while"),
        ({"unique": {"key": "k", "for": 1}}, "/unique/for"),
        ({"run": "here", "priority": 1}, ""),
    ],
)
def test_what_makes_no_sense_is_refused_with_a_pointer(web: Stack, more: dict[str, Any], at: str) -> None:
    status, problem = post(web, "/jobs", {"type": "one", "params": {}, **more})
    assert (status, problem["errors"][0]["pointer"]) == (422, at)


def test_the_waiting_reason_names_the_rule_that_holds_a_job(web: Stack) -> None:
    at = "2027-01-31T08:00:00.000Z"
    later, now = web.submit("one", {}, run_at=at)["id"], web.submit("two", {})["id"]

    def reason(job_id: str) -> str | None:
        found: str | None = web.get(f"/jobs/{job_id}")[1]["waiting_reason"]
        return found

    assert reason(later) == f"it is to run at {at}"
    assert reason(now) is None
    status, answer = post(web, "/types/two/pause")
    assert status == 200
    assert [(p["kind"], p["name"]) for p in answer["paused"]] == [("type", "two")]
    until(lambda: str(reason(now)).startswith("the type two is paused since 20"), 5)
    assert post(web, "/types/two/resume") == (200, {"paused": []})
    assert post(web, f"/queues/{QUEUE}/pause")[0] == 200
    until(lambda: str(reason(now)).startswith("the queue nobody is paused since 20"), 5)
    assert [p["name"] for p in web.get("/workers")[1]["paused"]] == [QUEUE]
    assert post(web, f"/queues/{QUEUE}/resume")[0] == 200
    assert post(web, "/workers/h:1:ab/drain")[0] == 200
    until(lambda: reason(now) == "all workers that serve two are draining", 5)
    assert [(p["kind"], p["name"]) for p in web.get("/workers")[1]["paused"]] == [("worker", "h:1:ab")]
    assert post(web, "/workers/h:1:ab/resume") == (200, {"paused": []})
    for path in ("/queues/x/pause", "/types/x/pause", "/workers/x/drain", f"/queues/{QUEUE}/resume"):
        assert post(web, path)[0] == 404
    for job_id in (later, now):
        assert post(web, f"/jobs/{job_id}/cancel")[1]["state"] == "canceled"


def test_an_http_worker_that_drains_gets_no_job(web: Stack) -> None:
    assert web.call("PUT", "/types/mine", {})[0] == 200
    body = {"types": ["mine"], "worker": "w1"}
    assert post(web, "/claims", body)[0] == 204
    job_id = web.submit("mine", {})["id"]
    assert post(web, "/workers/w1/drain")[0] == 200
    assert post(web, "/claims", body)[0] == 204
    assert post(web, "/claims", {**body, "worker": "w2"})[1]["job"]["id"] == job_id
    second = web.submit("mine", {})["id"]
    assert post(web, "/workers/w1/resume")[0] == 200
    assert post(web, "/claims", body)[1]["job"]["id"] == second
    post(web, "/types/mine/pause")
    web.submit("mine", {})
    assert post(web, "/claims", body)[0] == 204
    post(web, "/types/mine/resume")


def test_a_worker_that_was_killed_while_it_drained_is_not_listed(web: Stack) -> None:
    web.store.pauses.add(Subject("worker", "host:1:killed"))
    assert not web.get("/workers")[1]["paused"]
    assert web.call("POST", "/workers/host:1:killed/resume", b"")[0] == 200


def test_a_type_whose_workers_are_long_gone_takes_no_jobs(web: Stack) -> None:
    keys = web.store.keys
    ended = web.submit("gone", {})["id"]
    post(web, f"/jobs/{ended}/cancel")
    web.store.redis.zrem(keys.alive, "gone h:1:ab")
    web.store.redis.zadd(keys.seen, {"gone": web.store.database.now_ms(keys.seen) / 1000 - 3500})
    until(lambda: not _alive(web, "gone"))
    assert post(web, "/jobs", {"type": "gone"})[0] == 202, "not alive, but not for so long"
    web.store.redis.zadd(keys.seen, {"gone": 1_700_000_000})
    until(lambda: post(web, "/jobs", {"type": "gone"})[0] == 409, 5)
    assert "since 2023-11-14T22:13:20.000Z" in post(web, "/jobs", {"type": "gone"})[1]["detail"]
    assert post(web, f"/jobs/{ended}/retry")[0] == 409


def _alive(web: Stack, name: str) -> bool:
    return any(t["alive"] for t in web.get("/types")[1]["items"] if t["name"] == name)

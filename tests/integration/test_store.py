"""JobStore on a real Valkey: every promise of the store, one at a time."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import redis

from headway.contract import listings
from headway.contract.connections import connect
from headway.contract.database import Database
from headway.contract.encoding import RecordError, RecordTooLarge, dumps
from headway.contract.events import ZERO, Event, EventId
from headway.contract.keys import Keys
from headway.contract.layout import Layout
from headway.contract.new_job import NewJob
from headway.contract.pages import JobPage
from headway.contract.records import Job
from headway.contract.states import TRANSITIONS, ErrorCode, State
from headway.contract.store import Claim, IdempotencyConflict, JobLive, JobStore, Report, StaleFence
from service.streaming.catchup import FeedCatchUp, JobCatchUp, cursor_fault
from service.streaming.store_reader import StoreReader
from tests.support.clocked_store import ClockedStore


def new_job(**more: Any) -> NewJob:
    return NewJob(
        **{"owner": "ann", "type": "t", "params": {"a": 1}, "queue": "q", "max_attempts": 2, **more}
    )


def create(store: JobStore, **more: Any) -> str:
    return store.create(new_job(**more))[0]


def claim(store: JobStore, job_id: str, token: str = "token", lease_s: float = 12) -> Claim:
    ref = store.ref(job_id)
    assert ref is not None
    claim = store.claim(ref, token=token, lease_s=lease_s, worker="w")
    assert claim is not None
    return claim


def progress(fraction: float, **more: Any) -> Report:
    body = dumps({"fraction": fraction, **more})
    return Report("progress", body, "progress", body)


def log(message: str) -> Report:
    return Report("log", dumps({"level": "info", "message": message}))


def events(store: JobStore, job_id: str, cursor: EventId = ZERO) -> list[Event]:
    page = store.read(job_id, cursor, 1000)
    assert page is not None
    return page.events


def job(store: JobStore, job_id: str) -> Job:
    found = store.get(job_id)
    assert found is not None
    return found


def test_a_new_job_is_queued_and_has_its_first_event_and_an_alarm(store: JobStore) -> None:
    job_id, document, is_new = store.create(new_job(group="g", labels={"k": "v"}, timeout_s=2.5))
    made = Job.model_validate_json(document)
    assert is_new
    assert (made.state, made.attempt, made.params, made.group) == (State.QUEUED, 0, {"a": 1}, "g")
    assert (made.labels, made.timeout_s, made.artifacts) == ({"k": "v"}, 2.5, [])
    (first,) = events(store, job_id)
    assert (str(first.id), first.prev, first.type) == (made.last_event_id, ZERO, "state")
    assert store.redis.zscore(store.keys.alarms(0), job_id) is not None


def test_the_document_over_http_and_the_end_event_are_the_same_text(store: JobStore) -> None:
    job_id = create(store, params={"text": '/ü"\\\n\u2028', "n": 1.5, "none": None}, labels={"a": "☃"})
    store.end(claim(store, job_id), State.SUCCEEDED, result={"deep": [1, {"x": []}]})
    page = store.read(job_id, ZERO, 100)
    assert page is not None
    assert page.events[-1].data == page.document
    assert json.loads(page.document)["params"] == {"text": '/ü"\\\n\u2028', "n": 1.5, "none": None}


def test_ids_strictly_increase_over_all_jobs_and_each_event_names_the_one_before(store: JobStore) -> None:
    ids = [create(store) for _ in range(5)]
    claims = [claim(store, job_id) for job_id in ids]

    def report(held: Claim) -> None:
        for batch in range(1, 9):
            store.append(held, batch, [log(str(batch)), progress(batch / 10)])

    with ThreadPoolExecutor(5) as pool:
        list(pool.map(report, claims))
    all_ids = []
    for job_id in ids:
        before = ZERO
        for event in events(store, job_id):
            assert event.prev == before < event.id
            before = event.id
            all_ids.append(event.id)
    assert len(set(all_ids)) == len(all_ids) == 5 * (2 + 16)


def test_the_clock_never_goes_back_when_the_machines_clock_does(store: JobStore) -> None:
    job_id = create(store)
    ahead = int(time.time() * 1000) + 3_600_000
    store.redis.hset(store.keys.clock(0), mapping={"ms": ahead, "n": 7})
    held = claim(store, job_id)
    store.append(held, 1, [log("a"), log("b")])
    assert [e.id for e in events(store, job_id)][1:] == [EventId(ahead, n) for n in (8, 9, 10)]


def test_one_idempotency_key_makes_one_job_however_many_ask_at_once(store: JobStore) -> None:
    with ThreadPoolExecutor(20) as pool:
        made = list(pool.map(lambda _: store.create(new_job(), once=("key", "hash")), range(50)))
    assert len({job_id for job_id, _, _ in made}) == 1
    assert sum(is_new for _, _, is_new in made) == 1
    with pytest.raises(IdempotencyConflict):
        store.create(new_job(), once=("key", "other"))
    assert len(store.listings.page("ann")[0]) == 1


def test_only_one_of_many_workers_gets_a_job(store: JobStore) -> None:
    ref = store.ref(create(store))
    assert ref is not None
    with ThreadPoolExecutor(16) as pool:
        claims = list(pool.map(lambda n: store.claim(ref, token=str(n), lease_s=9, worker="w"), range(16)))
    assert sum(c is not None for c in claims) == 1
    assert job(store, ref.id).attempt == 1


def test_a_claim_whose_reply_was_lost_is_the_same_claim_when_repeated(store: JobStore) -> None:
    job_id = create(store)
    first, again = claim(store, job_id), claim(store, job_id)
    assert (first.fence, first.job.attempt) == (again.fence, again.job.attempt)
    assert len(events(store, job_id)) == 2


def test_a_batch_whose_reply_was_lost_is_written_once(store: JobStore) -> None:
    job_id = create(store)
    held = claim(store, job_id)
    for _ in range(3):
        store.append(held, 1, [log("once"), progress(0.5)])
    assert [e.type for e in events(store, job_id)] == ["state", "state", "log", "progress"]


def test_a_write_with_an_old_fence_is_refused_and_changes_nothing(store: JobStore) -> None:
    job_id = create(store)
    old = claim(store, job_id, "one")
    store.retry(old, delay_s=0, reason="x")
    new = claim(store, job_id, "two")
    before = events(store, job_id)
    for write in (
        lambda: store.append(old, 9, [progress(0.9)]),
        lambda: store.renew(old, lease_s=12),
        lambda: store.retry(old, delay_s=0, reason="x"),
        lambda: store.end(old, State.SUCCEEDED),
    ):
        with pytest.raises(StaleFence):
            write()
    assert events(store, job_id) == before
    store.append(new, 1, [progress(0.1)])
    assert job(store, job_id).progress.fraction == 0.1  # type: ignore[union-attr]


def test_an_attempt_that_was_given_up_cannot_end_the_job_that_waits_for_the_next(
    clocked: ClockedStore,
) -> None:
    job_id = create(clocked, max_attempts=2)
    held = claim(clocked, job_id, lease_s=0.02)
    clocked.advance(0.03)  # the lease itself
    clocked.alarms.answer(job_id)
    before = events(clocked, job_id)
    for state in (State.SUCCEEDED, State.FAILED, State.CANCELED):
        with pytest.raises(StaleFence):
            clocked.end(held, state)
    assert events(clocked, job_id) == before
    assert job(clocked, job_id).state is State.RETRYING


def test_nothing_comes_after_the_end(store: JobStore) -> None:
    job_id = create(store)
    held = claim(store, job_id)
    store.end(held, State.FAILED, error=(ErrorCode.ERROR, "boom"))
    document, sealed = store.documents([job_id])[0], events(store, job_id)
    store.end(held, State.FAILED, error=(ErrorCode.ERROR, "boom"))  # the reply was lost: harmless
    with pytest.raises(StaleFence):
        store.append(held, 1, [log("late")])
    with pytest.raises(StaleFence):
        store.end(held, State.SUCCEEDED)
    with pytest.raises(StaleFence):
        store.retry(held, delay_s=0, reason="late")
    assert store.cancel(job_id) == (document, True)
    assert store.claim(held.ref, token="late", lease_s=9, worker="w") is None
    assert events(store, job_id) == sealed
    assert [e.type for e in sealed].count("end") == 1
    assert store.redis.zscore(store.keys.alarms(0), job_id) is None


def test_a_waiting_job_is_canceled_at_once_and_a_running_one_is_told(store: JobStore) -> None:
    waiting, running = create(store), create(store)
    held = claim(store, running)
    assert store.cancel(waiting)[1] is False  # type: ignore[index]
    assert job(store, waiting).state is State.CANCELED
    assert job(store, waiting).error.code is ErrorCode.CANCELED  # type: ignore[union-attr]
    assert store.renew(held, lease_s=12) is False
    store.cancel(running)
    store.cancel(running)
    assert job(store, running).state is State.RUNNING
    assert store.renew(held, lease_s=12) is True
    assert store.append(held, 1, [progress(0.2)]) is True
    assert [json.loads(e.data).get("reason") for e in events(store, running) if e.type == "state"][2:] == [
        "cancellation was asked for"
    ]
    assert store.cancel("0-" + "x" * 22) is None


def test_a_lease_that_runs_out_gives_the_job_to_the_next_attempt_and_then_fails_it(
    clocked: ClockedStore,
) -> None:
    job_id = create(clocked, max_attempts=2)
    for attempt in (1, 2):
        held = claim(clocked, job_id, str(attempt), lease_s=0.02)
        assert held.job.attempt == attempt
        clocked.advance(0.03)  # the lease itself
        assert clocked.alarms.due(0) == [job_id]
        due = clocked.alarms.answer(job_id)
        if attempt == 1:
            assert due is not None
            assert (due.type, due.queue, job(clocked, job_id).state) == ("t", "q", State.RETRYING)
            assert clocked.redis.zscore(clocked.keys.alarms(0), job_id) is not None
        else:
            assert due is None
    ended = job(clocked, job_id)
    assert (ended.state, ended.error.code) == (State.FAILED, ErrorCode.WORKER_LOST)  # type: ignore[union-attr]
    assert clocked.alarms.due(0) == []
    with pytest.raises(StaleFence):
        clocked.append(held, 1, [progress(1)])


def test_a_lease_that_is_renewed_sets_off_no_alarm(clocked: ClockedStore) -> None:
    job_id = create(clocked)
    held = claim(clocked, job_id, lease_s=0.05)
    clocked.renew(held, lease_s=60)
    clocked.advance(0.06)  # the first lease
    assert clocked.alarms.due(0) == []
    assert job(clocked, job_id).state is State.RUNNING


def test_an_unclaimed_job_is_sent_again_by_exactly_one_of_many_processes(store: JobStore) -> None:
    job_id = create(store)
    store.redis.zadd(store.keys.alarms(0), {job_id: 1})
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: store.alarms.answer(job_id), range(8)))
    assert sum(answer is not None for answer in answers) == 1
    assert store.redis.zscore(store.keys.alarms(0), job_id) > time.time() * 1000  # type: ignore[operator]


def test_a_job_past_its_deadline_fails_with_timeout(clocked: ClockedStore) -> None:
    job_id = create(clocked, timeout_s=0.02)
    claim(clocked, job_id, lease_s=60)
    clocked.advance(0.03)  # the deadline itself
    assert clocked.alarms.due(0) == [job_id]
    assert clocked.alarms.answer(job_id) is None
    assert job(clocked, job_id).error.code is ErrorCode.TIMEOUT  # type: ignore[union-attr]


def test_a_retry_is_not_claimed_before_its_time(store: JobStore) -> None:
    job_id = create(store)
    held = claim(store, job_id, "one")
    store.retry(held, delay_s=60, reason="later")
    assert store.claim(held.ref, token="two", lease_s=9, worker="w") is None
    assert job(store, job_id).state is State.RETRYING
    assert store.alarms.due(0) == []


def test_a_new_attempt_starts_without_the_progress_of_the_old(store: JobStore) -> None:
    job_id = create(store)
    held = claim(store, job_id, "one")
    store.append(held, 1, [progress(0.9)])
    store.retry(held, delay_s=0, reason="again")
    held = claim(store, job_id, "two")
    assert held.job.attempt == 2
    assert held.job.progress is None


def test_of_the_progress_of_an_ended_job_only_the_newest_is_kept_and_its_memory_is_free(
    store: JobStore,
) -> None:
    job_id = create(store)
    held = claim(store, job_id)
    note = {"data": "x" * 300}
    for n in range(4):
        store.append(held, n + 1, [*[progress(n / 10 + i / 100, **note) for i in range(9)], log(str(n))])
    cursors = [e.id for e in events(store, job_id)]
    before = store.redis.memory_usage(store.keys.events(job_id))
    store.end(held, State.SUCCEEDED)
    kept = events(store, job_id)
    assert [e.type for e in kept] == [*["state"] * 2, *["log"] * 3, "progress", "log", "end"]
    assert kept[-3].id == cursors[-2], "the newest"
    after = store.redis.memory_usage(store.keys.events(job_id))
    assert after * 3 < before
    for cursor in cursors:
        page = store.read(job_id, cursor, 100)
        assert page is not None
        assert cursor_fault(page, cursor) is None
        assert page.events == [e for e in kept if e.id > cursor]


def test_a_job_keeps_its_progress_if_it_is_to(store: JobStore) -> None:
    keeping = JobStore(Database(store.redis, store.keys, events_per_job=50, keep_progress=True))
    held = claim(keeping, create(keeping))
    keeping.append(held, 1, [progress(n / 100) for n in range(60)])
    keeping.end(held, State.SUCCEEDED)
    assert [e.type for e in events(store, held.ref.id)] == [*["progress"] * 49, "end"]


def test_what_was_trimmed_is_not_taken_for_progress_that_was_not_kept(
    store: JobStore,
) -> None:
    job_id = create(store)
    held = claim(store, job_id)
    first = events(store, job_id)[0].id
    store.append(held, 1, [log("x")] * 3)
    store.append(held, 2, [progress(n / 100) for n in range(60)])
    store.end(held, State.SUCCEEDED)
    page = store.read(job_id, first, 100)
    assert page is not None
    assert [e.type for e in page.events] == ["progress", "end"]
    assert cursor_fault(page, first) == "cursor_trimmed"


def test_old_events_are_trimmed_and_the_gap_shows_in_prev(store: JobStore) -> None:
    job_id = create(store)
    held = claim(store, job_id)
    store.append(held, 1, [log(str(n)) for n in range(80)])
    kept = events(store, job_id)
    assert len(kept) == 50  # the fixture's cap
    assert kept[0].prev > ZERO


def test_the_feed_of_an_owner_and_of_a_group_hold_everything_but_progress(store: JobStore) -> None:
    one, two = create(store, group="g"), create(store)
    create(store, owner="bob")
    held = claim(store, one)
    store.append(held, 1, [log("a"), progress(0.1), progress(0.2)])
    store.end(held, State.SUCCEEDED)
    feed = store.feeds.read("ann", None, ZERO, 100)
    assert [e.type for e in feed.events] == ["state", "state", "state", "log", "end"]
    assert [e.prev for e in feed.events[1:]] == [e.id for e in feed.events[:-1]]
    group = store.feeds.read("ann", "g", ZERO, 100)
    assert [e.type for e in group.events] == ["state", "state", "log", "end"]
    assert {json.loads(e.data).get("job", one) for e in group.events} == {one}
    claim(store, two)
    other = create(store, group="h")
    claim(store, other)
    assert set(store.feeds.read("ann", None, ZERO, 1).begun) == {two, other}
    assert store.feeds.read("ann", "h", ZERO, 1).begun == [other], "of its own jobs only"
    assert store.feeds.read("ann", "g", ZERO, 1).begun == []


def test_the_live_jobs_of_a_feed_come_in_the_order_of_their_last_ids(store: JobStore) -> None:
    first, second, third = create(store, group="g"), create(store, group="h"), create(store, group="g")
    store.append(claim(store, first), 1, [progress(0.1)])
    store.end(claim(store, second), State.SUCCEEDED)
    snapshot = store.feeds.snapshot("ann", None)
    assert [page.id for page in snapshot.jobs] == [third, first]
    assert snapshot.last == snapshot.clock == store.read(second, None, 0).last  # type: ignore[union-attr]
    assert [page.id for page in store.feeds.snapshot("ann", "g").jobs] == [third, first]
    assert store.feeds.snapshot("ann", "h").jobs == []


def test_jobs_are_listed_newest_first_filtered_and_in_pages(store: JobStore) -> None:
    ids = [create(store, group="even" if n % 2 == 0 else "odd", type=f"t{n % 3}") for n in range(10)]
    store.end(claim(store, ids[0]), State.SUCCEEDED)

    def listed(**filters: Any) -> list[str]:
        found: list[str] = []
        cursor = None
        while True:
            pages, cursor = store.listings.page("ann", cursor=cursor, limit=3, **filters)
            assert len(pages) <= 3
            found += [page.id for page in pages]
            if cursor is None:
                return found

    newest_first = ids[::-1]
    assert listed() == newest_first
    assert listed(state=State.SUCCEEDED) == [ids[0]]
    assert listed(group="odd") == [i for n, i in reversed(list(enumerate(ids))) if n % 2]
    assert listed(type="t1") == [i for n, i in reversed(list(enumerate(ids))) if n % 3 == 1]
    assert listed(type="t0", group="even", state=State.QUEUED) == [ids[6]]
    assert store.listings.page("bob") == ([], None)


def test_an_ended_job_is_swept_away_after_its_retention_and_not_before(store: JobStore) -> None:
    job_id = create(store, group="g")
    store.end(claim(store, job_id), State.SUCCEEDED)
    assert store.alarms.expired([0]) == []
    assert store.alarms.sweep(job_id) is False
    store.redis.zadd(store.keys.expiring(0), {job_id: 1})
    assert store.alarms.expired([0]) == [job_id]
    assert store.alarms.sweep(job_id) is True
    assert store.get(job_id) is None
    assert store.listings.page("ann") == ([], None)
    assert store.listings.page("ann", group="g") == ([], None)
    left = {key for key in store.redis.scan_iter(f"{store.keys.prefix}*") if job_id.encode() in key}
    assert left == set()


def test_names_that_look_like_keys_clash_with_no_other(store: JobStore) -> None:
    for owner, group in (("a", "b:c"), ("a:b", "c"), ("a:queued", None), ("a}:events", "}:x")):
        job_id = create(store, owner=owner, group=group)
        assert [page.id for page in store.listings.page(owner)[0]] == [job_id] or owner == "a"
        assert [e.type for e in store.feeds.read(owner, group, ZERO, 10).events] == ["state"]
        topic = store.keys.feed(owner, group)
        assert store.feeds.last_ids([topic])[0] == store.feeds.read(owner, group, ZERO, 10).last > ZERO
    assert len(store.listings.page("a", state=State.QUEUED)[0]) == 1


def test_results_that_are_no_json_or_too_large_are_refused_and_the_job_goes_on(store: JobStore) -> None:
    held = claim(store, create(store))
    with pytest.raises(RecordError):
        store.end(held, State.SUCCEEDED, result=float("nan"))
    with pytest.raises(RecordTooLarge):
        store.end(held, State.SUCCEEDED, result="x" * 100_000)
    assert job(store, held.ref.id).state is State.RUNNING


@pytest.mark.parametrize(
    "foreign", ["", "x", "0-short", "../../etc/passwd", "7-" + "x" * 22, "0-" + "ü" * 22]
)
def test_ids_that_cannot_be_ids_are_no_jobs(store: JobStore, foreign: str) -> None:
    assert store.get(foreign) is None
    assert store.ref(foreign) is None


def test_a_write_publishes_the_finished_frame_with_its_predecessor(store: JobStore) -> None:
    job_id = create(store)
    heard = store.redis.pubsub(ignore_subscribe_messages=True)
    heard.ssubscribe(store.keys.events(job_id))
    got: list[bytes] = []
    listener = threading.Thread(target=lambda: got.append(next(iter(heard.listen()))["data"]))
    listener.start()
    claim(store, job_id)
    listener.join(5)
    heard.close()
    first, second = events(store, job_id)
    assert got == [
        b"%s state\nid: %s\nevent: state\ndata: %s\n\n"
        % (str(first.id).encode(), str(second.id).encode(), second.data)
    ]


def test_partitions_divide_owners_and_keep_each_ones_jobs_together(store: JobStore) -> None:
    keys = Keys(store.keys.prefix, Layout(16))
    divided = JobStore(Database(store.redis, keys))
    owners = [f"owner{n}" for n in range(40)]
    assert len({keys.partition(owner) for owner in owners}) > 8
    for owner in owners[:5]:
        job_id = create(divided, owner=owner)
        assert job_id.startswith(f"{keys.partition(owner)}-")
        divided.end(claim(divided, job_id), State.SUCCEEDED)
        assert [page.id for page in divided.listings.page(owner)[0]] == [job_id]
        tags = {
            key.split(b"{")[1].split(b"}")[0]
            for key in divided.keys.write_set(divided.ref(job_id))
            for key in [key.encode()]
        }  # type: ignore[arg-type]
        assert tags == {keys.layout.tag(keys.partition(owner)).encode()}


def listed(store: JobStore, **filters: Any) -> tuple[list[str], int]:
    """The ids of all pages, and how many pages there are."""
    found: list[str] = []
    cursor, pages = None, 0
    while True:
        page, cursor = store.listings.page("ann", cursor=cursor, **filters)
        found += [job.id for job in page]
        pages += 1
        if cursor is None:
            return found, pages


def test_a_page_of_jobs_has_a_budget_of_bytes_and_the_rest_follows(
    store: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [create(store, params={"x": "y" * 5000}) for _ in range(10)][::-1]
    monkeypatch.setattr(listings, "PAGE_BYTES", 12_000)
    for at_once in (100, 1):
        monkeypatch.setattr(listings, "JOBS_AT_ONCE", at_once)
        assert listed(store) == (ids, 5)
    monkeypatch.setattr(listings, "PAGE_BYTES", 10)
    assert listed(store) == (ids, 10), "a page has one job, however large it is"


def test_a_page_of_a_rare_type_reads_so_much_of_the_index_and_no_more(
    store: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n in range(60):
        create(store, type="rare" if n % 20 == 0 else "t")
    monkeypatch.setattr(listings, "PAGE_READS", 10)
    for at_once in (500, 3):
        monkeypatch.setattr(listings, "READS_AT_ONCE", at_once)
        found, pages = listed(store, type="rare")
        assert len(found) == 3
        assert {job(store, job_id).type for job_id in found} == {"rare"}
        assert pages == 6


def test_a_listing_forgets_a_job_whose_hash_has_gone(store: JobStore) -> None:
    kept, gone = create(store, group="g"), create(store, group="g")
    store.redis.delete(store.keys.job(gone))
    for filters in ({}, {"group": "g"}, {"state": State.QUEUED}):
        assert listed(store, **filters)[0] == [kept]
    for index in (
        store.keys.jobs("ann"),
        store.keys.group("ann", "g"),
        store.keys.jobs("ann", State.QUEUED),
    ):
        assert store.redis.zscore(index, gone) is None


def test_a_feed_keeps_little_of_an_end_and_gives_all_of_it(store: JobStore) -> None:
    job_id = create(store, params={"x": "p" * 20_000})
    store.end(claim(store, job_id), State.SUCCEEDED, result={"x": "r" * 20_000})
    end = store.feeds.read("ann", None, ZERO, 10).events[-1]
    assert (end.type, end.data) == ("end", store.documents([job_id])[0])
    (_, kept), *_ = store.redis.xrevrange(store.keys.feed("ann"), count=1)
    assert len(kept[b"d"]) < 2000
    assert store.remove(job_id)
    left = json.loads(store.feeds.read("ann", None, ZERO, 10).events[-1].data)
    assert (left["id"], left["state"], left["params"], left["result"]) == (job_id, "succeeded", {}, None)


def test_an_idempotency_key_lives_as_long_as_its_job(store: JobStore) -> None:
    job_id, *_ = store.create(new_job(), once=("key", "hash"))
    key = store.keys.once("ann", "key")
    assert store.redis.ttl(key) == -1
    store.cancel(job_id)
    assert store.create(new_job(), once=("key", "hash"))[0] == job_id
    store.redis.zadd(store.keys.expiring(0), {job_id: 1})
    assert store.alarms.sweep(job_id)
    assert not store.redis.exists(key)
    again, _, is_new = store.create(new_job(), once=("key", "hash"))
    assert is_new
    # However its job went, a key without one belongs to nobody.
    store.redis.delete(store.keys.job(again))
    assert store.create(new_job(), once=("key", "other"))[2]


def test_an_ended_job_stays_until_it_is_swept(store: JobStore) -> None:
    job_id = create(store)
    store.cancel(job_id)
    assert store.redis.ttl(store.keys.job(job_id)) == store.redis.ttl(store.keys.events(job_id)) == -1


def test_a_live_job_is_not_removed(store: JobStore) -> None:
    job_id = create(store)
    with pytest.raises(JobLive):
        store.remove(job_id)
    claim(store, job_id)
    with pytest.raises(JobLive):
        store.remove(job_id)
    store.cancel(job_id)
    store.redis.hset(store.keys.job(job_id), "_lease", 1)
    store.redis.zadd(store.keys.alarms(0), {job_id: 1})
    store.alarms.answer(job_id)
    assert store.remove(job_id)
    assert not store.remove(job_id)


def test_a_call_that_hangs_takes_its_time_limit_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        client = connect(f"redis://127.0.0.1:{silent.getsockname()[1]}", timeout_s=0.5)
        began = time.monotonic()
        with pytest.raises(redis.TimeoutError):
            client.get("x")
        assert time.monotonic() - began < 1.4
        client.close()


@pytest.mark.parametrize("state", State)
def test_the_scripts_move_a_job_only_as_the_table_of_states_says(store: JobStore, state: State) -> None:
    """The table is in Python, the checks are in Lua."""

    def in_state() -> Claim:
        job_id = create(store, max_attempts=9)
        held = claim(store, job_id)
        if state in (State.SUCCEEDED, State.FAILED, State.CANCELED):
            store.end(held, state)
        elif state is not State.RUNNING:
            # Its fence is still the newest.
            store.retry(held, delay_s=0, reason="x")
            store.redis.hset(store.keys.job(job_id), "state", dumps(state))
        return held

    def allowed(move: Callable[[Claim], object]) -> bool:
        held = in_state()
        try:
            moved = move(held)
        except StaleFence:
            return False
        return moved is not None

    may = TRANSITIONS[state]
    assert allowed(lambda c: store.claim(c.ref, token="new", lease_s=9, worker="w")) == (
        State.RUNNING in may
    )
    for target in (State.SUCCEEDED, State.FAILED):
        if target is not state:  # that would be the same end again
            ends = allowed(lambda c, target=target: store.end(c, target) or True)
            # By its holder, of whom only a running job has one.
            assert ends == (state is State.RUNNING)
            assert not ends or target in may
    if state is not State.RETRYING:
        assert allowed(lambda c: store.retry(c, delay_s=0, reason="x") or True) == (State.RETRYING in may)
    held = in_state()
    found = store.cancel(held.ref.id)
    assert found is not None
    assert (not found[1]) == (State.CANCELED in may)


def test_a_claim_that_the_store_has_lost_is_not_good_for_the_next_one(store: JobStore) -> None:
    """A failover takes away the last writes. Both claims are the first that the store knows of."""
    job_id = create(store)
    key = store.keys.job(job_id)
    before = store.redis.dump(key)
    lost = claim(store, job_id, "lost")
    store.redis.restore(key, 0, before, replace=True)
    held = claim(store, job_id, "found")
    for write in (
        lambda: store.renew(lost, lease_s=12),
        lambda: store.append(lost, 1, [log("of the lost one")]),
    ):
        with pytest.raises(StaleFence):
            write()
    store.append(held, 1, [log("of the other")])
    assert [json.loads(e.data).get("message") for e in events(store, job_id)][-1] == "of the other"


class Ann:
    """Sees what is hers."""

    sees_only = "ann"

    def sees(self, page: JobPage) -> bool:
        return page.owner == "ann"

    def valid(self) -> bool:
        return True


def test_a_reader_that_catches_up_is_given_large_events_in_small_pages_and_misses_none(
    store: JobStore,
) -> None:
    held = claim(store, create(store))
    store.append(held, 1, [log("x" * 60_000) for _ in range(40)])
    feed = [event.id for event in events(store, held.ref.id)]
    for n in range(20):
        other = claim(store, create(store, params={"text": "x" * 60_000}), f"token {n}")
        store.end(other, State.SUCCEEDED, result="x" * 60_000)
        feed += [event.id for event in events(store, other.ref.id)]
    reader = StoreReader(store)
    for view, expected in (
        (JobCatchUp(reader, Ann(), held.ref.id), [event.id for event in events(store, held.ref.id)]),
        (FeedCatchUp(reader, Ann(), "ann", None), feed),
    ):
        pages = [view.after(ZERO)]
        while not pages[-1].complete:
            pages.append(view.after(pages[-1].cursor))
        assert len(pages) > 2
        assert max(len(page.frames) for page in pages) < 1.3 * 2**20
        assert [event.id for page in pages for event in page.events] == expected

"""Groups: what they count, when they end, and what is done to all of their jobs."""

from __future__ import annotations

import json
from typing import Any

import pytest

from headway.contract.events import ZERO, Event, EventId
from headway.contract.executions import Execution, Executions, Outcome
from headway.contract.foreign import Foreign, followers
from headway.contract.new_job import NewJob
from headway.contract.states import ErrorCode, State
from headway.contract.store import Claim, JobStore
from tests.support.clocked_store import ClockedStore
from tests.support.due import due_groups
from tests.support.manual_jobs import progress, running_by_hand
from tests.support.sse import Reader
from tests.support.stack import Stack
from tests.support.wait import until

TELL_S = 0.5


def create(store: JobStore, group: str = "g", **more: Any) -> str:
    fields = {"owner": "ann", "type": "t", "params": {}, "queue": "q", "max_attempts": 2, "group": group}
    return store.create(NewJob(**{**fields, **more}))[0]


def claim(store: JobStore, job_id: str) -> Claim:
    ref = store.ref(job_id)
    assert ref is not None
    claim = store.claim(ref, token=job_id, lease_s=12, worker="w")
    assert claim is not None
    return claim


def group(store: JobStore, name: str = "g", owner: str = "ann") -> dict[str, Any]:
    found = store.groups.get(owner, name)
    assert found is not None
    document: dict[str, Any] = json.loads(found)
    return document


def counts(store: JobStore) -> dict[str, int]:
    return {state: count for state, count in group(store)["counts"].items() if count}


def told(store: JobStore) -> list[Event]:
    return [e for e in store.feeds.read("ann", "g", ZERO, 1000).events if e.type == "group-end"]


def tell(store: ClockedStore) -> None:
    store.advance(TELL_S)
    for tally in due_groups(store):
        store.groups.tell(tally)


# -- the store -----------------------------------------------------------------------------------------


def test_a_group_counts_its_jobs_by_state_in_the_same_write(store: JobStore) -> None:
    assert store.groups.get("ann", "g") is None
    ids = [create(store) for _ in range(3)]
    assert counts(store) == {"queued": 3}
    assert group(store)["state"] == "queued"
    first = claim(store, ids[0])
    assert counts(store) == {"queued": 2, "running": 1}
    assert group(store)["state"] == "running"
    assert group(store)["started_at"]
    store.retry(first, delay_s=60, reason="r")
    assert counts(store) == {"queued": 2, "retrying": 1}
    store.cancel(ids[0])
    store.end(claim(store, ids[1]), State.SUCCEEDED)
    assert counts(store) == {"queued": 1, "succeeded": 1, "canceled": 1}


def test_the_fraction_is_weighted_by_size(store: JobStore) -> None:
    small, large = create(store), create(store, size=3)
    store.append(claim(store, large), 1, [progress(0.5)])
    assert group(store)["fraction"] == pytest.approx(1.5 / 4)
    store.cancel(small)
    assert group(store)["fraction"] == pytest.approx(2.5 / 4)


def test_jobs_that_are_still_to_come_count_as_the_mean_of_the_others(store: JobStore) -> None:
    store.groups.put("ann", "g", expected=4, title=None)
    assert group(store)["fraction"] == 0
    store.end(claim(store, create(store, size=10)), State.SUCCEEDED)
    assert group(store)["fraction"] == pytest.approx(1 / 4)


def test_a_new_attempt_begins_at_nothing(store: JobStore) -> None:
    job_id = create(store)
    held = claim(store, job_id)
    store.append(held, 1, [progress(0.8)])
    store.retry(held, delay_s=0, reason="r")
    assert group(store)["fraction"] == pytest.approx(0.8)
    claim(store, job_id)
    assert group(store)["fraction"] == 0


def test_a_group_ends_once_when_all_that_are_expected_have_ended(store: JobStore) -> None:
    store.groups.put("ann", "g", expected=2, title="Two")
    store.end(claim(store, create(store)), State.SUCCEEDED)
    assert (group(store)["state"], told(store)) == ("running", [])
    store.end(claim(store, create(store)), State.FAILED, error=(ErrorCode.ERROR, "x"))
    (end,) = told(store)
    document = json.loads(end.data)
    assert document == group(store)
    assert (document["state"], document["fraction"], document["title"]) == ("ended", 1, "Two")
    assert document["ended_at"]
    store.groups.put("ann", "g", expected=2, title="Two")
    assert len(told(store)) == 1


def test_a_group_without_a_number_never_ends_until_it_is_given_one(store: JobStore) -> None:
    store.end(claim(store, create(store)), State.SUCCEEDED)
    assert (group(store)["state"], told(store)) == ("running", [])
    assert json.loads(store.groups.put("ann", "g", expected=1, title=None))["state"] == "ended"
    assert len(told(store)) == 1


def test_a_job_that_comes_after_the_end_opens_the_group_again(store: JobStore) -> None:
    store.groups.put("ann", "g", expected=1, title=None)
    store.end(claim(store, create(store)), State.SUCCEEDED)
    late = create(store)
    assert (group(store)["state"], group(store)["ended_at"]) == ("running", None)
    store.cancel(late)
    assert group(store)["state"] == "ended"
    assert len(told(store)) == 2


def test_a_retry_takes_the_place_of_its_job_in_the_group(store: JobStore) -> None:
    store.groups.put("ann", "g", expected=2, title=None)
    failed = create(store, size=2)
    store.end(claim(store, failed), State.FAILED, error=(ErrorCode.ERROR, "x"))
    assert list(store.groups.to_retry("ann", "g")) == [failed]
    again = create(store, size=2, retry_of=failed)
    assert counts(store) == {"queued": 1}
    assert group(store)["fraction"] == 0
    assert list(store.groups.to_retry("ann", "g")) == []
    store.end(claim(store, again), State.SUCCEEDED)
    assert (counts(store), group(store)["state"]) == ({"succeeded": 1}, "running")


def test_many_changes_are_one_event_and_it_is_the_last_word(clocked: ClockedStore) -> None:
    ids = [create(clocked) for _ in range(5)]
    assert due_groups(clocked) == []
    held = claim(clocked, ids[0])
    clocked.append(held, 1, [progress(0.5)])
    tell(clocked)
    (last,) = [clocked.feeds.read("ann", "g", ZERO, 1000).group]
    assert last is not None
    assert (last.type, json.loads(last.data)) == ("group", group(clocked))
    tell(clocked)
    assert clocked.feeds.snapshot("ann", "g").group == last, "nothing changed, nothing is told"
    clocked.end(held, State.SUCCEEDED)
    tell(clocked)
    assert clocked.feeds.last_ids([clocked.keys.feed("ann", "g")]) > [last.id]


def test_rate_and_time_left_are_those_of_the_last_seconds(clocked: ClockedStore) -> None:
    clocked.groups.put("ann", "g", expected=10, title=None)
    ids = [create(clocked) for _ in range(10)]
    tell(clocked)
    for job_id in ids[:4]:
        clocked.advance(2)
        clocked.end(claim(clocked, job_id), State.SUCCEEDED)
        tell(clocked)
    found = group(clocked)
    assert found["rate"] == pytest.approx(0.4, rel=0.1)
    assert found["eta_s"] == pytest.approx(15, rel=0.1)


def test_groups_of_jobs_that_are_older_than_tallies_are_counted_once(store: JobStore) -> None:
    ids = [create(store) for _ in range(3)]
    held = claim(store, ids[0])
    store.end(claim(store, ids[1]), State.SUCCEEDED)
    store.redis.delete(store.keys.tally("ann", "g"))
    store.redis.hdel(store.keys.job(ids[0]), "size", "_share")
    assert counts(store) == {"queued": 1, "running": 1, "succeeded": 1}
    store.redis.delete(store.keys.tally("ann", "g"))
    store.end(held, State.SUCCEEDED)
    assert counts(store) == {"queued": 1, "succeeded": 2}
    assert group(store)["fraction"] == pytest.approx(2 / 3, abs=1e-4)


def test_a_group_goes_with_its_last_job(clocked: ClockedStore) -> None:
    clocked.groups.put("ann", "g", expected=3, title=None)
    ids = [create(clocked), create(clocked)]
    for job_id in ids:
        clocked.cancel(job_id)
    assert clocked.remove(ids[0])
    assert counts(clocked) == {"canceled": 2}, "it was there"
    assert clocked.remove(ids[1])
    assert clocked.groups.get("ann", "g") is None
    assert due_groups(clocked) == []
    clocked.groups.put("ann", "empty", expected=3, title=None)
    assert 0 < clocked.redis.ttl(clocked.keys.tally("ann", "empty")) <= 60


def test_owners_groups_of_the_same_name_are_apart(store: JobStore) -> None:
    create(store)
    create(store, owner="bob")
    store.groups.cancel("bob", "g")
    assert counts(store) == {"queued": 1}
    assert group(store, owner="bob")["counts"]["canceled"] == 1


def announce(store: JobStore, group: str, parent: str | None = None, **more: Any) -> str:
    """Make the job of a task that another system has sent."""
    job_id = store.keys.new_job_id("ann")
    foreign = Foreign(sent=True, **more)
    new = NewJob("ann", "t", {}, "celery:", 2, group=group, parent=parent, foreign=foreign)
    Executions(store, 12).announce([(job_id, new)])
    return job_id


def fail(store: JobStore, job_id: str) -> None:
    ref = store.ref(job_id)
    assert ref is not None
    outcome = Outcome(State.FAILED, message="no")
    Executions(store, 12).report([Execution(ref, job_id, "w", outcome=outcome)])


@pytest.mark.parametrize("total_first", [True, False])
def test_what_will_not_come_is_taken_off_a_total_that_is_heard_of_before_or_after(
    store: JobStore, total_first: bool
) -> None:
    step, other = announce(store, "chain", followers=followers({"g/ä": 2}, {})), Executions(store, 12)
    if total_first:
        other.announce([], [("ann", "g/ä", 3)])
    fail(store, step)
    if not total_first:
        assert group(store, "g/ä")["group"] == "g/ä"
        other.announce([], [("ann", "g/ä", 3)])
    assert group(store, "g/ä")["expected"] == 1
    fail(store, announce(store, "g/ä"))
    assert group(store, "g/ä")["state"] == "ended"


def test_a_foreign_child_is_in_its_own_group_and_in_its_parents(store: JobStore) -> None:
    parent = announce(store, "g")
    child = announce(store, "h", parent)
    assert [group(store, name)["counts"]["queued"] for name in ("h", parent)] == [1, 1]
    fail(store, child)
    assert [group(store, name)["counts"]["failed"] for name in ("h", parent)] == [1, 1]
    assert store.remove(child)
    assert store.groups.get("ann", "h") is store.groups.get("ann", parent) is None


def test_canceling_foreign_jobs_tells_the_workers_not_to_start_them(store: JobStore) -> None:
    announce(store, "g", task_id="one")
    assert store.groups.cancel("ann", "g") == 1
    ref = store.ref(announce(store, "g", task_id="two"))
    assert ref is not None
    assert store.cancel_many([ref]) == [True]
    revoked = Executions(store, 12).revoked("ann", 0)
    assert {task_id for task_id, _ in revoked} == {"one", "two"}


# -- over HTTP -----------------------------------------------------------------------------------------


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    return f"{request.node.name[:80]}/a b"


def path(name: str, what: str = "") -> str:
    return f"/groups/{name.replace(' ', '%20').replace('/', '%2F')}{what}"


def test_a_feed_tells_of_its_group_and_of_its_end_and_resumes(stack: Stack, name: str) -> None:
    status, _, body = stack.call("PUT", path(name), {"expected": 2, "title": "Both"})
    assert (status, json.loads(body)["expected"]) == (200, 2)
    one, two = (running_by_hand(stack, group=name) for _ in range(2))
    feed = path(name).replace("/groups/", "/events?group=")
    with Reader(stack.url, feed) as reader:
        seen = iter(reader)
        assert next(e for e in seen if e.event == "group").data["counts"]["running"] == 2
        stack.store.append(one, 1, [progress(0.5)])
        assert next(e for e in seen if e.event == "group").data["fraction"] == 0.25
        stack.store.end(one, State.SUCCEEDED)
        changed = next(e for e in seen if e.event == "group")
    stack.store.end(two, State.SUCCEEDED)
    with Reader(stack.url, feed, changed.id) as reader:
        resumed = reader.take(2)
    assert [e.event for e in resumed] == ["end", "group-end"]
    assert resumed[1].data["counts"]["succeeded"] == 2
    assert stack.get(path(name)) == (200, resumed[1].data)
    with Reader(stack.url, feed) as reader:
        assert [(e.event, e.id) for e in reader.take(1)] == [("group-end", resumed[1].id)]


def test_a_reader_that_catches_up_is_told_how_the_group_is(stack: Stack, name: str) -> None:
    claim = running_by_hand(stack, group=name)
    feed = path(name).replace("/groups/", "/events?group=")
    with Reader(stack.url, feed) as reader:
        first = next(e for e in reader if e.event == "group")
    stack.store.append(claim, 1, [progress(0.5)])
    until(lambda: stack.store.feeds.snapshot("local", name).group.id > EventId.parse(first.id))  # type: ignore[union-attr]
    with Reader(stack.url, feed, first.id) as reader:
        seen = reader.take(2)
    assert sorted(e.event for e in seen) == ["group", "progress"]
    assert next(e for e in seen if e.event == "group").data["fraction"] == 0.5
    stack.store.end(claim, State.SUCCEEDED)


def test_all_of_a_group_is_canceled_and_retried(stack: Stack, name: str) -> None:
    assert stack.call("POST", path(name, "/cancel"))[0] == 404
    assert stack.call("PUT", path(name), {"expected": 3})[0] == 200
    done = running_by_hand(stack, group=name)
    stack.store.end(done, State.SUCCEEDED)
    jobs = [stack.submit("simulate", {"duration_s": 60}, group=name, size=2)["id"] for _ in range(2)]
    assert stack.call("POST", path(name, "/cancel"))[0] == 202
    for job_id in jobs:
        assert stack.wait_ended(job_id)["state"] == "canceled"
    assert stack.get(path(name))[1]["state"] == "ended"
    assert stack.call("POST", path(name, "/cancel"))[0] == 200

    status, _, body = stack.call("POST", path(name, "/retry"))
    again = json.loads(body)
    assert (status, again["counts"]["canceled"], again["state"]) == (202, 0, "running")
    listed = stack.get(f"/jobs?group={path(name)[8:]}")[1]["items"]
    assert {job["retry_of"] for job in listed if job["retry_of"]} == set(jobs)
    assert all(job["size"] == 2 for job in listed if job["retry_of"])
    assert stack.call("POST", path(name, "/retry"))[0] == 200
    assert len(stack.get(f"/jobs?group={path(name)[8:]}")[1]["items"]) == 5
    stack.call("POST", path(name, "/cancel"))
    until(lambda: stack.get(path(name))[1]["state"] == "ended")


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"expected": 0}, "/expected"),
        ({"expected": "x"}, "/expected"),
        ({"title": "a\nb"}, "/title"),
        ({"what": 1}, "/what"),
    ],
)
def test_a_group_that_does_not_fit_is_refused_and_says_where(
    stack: Stack, body: dict[str, Any], pointer: str
) -> None:
    status, _, answer = stack.call("PUT", "/groups/refused", body)
    assert (status, [e["pointer"] for e in json.loads(answer)["errors"]]) == (422, [pointer])
    assert stack.call("GET", "/groups/refused")[0] == 404
    assert stack.call("PUT", f"/groups/{'x' * 129}", {})[0] == 422
    assert stack.call("PUT", "/groups/a%09b", {})[0] == 422
    assert stack.call("PUT", "/groups/a/cancel", {})[0] == 405

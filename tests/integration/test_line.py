"""Line: a worker takes the next job in one step, and ends the one before with the same."""

from __future__ import annotations

from pathlib import Path

import redis

from headway.contract.database import Call
from headway.contract.events import ZERO, EventType
from headway.contract.line import Line, Place
from headway.contract.states import State
from headway.contract.store import Claim, JobStore, Report
from headway.sdk.job_type import JobType, Params
from headway.sdk.runtime import Runtime
from tests.support.clocked_store import ClockedStore
from tests.support.fake_worker import create

QUEUE = "nobody"
PLACE = Place.of(0, QUEUE, ["t"])


def line(store: JobStore, worker: str = "host:1:a:7") -> Line:
    return Line(store, worker=worker, lease_s=12)


def taken(found: Claim | None) -> Claim:
    assert found is not None
    return found


def test_what_is_taken_has_the_keys_that_python_gives_it(store: JobStore) -> None:
    for group in (None, "a b/{c}: ü%"):
        job_id = create(store, owner="an owner: ü", group=group)
        before = set(store.redis.keys(f"{store.keys.prefix}*"))
        claim = taken(line(store).take(PLACE, job_id))
        assert claim.ref == store.ref(job_id)
        assert claim.job.state is State.RUNNING
        store.end(claim, State.SUCCEEDED)
        made = {key.decode() for key in set(store.redis.keys(f"{store.keys.prefix}*")) - before}
        known = {
            store.keys.outcomes(0),
            store.keys.taken(0, "host:1:a:7"),
            *store.keys.write_set(claim.ref),
        }
        assert made <= known


def test_a_repeated_take_is_the_same_claim_and_another_process_gets_another_job(store: JobStore) -> None:
    first, second = create(store), create(store)
    claim = taken(line(store).take(PLACE, "token"))
    again = taken(line(store).take(PLACE, "token"))
    assert (claim.ref.id, claim.fence) == (again.ref.id, again.fence)
    assert claim.ref.id == first
    assert taken(line(store, "host:1:a:8").take(PLACE, "other")).ref.id == second
    assert line(store).take(PLACE, "more") is None


def test_no_job_of_another_type_or_before_its_time_is_taken(clocked: ClockedStore) -> None:
    create(clocked, run_at_ms=clocked.now_ms + 60_000)
    assert line(clocked).take(PLACE, "early") is None
    create(clocked)
    assert line(clocked).take(Place.of(0, QUEUE, ["none"]), "none of these") is None
    assert line(clocked).take(PLACE, "there is one") is not None


def test_an_end_and_the_next_claim_are_one_round_trip_and_may_be_repeated(store: JobStore) -> None:
    first, second = create(store), create(store)
    here = line(store)
    claim = taken(here.take(PLACE, "one"))
    last = (1, [Report(EventType.LOG, '{"level":"info","message":"last"}')])
    end = store.ending(claim, State.SUCCEEDED, last=last)
    for _ in range(2):
        following, held = here.end_and_take(end, PLACE, "two")
        assert held
        assert taken(following).ref.id == second
    page = store.read(first, ZERO, 100)
    assert page is not None
    assert [event.type for event in page.events] == ["state", "state", "log", "end"]


def test_a_job_is_taken_also_if_the_one_before_was_lost(store: JobStore) -> None:
    _, second = create(store), create(store)
    here = line(store)
    claim = taken(here.take(PLACE, "one"))
    store.retry(claim, delay_s=60, reason="lost")
    following, held = here.end_and_take(store.ending(claim, State.SUCCEEDED), PLACE, "two")
    assert not held
    assert taken(following).ref.id == second


class Losing(Line):
    """Loses each first reply."""

    token = ""

    def end_and_take(self, end: Call, place: Place, token: str) -> tuple[Claim | None, bool]:
        reply = super().end_and_take(end, place, token)
        if token != self.token:
            self.token = token
            raise redis.ConnectionError("lost")
        return reply


def test_a_process_takes_what_waits_behind_the_job_of_its_message_unless_it_may_not(
    store: JobStore, tmp_path: Path
) -> None:
    done: list[str] = []
    types = {"t": JobType("t", "T", QUEUE, Params, None, lambda job: done.append(job.id))}
    may = False
    runtime = Runtime(store, worker="host:1:a:7", data_dir=tmp_path, lease_s=12, takes_more=lambda: may)
    runtime._line = Losing(store, worker="host:1:a:7", lease_s=12)
    ids = [create(store) for _ in range(3)]
    runtime.run_next(types, "t", ids[2])
    assert done == ids[:1]
    assert store.waiting((job_id, QUEUE) for job_id in ids) == set(ids), "two messages for the two others"
    may = True
    while store.next(0, QUEUE):
        runtime.run_next(types, "t", ids[2])
    assert done == ids
    assert not store.waiting((job_id, QUEUE) for job_id in ids)
    assert all(store.get(job_id).attempt == 1 for job_id in ids)  # type: ignore[union-attr]

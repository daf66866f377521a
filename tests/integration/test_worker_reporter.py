"""The reporter on a store that loses replies, goes away, or gives the job to another."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import count

import pytest
import redis

from headway.contract.database import Database
from headway.contract.new_job import NewJob
from headway.contract.records import Artifact
from headway.contract.states import State
from headway.contract.store import Claim, JobStore, Report
from headway.sdk.meter import Meter, Stage, StageWeight
from headway.sdk.reporter import MAX_BACKLOG, MAX_BATCH, Reporter
from headway.sdk.stopping import JobCanceled, LeaseLost, Stop
from tests.support.wait import until
from tests.support.worker_stack import WorkerStack


class Troubled(JobStore):
    """A store whose replies to `append` get lost, or which cannot be reached, as the test says."""

    lose_replies = 0
    reachable = True

    def append(self, claim: Claim, batch: int, reports: Iterable[Report]) -> bool:
        if not self.reachable:
            raise redis.ConnectionError("not reachable, says the test")
        answer = super().append(claim, batch, reports)
        if self.lose_replies:
            self.lose_replies -= 1
            raise redis.ConnectionError("the reply is lost, says the test")
        return answer


@pytest.fixture
def store(worker_stack: WorkerStack) -> Troubled:
    return Troubled(Database(worker_stack.store.redis, worker_stack.store.keys))


@pytest.fixture
def claim(store: Troubled) -> Claim:
    """A job that the test itself works on."""
    job_id, *_ = store.create(NewJob(owner="owner", type="none", params={}, queue="none", max_attempts=2))
    ref = store.ref(job_id)
    assert ref is not None
    claim = store.claim(ref, token="test", lease_s=60, worker="test")
    assert claim is not None
    return claim


@contextmanager
def reporting(
    store: JobStore, claim: Claim, clock: Callable[[], float] = time.monotonic
) -> Iterator[tuple[Reporter, Meter, Stop]]:
    meter, stop = Meter(), Stop()
    reporter = Reporter(store, claim, meter, stop, clock=clock)
    reporter.start()
    yield reporter, meter, stop
    reporter.close()


def messages(stack: WorkerStack, claim: Claim) -> list[str]:
    return [event.data["message"] for event in stack.events(claim.ref.id, "log")]


def artifact(name: str) -> Artifact:
    return Artifact(name=name, media_type="text/plain", size=1, url=f"/{name}", attempt=1)


def test_a_batch_whose_reply_was_lost_is_not_written_twice(
    worker_stack: WorkerStack, store: Troubled, claim: Claim
) -> None:
    with reporting(store, claim) as (reporter, meter, stop):
        meter.stage = Stage("work", 2, None, StageWeight(), 0, stop)
        for n in range(2):
            store.lose_replies = 2
            meter.stage.update(n)
            reporter.log("info", f"line {n}")
            until(lambda: not store.lose_replies)
    assert messages(worker_stack, claim) == ["line 0", "line 1"]


def test_nothing_but_progress_is_lost_while_redis_is_away(
    worker_stack: WorkerStack, store: Troubled, claim: Claim
) -> None:
    with reporting(store, claim) as (reporter, meter, stop):
        meter.stage = stage = Stage("work", 1000, None, StageWeight(), 0, stop)
        store.reachable = False
        for n in range(1000):
            stage.update(n)
            if n % 10 == 0:
                reporter.log("info", str(n))
        store.reachable = True
    assert messages(worker_stack, claim) == [str(n) for n in range(0, 1000, 10)]
    assert worker_stack.events(claim.ref.id, "progress")[-1].data["current"] == 999


def test_the_backlog_is_bounded_and_says_what_it_left_out(
    worker_stack: WorkerStack, store: Troubled, claim: Claim
) -> None:
    ticks = count()
    # A clock on which lines are 10 ms apart, however fast they come.
    with reporting(store, claim, clock=lambda: next(ticks) / 100) as (reporter, _, _):
        store.reachable = False
        for n in range(MAX_BACKLOG * 2):
            reporter.log("info", str(n))
        store.reachable = True
    lines = messages(worker_stack, claim)
    left_out = [int(line.split()[0]) for line in lines if "left out" in line]
    assert left_out
    kept = [line for line in lines if "left out" not in line]
    # The store keeps the last 2,000 events of a job.
    assert len(lines) == 2000
    assert MAX_BACKLOG - 1 <= MAX_BACKLOG * 2 - sum(left_out) <= MAX_BACKLOG + 2 * MAX_BATCH
    assert [int(line) for line in kept] == sorted(int(line) for line in kept)


def test_publish_waits_until_the_job_shows_the_artifact(
    worker_stack: WorkerStack, store: Troubled, claim: Claim
) -> None:
    with reporting(store, claim) as (reporter, _, _):
        reporter.log("info", "before")
        reporter.publish(artifact("a.txt"))
        assert [a.name for a in worker_stack.job(claim.ref.id).artifacts] == ["a.txt"]
        store.reachable = False
        waiting = threading.Thread(target=reporter.publish, args=(artifact("b.txt"),))
        waiting.start()
        assert len(worker_stack.job(claim.ref.id).artifacts) == 1
        store.reachable = True
        waiting.join(5)
        assert not waiting.is_alive()
    assert [a.name for a in worker_stack.job(claim.ref.id).artifacts] == ["a.txt", "b.txt"]
    types = [event.event for event in worker_stack.events(claim.ref.id)]
    assert types == ["state", "state", "log", "artifact", "artifact"]


def test_a_checkpoint_goes_with_the_next_write_and_the_newest_counts(
    worker_stack: WorkerStack, store: Troubled, claim: Claim
) -> None:
    before = worker_stack.events(claim.ref.id)
    with reporting(store, claim) as (reporter, _, _):
        store.reachable = False
        for n in range(100):
            reporter.save_checkpoint(str(n))
        store.reachable = True
    store.retry(claim, delay_s=0, reason="again")
    again = store.claim(claim.ref, token="again", lease_s=60, worker="test")
    assert again is not None
    assert again.checkpoint == "99"
    assert len(worker_stack.events(claim.ref.id)) == len(before) + 2, "no event tells of it"
    with reporting(store, claim) as (reporter, _, _):
        reporter.save_checkpoint("from an attempt that lost its lease")
    assert store.redis.hget(store.keys.job(claim.ref.id), "_checkpoint") == b"99"


class Counted(JobStore):
    appends = 0

    def append(self, claim: Claim, batch: int, reports: Iterable[Report]) -> bool:
        self.appends += 1
        return super().append(claim, batch, reports)


def test_a_loop_that_updates_without_end_costs_four_writes_a_second_and_loses_no_last_value(
    worker_stack: WorkerStack, claim: Claim
) -> None:
    store = Counted(Database(worker_stack.store.redis, worker_stack.store.keys))
    began = time.monotonic()
    with reporting(store, claim) as (_, meter, stop):
        meter.stage = stage = Stage("work", 100_000, None, StageWeight(), 0, stop)
        for n in range(1, 100_001):
            stage.update(n)
            if n % 10_000 == 1:  # and none after the last
                time.sleep(0.2)
    took = time.monotonic() - began
    assert store.appends <= 4 * took + 2
    assert worker_stack.events(claim.ref.id, "progress")[-1].data["current"] == 100_000


def test_a_flush_brings_back_the_cancel_flag(
    worker_stack: WorkerStack, store: Troubled, claim: Claim
) -> None:
    with reporting(store, claim) as (reporter, _, stop):
        store.cancel(claim.ref.id)
        reporter.log("info", "a line")
        until(lambda: stop.reason is JobCanceled)


def test_a_lost_lease_stops_the_reporter_and_whoever_waits_for_it(
    worker_stack: WorkerStack, store: Troubled, claim: Claim
) -> None:
    store.end(claim, State.FAILED)
    before = worker_stack.events(claim.ref.id)
    with reporting(store, claim) as (reporter, _, stop):
        with stop.shield(), pytest.raises(LeaseLost):
            reporter.publish(artifact("late.txt"))
        assert not reporter.close()
    assert worker_stack.events(claim.ref.id) == before

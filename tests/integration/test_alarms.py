"""Alarms: every live job has exactly one, whatever happens to it; and what an outage does to leases."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import redis

from headway.contract.settings import Settings, load
from headway.contract.states import LIVE, ErrorCode, State
from headway.contract.store import Claim, JobStore, StaleFence
from service.process import valkey
from service.scheduling.alarms import AlarmLoop
from service.scheduling.dispatch import Dispatch
from service.scheduling.keeper import Keeper
from tests.support.clocked_store import ClockedStore
from tests.support.fake_worker import claim, create, log, progress
from tests.support.wait import until


def check(store: JobStore, job_id: str) -> None:
    """A live job has one alarm, an ended one has none; exactly those that wait are among the waiting;
    and it is in the index of its state and in no other."""
    job = store.get(job_id)
    assert job is not None
    alarm = store.redis.zscore(store.keys.alarms(0), job_id)
    assert (alarm is not None) == (job.state in LIVE), job.state
    waits = store.redis.zscore(store.keys.waiting(0, "nobody"), job_id)
    assert (waits is not None) == (job.state in (State.QUEUED, State.RETRYING)), job.state
    for state in State:
        listed = store.redis.zscore(store.keys.jobs(job.owner, state), job_id)
        assert (listed is not None) == (job.state is state), state
    expires = store.redis.zscore(store.keys.expiring(0), job_id)
    assert (expires is not None) == job.ended


def make_due(store: JobStore, job_id: str) -> None:
    """The alarm is due, and so is what it is about: the lease, if there is one, is over."""
    store.redis.zadd(store.keys.alarms(0), {job_id: 1})
    if store.redis.hexists(store.keys.job(job_id), "_lease"):
        store.redis.hset(store.keys.job(job_id), "_lease", 1)


def ring(store: JobStore, job_id: str) -> None:
    """The alarm is due, and is answered."""
    make_due(store, job_id)
    store.alarms.answer(job_id)


def past_deadline(store: JobStore, job_id: str) -> None:
    store.redis.hset(store.keys.job(job_id), "_deadline", 1)
    ring(store, job_id)


def stale(write: Callable[[], object]) -> None:
    with pytest.raises(StaleFence):
        write()


def test_after_every_script_a_live_job_has_exactly_one_alarm(store: JobStore) -> None:
    held: list[Claim] = []

    def take(job_id: str) -> None:
        store.redis.hdel(store.keys.job(job_id), "_not_before")
        held[:] = [claim(store, job_id)]

    steps: dict[str, Callable[[str], object]] = {
        "claim": take,
        "append": lambda _: store.append(held[0], 1, [progress(1), log(1)]),
        "renew": lambda _: store.renew(held[0], lease_s=60),
        "retry": lambda _: store.retry(held[0], delay_s=60, reason="x"),
        "hand back": lambda _: store.retry(held[0], delay_s=0, reason="x", counts=False),
        "succeed": lambda _: store.end(held[0], State.SUCCEEDED),
        "fail": lambda _: store.end(held[0], State.FAILED, error=(ErrorCode.ERROR, "x")),
        "cancel": store.cancel,
        "alarm": lambda job_id: ring(store, job_id),
        "timeout": lambda job_id: past_deadline(store, job_id),
        "stale": lambda _: stale(lambda: store.renew(held[0], lease_s=60)),
    }
    for way in (
        ["alarm", "alarm", "claim", "append", "renew", "succeed", "stale", "cancel", "alarm"],
        ["claim", "alarm", "alarm", "claim", "fail"],
        ["claim", "retry", "alarm", "claim", "hand back", "claim", "alarm", "alarm", "claim", "alarm"],
        ["cancel", "alarm"],
        ["claim", "cancel", "alarm", "stale"],
        ["claim", "cancel", "retry", "stale"],
        ["claim", "retry", "cancel"],
        ["claim", "timeout", "stale"],
        ["claim", "retry", "timeout"],
    ):
        job_id = create(store, max_attempts=3)
        check(store, job_id)
        for step in way:
            steps[step](job_id)
            check(store, job_id)


def test_a_handed_back_attempt_does_not_count_though_its_number_does(store: JobStore) -> None:
    job_id = create(store, max_attempts=1)
    for number in (1, 2, 3):
        held = claim(store, job_id)
        assert (held.job.attempt, held.attempts_left) == (number, 0)
        store.retry(held, delay_s=0, reason="worker_shutdown", counts=False)
    claim(store, job_id)
    ring(store, job_id)
    job = store.get(job_id)
    assert job is not None
    assert (job.state, job.attempt) == (State.FAILED, 4)
    assert job.error is not None
    assert job.error.code is ErrorCode.WORKER_LOST


def test_the_log_says_why_a_message_is_sent_again(
    store: JobStore, valkey_server: valkey.Valkey, caplog: pytest.LogCaptureFixture
) -> None:
    broker = Dispatch(load({"REDIS_URL": valkey_server.url, "KEY_PREFIX": store.keys.prefix}))
    loop = AlarmLoop(store, Keeper(store), broker, lease_s=9)

    def said(job_id: str) -> list[str]:
        make_due(store, job_id)
        caplog.clear()
        loop.look()
        assert broker.flush()
        return [r.getMessage() for r in caplog.records if r.name == "service.scheduling.dispatch"]

    caplog.set_level(logging.INFO)
    new, failed, lost = (create(store, max_attempts=3) for _ in range(3))
    assert said(new) == [f"job {new}: no worker has taken it yet, sending its message again"]
    store.retry(claim(store, failed), delay_s=0, reason="x")
    assert said(failed) == [f"job {failed}: its next attempt is due, sending its message"]
    assert said(failed) == [f"job {failed}: no worker has taken it yet, sending its message again"]
    claim(store, lost)
    assert said(lost) == [f"job {lost}: its worker was lost, sending its message for another attempt"]
    assert said(lost) == [f"job {lost}: no worker has taken it yet, sending its message again"]


def test_an_attempt_that_fails_while_cancellation_is_asked_for_has_no_other_after_it(
    store: JobStore,
) -> None:
    job_id = create(store, max_attempts=3)
    held = claim(store, job_id)
    store.cancel(job_id)
    store.retry(held, delay_s=60, reason="it failed before it heard of it")
    job = store.get(job_id)
    assert job is not None
    assert job.state is State.CANCELED


def test_a_job_past_its_deadline_is_not_begun_again(clocked: ClockedStore) -> None:
    job_id = create(clocked, max_attempts=3, timeout_s=0.02)
    clocked.retry(claim(clocked, job_id), delay_s=0, reason="x")
    clocked.advance(0.03)  # the deadline itself
    ref = clocked.ref(job_id)
    assert ref is not None
    assert clocked.claim(ref, token="late", lease_s=9, worker="w") is None


def over(store: JobStore, job_id: str) -> Claim:
    """A claim whose lease is over."""
    held = claim(store, job_id)
    store.redis.zadd(store.keys.alarms(0), {job_id: 1})
    store.redis.hset(store.keys.job(job_id), "_lease", 1)
    return held


def silent_for(store: JobStore, seconds: float) -> None:
    """The last time an alarm loop reached the store is so long ago."""
    at = store.redis.hget(store.keys.watch(0), "at")
    assert isinstance(at, bytes)
    store.redis.hset(store.keys.watch(0), "at", int(at) - round(seconds * 1000))


def test_after_an_outage_a_healthy_worker_has_the_time_to_renew(clocked: ClockedStore) -> None:
    job_id = create(clocked, max_attempts=2)
    clocked.alarms.look([0], silence_s=3, grace_s=0.2)
    held = over(clocked, job_id)
    silent_for(clocked, 30)
    # A web process that has just been started, or one that was cut off too: it does not matter which.
    clocked.alarms.look([0], silence_s=3, grace_s=0.2)
    assert clocked.alarms.due(0) == [job_id]
    assert clocked.alarms.answer(job_id) is None
    assert clocked.alarms.due(0) == []
    assert clocked.renew(held, lease_s=60) is False
    clocked.advance(0.25)  # the grace itself
    assert clocked.alarms.due(0) == []


def test_an_answer_that_was_on_its_way_when_the_store_went_gives_the_grace_too(store: JobStore) -> None:
    job_id = create(store, max_attempts=2)
    store.alarms.look([0], silence_s=3, grace_s=60)
    held = over(store, job_id)
    silent_for(store, 30)
    assert store.alarms.answer(job_id) is None
    assert store.renew(held, lease_s=60) is False


def test_a_grace_ends_and_a_dead_workers_job_goes_on(clocked: ClockedStore) -> None:
    job_id = create(clocked, max_attempts=2)
    clocked.alarms.look([0], silence_s=3, grace_s=0.05)
    over(clocked, job_id)
    silent_for(clocked, 30)
    clocked.alarms.look([0], silence_s=3, grace_s=0.05)
    assert clocked.alarms.answer(job_id) is None
    clocked.advance(0.06)  # the grace itself
    assert clocked.alarms.due(0) == [job_id]
    assert clocked.alarms.answer(job_id) is not None
    job = clocked.get(job_id)
    assert job is not None
    assert job.state is State.RETRYING


def test_without_an_outage_there_is_no_grace(store: JobStore) -> None:
    job_id = create(store, max_attempts=2)
    for _ in range(3):
        store.alarms.look([0], silence_s=3, grace_s=60)
    over(store, job_id)
    assert store.alarms.answer(job_id) is not None


def test_no_accepted_job_is_lost_when_the_store_is_killed(tmp_path: Path) -> None:
    """With `appendfsync always`, as the README says."""
    server = valkey.start(tmp_path, fsync="always")
    store = JobStore.of(Settings(redis_url=server.url, partitions=1), timeout_s=2)
    accepted: list[str] = []

    def submit() -> None:
        with contextlib.suppress(redis.RedisError):
            while True:
                accepted.append(create(store))

    threads = [threading.Thread(target=submit) for _ in range(4)]
    for thread in threads:
        thread.start()
    until(lambda: len(accepted) >= 200)
    server.process.kill()
    server.process.wait()
    for thread in threads:
        thread.join()
    server = valkey.start(tmp_path, fsync="always")
    try:
        for job_id in accepted:
            check(store, job_id)
    finally:
        store.redis.close()
        server.stop()

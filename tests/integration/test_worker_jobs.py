"""Jobs from claim to end, on a real worker."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from datetime import datetime

from headway.contract.new_job import NewJob
from headway.contract.records import Job
from headway.contract.states import ErrorCode, State
from tests.support.stack import STOP_S
from tests.support.wait import until
from tests.support.worker_stack import WorkerStack

NewStack = Callable[..., WorkerStack]


def test_a_job_goes_from_claim_to_end_and_its_fraction_never_falls(worker_stack: WorkerStack) -> None:
    job = worker_stack.do("simulate", duration_s=1.2, rate=20, stages=3)
    assert job.state is State.SUCCEEDED
    assert job.attempt == 1
    assert job.result["updates"] == 24
    assert job.progress is not None
    assert job.progress.fraction == 1
    types = [event.event for event in worker_stack.events(job.id)]
    assert types[:2] == ["state", "state"]
    assert types[-1] == "end"
    assert set(types[2:-1]) == {"progress"}
    fractions = [e.data["fraction"] for e in worker_stack.events(job.id, "progress")]
    assert fractions == sorted(fractions)
    assert max(fractions) < 1, "1 is kept for the end"


def test_a_job_whose_message_another_was_taken_for_has_its_turn_with_that_ones(
    new_worker_stack: NewStack,
) -> None:
    stack = new_worker_stack(WORKER_CONCURRENCY="1")
    described, _ = stack.store.registry.types()["simulate"]
    first = stack.enqueue("simulate", duration_s=2)
    stack.running(first)
    job_ids = [
        stack.store.create(
            NewJob("owner", "simulate", {"duration_s": 0.3}, described["queue"], 1, priority=priority)
        )[0]
        for priority in (0, 0, 9, 9)
    ]
    for job_id in job_ids:
        stack.send("simulate", job_id, described["queue"])
    # No alarm is answered here, so no message is sent again.
    until(lambda: all(stack.job(job_id).ended for job_id in job_ids), 20, "all to have their turn")
    first_low, _, _, last_high = (stack.job(job_id).started_at or "" for job_id in job_ids)
    assert last_high < first_low


def test_the_last_progress_before_the_end_is_the_last_that_was_noted(worker_stack: WorkerStack) -> None:
    job = worker_stack.do("simulate", duration_s=0.4, rate=100)
    last = worker_stack.events(job.id, "progress")[-1]
    assert last.data["current"] == last.data["total"] == 40
    failed = worker_stack.do("simulate", duration_s=0.4, rate=100, fail_at=0.75, max_attempts=1)
    assert failed.state is State.FAILED
    assert failed.progress is not None
    assert failed.progress.current == 30


def test_progress_is_sent_at_most_four_times_a_second(worker_stack: WorkerStack) -> None:
    job = worker_stack.do("simulate", duration_s=2, rate=2000)
    assert 3 <= len(worker_stack.events(job.id, "progress")) <= 4 * seconds(job) + 2


def test_log_lines_are_neither_coalesced_nor_reordered(worker_stack: WorkerStack) -> None:
    job = worker_stack.do("simulate", duration_s=1, rate=50, log_every=1)
    lines = [e.data["message"] for e in worker_stack.events(job.id, "log")]
    assert lines == [f"update {n} of 50" for n in range(1, 51)]


def test_lines_beyond_200_a_second_are_counted_not_sent(worker_stack: WorkerStack) -> None:
    job = worker_stack.do("simulate", duration_s=0.5, rate=4000, log_every=1)
    lines = [e.data["message"] for e in worker_stack.events(job.id, "log")]
    counts = [int(line.split()[0]) for line in lines if "left out" in line]
    assert len(lines) - len(counts) + sum(counts) == 2000
    assert len(lines) <= 201 * (seconds(job) + 1) + 2


def test_a_failed_attempt_is_tried_again(worker_stack: WorkerStack) -> None:
    job = worker_stack.do("simulate", duration_s=0.2, fail_at=0.5, fail_attempts=1)
    assert job.state is State.SUCCEEDED
    assert job.attempt == 2
    states = worker_stack.events(job.id, "state")
    assert [s.data["state"] for s in states] == ["queued", "running", "retrying", "running"]
    assert states[2].data["reason"] == "SimulatedFailure: asked to fail at 0.5"


def test_a_job_fails_for_good_with_one_line_and_no_traceback(worker_stack: WorkerStack) -> None:
    job = worker_stack.do("simulate", duration_s=0.2, fail_at=0.5, max_attempts=1)
    assert job.state is State.FAILED
    assert job.error is not None
    assert job.error.code is ErrorCode.ERROR
    assert job.error.message == "SimulatedFailure: asked to fail at 0.5"
    assert "Traceback" in worker_stack.log("worker")


def test_bad_params_fail_at_once_as_invalid_input(worker_stack: WorkerStack) -> None:
    for params, what in (({"colour": "red"}, "colour"), ({"stages": 0}, "stages")):
        job = worker_stack.do("simulate", **params)
        assert job.state is State.FAILED
        assert job.attempt == 1
        assert job.error is not None
        assert job.error.code is ErrorCode.INVALID_INPUT
        assert job.error.message.startswith(what)


def test_a_message_that_comes_twice_runs_the_job_once(worker_stack: WorkerStack) -> None:
    job_id = worker_stack.enqueue("simulate", duration_s=0.5)
    worker_stack.send("simulate", job_id, "default")
    assert worker_stack.ended(job_id).attempt == 1
    worker_stack.send("simulate", job_id, "default")
    worker_stack.do("simulate", duration_s=0)
    assert worker_stack.job(job_id).attempt == 1


def test_a_job_that_listens_is_canceled_within_a_second_or_so(worker_stack: WorkerStack) -> None:
    # The task itself looks up once, after 100 s: that is more than `ended` waits.
    job_id = worker_stack.enqueue("simulate", duration_s=100, rate=0.01)
    worker_stack.running(job_id)
    worker_stack.store.cancel(job_id)
    job = worker_stack.ended(job_id)
    assert job.state is State.CANCELED
    assert job.error is not None
    assert job.error.code is ErrorCode.CANCELED


def test_a_job_that_does_not_listen_is_interrupted(worker_stack: WorkerStack) -> None:
    job_id = worker_stack.enqueue("simulate", duration_s=60, rate=0.1, ignore_cancel=True)
    worker_stack.running(job_id)
    process = worker_stack.pool_process(job_id)
    began = time.monotonic()
    worker_stack.store.cancel(job_id)
    assert worker_stack.ended(job_id).state is State.CANCELED
    assert time.monotonic() - began > 1.5, "it is asked first"
    assert alive(process), "it is not given up"
    assert worker_stack.do("simulate", duration_s=0).state is State.SUCCEEDED


def seconds(job: Job) -> float:
    """How long it ran, which on a busy machine is longer than it was asked to."""
    assert job.started_at is not None
    assert job.finished_at is not None
    ran = datetime.fromisoformat(job.finished_at) - datetime.fromisoformat(job.started_at)
    return ran.total_seconds()


def encoding(stack: WorkerStack) -> str:
    """A long encode under way: its encoder has made pictures."""
    job_id = stack.enqueue("video.encode", input="sample:600", preset="mp4")
    stack.until(job_id, lambda job: job.progress is not None and bool(job.progress.data))
    assert stack.encoders()
    assert stack.work_files()
    return job_id


def test_a_canceled_encode_leaves_no_process_and_no_file(worker_stack: WorkerStack) -> None:
    job_id = encoding(worker_stack)
    worker_stack.store.cancel(job_id)
    job = worker_stack.ended(job_id)
    assert job.state is State.CANCELED
    assert worker_stack.encoders() == []
    assert worker_stack.work_files() == []
    assert job.artifacts == []
    assert not (worker_stack.directory / "artifacts" / job_id).exists()


def test_a_killed_pool_process_leaves_no_encoder_and_another_attempt_follows(
    new_worker_stack: NewStack,
) -> None:
    stack = new_worker_stack()
    job_id = encoding(stack)
    os.kill(stack.pool_process(job_id), signal.SIGKILL)
    until(lambda: not stack.encoders(), what="the encoder to go")
    job = stack.until(job_id, lambda job: job.state is State.RUNNING and job.attempt == 2)
    assert [s.data.get("reason") for s in stack.events(job_id, "state")][2] == "worker_lost"
    # What the first attempt left is removed by the next.
    until(lambda: not any("/1/" in str(path) for path in stack.work_files()))
    stack.store.cancel(job.id)
    assert stack.ended(job_id).state is State.CANCELED


def test_a_killed_worker_leaves_no_process(new_worker_stack: NewStack) -> None:
    stack = new_worker_stack()
    job_id = encoding(stack)
    child = stack.pool_process(job_id)
    stack.worker.kill()
    stack.worker.wait()
    until(lambda: not stack.encoders() and not alive(child), what="all processes to go")


def test_sigterm_to_the_group_hands_jobs_back_and_ends_everything_in_time(
    new_worker_stack: NewStack,
) -> None:
    stack = new_worker_stack()
    encode = encoding(stack)
    deaf = stack.enqueue("simulate", duration_s=60, ignore_cancel=True)
    stack.running(deaf)
    os.killpg(stack.worker.pid, signal.SIGTERM)
    assert stack.worker.wait(STOP_S) == 0
    assert stack.encoders() == []
    assert stack.work_files() == []
    for job_id in (encode, deaf):
        assert stack.job(job_id).state is State.RETRYING
        assert stack.events(job_id, "state")[-1].data["reason"] == "worker_shutdown"
    assert not any(is_alive for _, is_alive in stack.store.registry.types().values())
    stack.start_worker()
    assert stack.until(encode, lambda job: job.state is State.RUNNING).attempt == 2


def test_sigterm_to_the_worker_alone_does_the_same(new_worker_stack: NewStack) -> None:
    stack = new_worker_stack()
    job_id = encoding(stack)
    assert stack.stop("worker") == 0
    assert stack.encoders() == []
    assert stack.job(job_id).state is State.RETRYING


def test_a_worker_that_stops_burns_no_attempt(new_worker_stack: NewStack) -> None:
    stack = new_worker_stack()
    job_id = stack.enqueue("simulate", duration_s=2, rate=20, max_attempts=1)
    stack.until(job_id, lambda job: job.progress is not None)
    assert stack.stop("worker") == 0
    assert stack.job(job_id).state is State.RETRYING
    stack.start_worker()
    job = stack.ended(job_id)
    assert (job.state, job.attempt, job.max_attempts) == (State.SUCCEEDED, 2, 1)
    at = [(e.data["attempt"], e.data.get("fraction")) for e in stack.events(job_id) if e.event != "end"]
    assert [a for a, _ in at] == sorted(a for a, _ in at)
    assert {a for a, _ in at} == {0, 1, 2}


def test_a_running_job_past_its_deadline_fails_and_its_encoder_ends(worker_stack: WorkerStack) -> None:
    job_id = encoding(worker_stack)
    worker_stack.store.redis.hset(worker_stack.store.keys.job(job_id), "_deadline", 1)
    worker_stack.store.redis.zadd(worker_stack.store.keys.alarms(0), {job_id: 1})
    job = worker_stack.ended(job_id)
    assert job.error is not None
    assert (job.state, job.error.code) == (State.FAILED, ErrorCode.TIMEOUT)
    until(lambda: not worker_stack.encoders() and not worker_stack.work_files(), what="all to go")


def test_a_job_canceled_while_no_worker_lives_ends_and_leaves_nothing(new_worker_stack: NewStack) -> None:
    stack = new_worker_stack()
    job_id = encoding(stack)
    os.killpg(stack.worker.pid, signal.SIGKILL)
    stack.worker.wait()
    stack.store.cancel(job_id)
    assert stack.ended(job_id).state is State.CANCELED
    assert stack.encoders() == []
    stack.start_worker()
    # It has registered, and sweeps then; the next time would be in half a minute.
    until(lambda: stack.work_files() == [], 20, "what the killed attempt left to be swept away")
    assert stack.do("simulate", duration_s=0).state is State.SUCCEEDED


def test_an_attempt_that_lost_its_lease_stops_and_writes_nothing(new_worker_stack: NewStack) -> None:
    stack = new_worker_stack()
    job_id = encoding(stack)
    held_by = stack.pool_process(job_id)
    # Away for longer than its lease: another takes the job.
    os.kill(held_by, signal.SIGSTOP)
    until(lambda: stack.store.alarms.due(0), what="the lease to run out")
    assert stack.store.alarms.answer(job_id) is not None
    ref = stack.store.ref(job_id)
    assert ref is not None
    claim = stack.store.claim(ref, token="another", lease_s=60, worker="another")
    assert claim is not None
    before = stack.events(job_id)
    os.kill(held_by, signal.SIGCONT)
    until(lambda: not stack.encoders() and not stack.work_files(), what="the old attempt to end")
    # The process is free again, so it has written all it ever will.
    for _ in range(2):
        assert stack.do("simulate", duration_s=0.1).state is State.SUCCEEDED
    assert stack.events(job_id) == before
    stack.store.end(claim, State.SUCCEEDED)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True

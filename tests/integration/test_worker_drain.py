"""Which jobs a worker serves, and how it stops taking any: QUEUES, TYPES, drains, SIGTERM, recycling."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable

import pytest

from headway.contract.pauses import Subject
from headway.contract.states import State
from tests.support.checkout import ROOT
from tests.support.wait import until
from tests.support.worker_stack import WorkerStack

pytestmark = pytest.mark.long

NewStack = Callable[..., WorkerStack]

SHARED = """
from worker.__main__ import main
from headway.sdk.job_type import Params, job

for name in ("shared.a", "shared.b"):
    job(name, params=Params, title=name)(lambda job: None)
raise SystemExit(main())
"""


def test_two_workers_of_one_queue_do_the_types_that_each_was_given(new_worker_stack: NewStack) -> None:
    stack = new_worker_stack(TYPES="simulate", WORKER_CONCURRENCY="1")
    stack.stop("worker")
    workers = {}
    for name in ("shared.a", "shared.b"):
        stack.environ["TYPES"] = name
        stack.start_worker("-c", SHARED)
        workers[name] = stack.processes.pop("worker")
    jobs = [(name, stack.enqueue(name)) for _ in range(6) for name in workers]
    try:
        # Alarms are not answered: a message that reaches the wrong worker is passed on, not lost.
        until(lambda: all(stack.job(job_id).ended for _, job_id in jobs), 20, lambda: stack.log("worker"))
        for name, job_id in jobs:
            assert stack.job(job_id).state is State.SUCCEEDED
            assert stack.pool_process(job_id) in _children(workers[name].pid), name
        assert {w.types for w in stack.store.registry.workers()} == {("shared.a",), ("shared.b",)}
        assert sum(w.dropped_messages for w in stack.store.registry.workers()) == 0
    finally:
        for process in workers.values():
            process.kill()
            process.wait()


def _children(pid: int) -> list[int]:
    found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True)
    return [int(line) for line in found.stdout.split()]


def test_a_worker_takes_nothing_from_other_queues_than_its_own(new_worker_stack: NewStack) -> None:
    stack = new_worker_stack(QUEUES="video, file")
    (worker,) = stack.store.registry.workers()
    assert (worker.queues, worker.types) == (("file", "video"), ("file.checksum", "video.encode"))
    assert set(stack.store.registry.types()) == {"file.checksum", "video.encode"}


def test_a_worker_without_scratch_space_leaves_the_jobs_to_others(new_worker_stack: NewStack) -> None:
    stack = new_worker_stack(MIN_FREE_BYTES=str(1 << 60))
    jobs = [stack.enqueue("file.checksum", input="sample:1") for _ in range(4)]
    until(lambda: stack.store.registry.workers()[0].disk_full, what="it to be said")
    assert "no new jobs are taken" in stack.log("worker")
    full = stack.processes.pop("worker")
    stack.environ["MIN_FREE_BYTES"] = "0"
    stack.start_worker()
    try:
        until(lambda: all(stack.job(job_id).ended for job_id in jobs), 60, lambda: stack.log("worker"))
        children = _children(stack.worker.pid)
        for job_id in jobs:
            assert stack.job(job_id).state is State.SUCCEEDED
            assert stack.pool_process(job_id) in children
    finally:
        full.kill()
        full.wait()


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({"QUEUES": "vidoe"}, "QUEUES='vidoe': this worker has no 'vidoe'; it has default, file, video"),
        ({"TYPES": "simulate,nope"}, "this worker has no 'nope'; it has file.checksum, simulate"),
        ({"QUEUES": "file", "TYPES": "simulate"}, "leave nothing to serve"),
    ],
)
def test_a_name_that_a_worker_does_not_have_is_one_line_and_exit_2(
    worker_stack: WorkerStack, environ: dict[str, str], words: str
) -> None:
    env = {**worker_stack.environ, **environ}
    ran = subprocess.run(
        [sys.executable, "-m", "worker"], env=env, cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert ran.returncode == 2
    assert words in ran.stderr
    assert ran.stderr.count("headway: ") == 1


def test_a_drained_worker_ends_its_encode_takes_nothing_and_takes_jobs_again(
    new_worker_stack: NewStack,
) -> None:
    stack = new_worker_stack()
    encode = stack.enqueue("video.encode", input="sample:12", preset="mp4", width=640, height=360)
    stack.until(encode, lambda job: job.progress is not None)
    (worker,) = stack.store.registry.workers()
    stack.store.pauses.add(Subject("worker", worker.name))
    waits = [stack.enqueue("simulate", duration_s=0) for _ in range(4)]
    assert stack.ended(encode).attempt == 1
    assert stack.job(encode).state is State.SUCCEEDED
    until(lambda: "draining" in stack.log("worker"), 10)
    assert [stack.job(job_id).state for job_id in waits] == [State.QUEUED] * 4
    assert stack.worker.poll() is None
    stack.store.pauses.end(Subject("worker", worker.name))
    for job_id in waits:
        assert stack.ended(job_id).attempt == 1


def test_sigterm_lets_jobs_end_whoever_else_of_the_group_it_reaches(new_worker_stack: NewStack) -> None:
    stack = new_worker_stack(DRAIN_JOBS_S="60")
    job_id = stack.enqueue("simulate", duration_s=3, rate=20)
    stack.until(job_id, lambda job: job.progress is not None)
    os.killpg(stack.worker.pid, signal.SIGTERM)
    os.killpg(stack.worker.pid, signal.SIGTERM)
    until(lambda: stack.store.pauses.all(), 5, "the worker's claims to be refused")
    later = stack.enqueue("simulate", duration_s=0)
    assert stack.worker.wait(30) == 0
    job = stack.job(job_id)
    assert (job.state, job.attempt) == (State.SUCCEEDED, 1)
    assert stack.job(later).state is State.QUEUED
    assert stack.store.pauses.all() == [], "a worker that is gone drains no more"


def test_what_has_not_ended_in_time_is_handed_back(new_worker_stack: NewStack) -> None:
    stack = new_worker_stack(DRAIN_JOBS_S="1")
    encode = stack.enqueue("video.encode", input="sample:600", preset="mp4")
    stack.until(encode, lambda job: job.progress is not None and bool(job.progress.data))
    assert stack.stop("worker") == 0
    assert stack.encoders() == []
    assert stack.work_files() == []
    assert stack.job(encode).state is State.RETRYING
    assert stack.events(encode, "state")[-1].data["reason"] == "worker_shutdown"


def test_ctrl_c_does_not_wait_for_jobs(new_worker_stack: NewStack) -> None:
    stack = new_worker_stack(DRAIN_JOBS_S="600")
    job_id = stack.enqueue("simulate", duration_s=600)
    stack.running(job_id)
    stack.worker.send_signal(signal.SIGTERM)
    until(lambda: "running jobs have 600 s" in stack.log("worker"), 5)
    assert stack.stop("worker", signal.SIGINT) == 0
    assert stack.job(job_id).state is State.RETRYING


def test_a_worker_killed_while_it_drains_loses_its_job_to_the_next(new_worker_stack: NewStack) -> None:
    stack = new_worker_stack(DRAIN_JOBS_S="600")
    job_id = stack.enqueue("simulate", duration_s=2, rate=20)
    stack.until(job_id, lambda job: job.progress is not None)
    stack.worker.send_signal(signal.SIGTERM)
    until(lambda: stack.store.pauses.all(), 5)
    os.killpg(stack.worker.pid, signal.SIGKILL)
    stack.worker.wait()
    stack.start_worker()
    job = stack.ended(job_id)
    assert (job.state, job.attempt) == (State.SUCCEEDED, 2)


def test_a_rolling_restart_under_encodes_loses_no_work(new_worker_stack: NewStack) -> None:
    stack = new_worker_stack(DRAIN_JOBS_S="120", WORKER_CONCURRENCY="1", LEASE_S="12")
    encodes = [
        stack.enqueue("video.encode", input="sample:6", preset="mp4", width=640, height=360)
        for _ in range(4)
    ]
    stack.until(encodes[0], lambda job: job.progress is not None)
    for _ in range(2):
        old = stack.processes.pop("worker")
        stack.start_worker()
        old.send_signal(signal.SIGTERM)
        until(lambda old=old: stack.answer_alarms() or old.poll() is not None, 60)
        assert old.returncode == 0
    for job_id in encodes:
        job = stack.ended(job_id)
        assert (job.state, job.attempt) == (State.SUCCEEDED, 1), stack.log("worker")[-3000:]
    assert stack.encoders() == []


def test_a_process_is_replaced_after_so_many_jobs(new_worker_stack: NewStack) -> None:
    stack = new_worker_stack(WORKER_CONCURRENCY="1", RECYCLE_JOBS="2")
    processes = []
    for _ in range(5):
        job_id = stack.enqueue("simulate", duration_s=0)
        assert stack.ended(job_id).attempt == 1
        processes.append(stack.pool_process(job_id))
    assert [processes.index(pid) for pid in processes] == [0, 0, 2, 2, 4]


def test_a_process_is_replaced_also_if_celery_misses_that_it_has_ended(
    new_worker_stack: NewStack,
) -> None:
    misses = """
import runpy
from celery.concurrency.asynpool import AsynPool
AsynPool.timers = {}
AsynPool._event_process_exit = lambda pool, hub, process: pool._untrack_child_process(process, hub)
runpy.run_module("worker", run_name="__main__")
"""
    stack = new_worker_stack(WORKER_CONCURRENCY="1", RECYCLE_JOBS="1")
    stack.stop("worker")
    stack.start_worker("-c", misses)
    for _ in range(3):
        assert stack.ended(stack.enqueue("simulate", duration_s=0)).attempt == 1


def test_a_process_is_replaced_when_it_holds_too_much_memory(new_worker_stack: NewStack) -> None:
    stack = new_worker_stack(WORKER_CONCURRENCY="1", RECYCLE_MIB="1")
    first, second = (stack.enqueue("simulate", duration_s=0) for _ in range(2))
    for job_id in (first, second):
        assert stack.ended(job_id).attempt == 1
    assert stack.pool_process(first) != stack.pool_process(second)

"""The process `python -m worker`: how it starts, what it announces, and Redis going away under it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable

import jsonschema
import pytest

from headway.contract.states import State
from tests.support.checkout import ROOT
from tests.support.faulty_proxy import FaultyProxy
from tests.support.wait import until
from tests.support.worker_stack import WorkerStack

pytestmark = pytest.mark.long

NewStack = Callable[..., WorkerStack]


def start(**env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "worker"], env=env, cwd=ROOT, capture_output=True, text=True, timeout=60
    )


def test_without_redis_it_says_so_in_one_line_and_exits_with_2() -> None:
    ended = start(REDIS_URL="redis://user:secret@127.0.0.1:1/0")
    assert ended.returncode == 2
    assert ended.stderr.count("\n") == 1
    assert ended.stderr.startswith("headway: Redis does not answer at 127.0.0.1:1")
    assert "secret" not in ended.stderr


def test_a_bad_setting_is_one_line_and_exit_2() -> None:
    for env in ({}, {"REDIS_URL": "redis://127.0.0.1:1", "LEASE_S": "soon"}):
        ended = start(**env)
        assert ended.returncode == 2
        assert ended.stderr.count("\n") == 1
        assert ended.stderr.startswith("headway: ")


def test_it_announces_its_job_types_and_takes_them_back(new_worker_stack: NewStack) -> None:
    stack = new_worker_stack()
    types = stack.store.registry.types()
    assert {name: described["queue"] for name, (described, _) in types.items()} == {
        "file.checksum": "file",
        "simulate": "default",
        "video.encode": "video",
    }
    for described, is_alive in types.values():
        assert is_alive
        schema = described["params"]
        jsonschema.Draft202012Validator.check_schema(schema)
        assert schema["additionalProperties"] is False
    assert stack.stop("worker") == 0
    assert not any(is_alive for _, is_alive in stack.store.registry.types().values())


def test_a_worker_tells_who_it_is_and_its_jobs_name_it(new_worker_stack: NewStack) -> None:
    stack = new_worker_stack()
    (worker,) = stack.store.registry.workers()
    assert (worker.pid, worker.concurrency) == (stack.worker.pid, 2)
    assert worker.queues == ("default", "file", "video")
    assert worker.types == ("file.checksum", "simulate", "video.encode")
    job_id = stack.enqueue("simulate", duration_s=60)
    stack.running(job_id)
    (running,) = stack.store.listings.running("owner")
    assert (running.id, running.type, running.attempt) == (job_id, "simulate", 1)
    assert running.worker == f"{worker.name}:{stack.pool_process(job_id)}"
    assert stack.stop("worker") == 0
    assert stack.store.registry.workers() == []
    assert stack.store.listings.running("owner") == []


def test_every_line_of_a_json_log_is_json(new_worker_stack: NewStack) -> None:
    stack = new_worker_stack(LOG_FORMAT="json")
    stack.do("simulate", duration_s=0, fail_at=0, max_attempts=1)
    job_id = stack.enqueue("simulate", duration_s=60)
    stack.running(job_id)
    # Celery and its pool have something to say about this.
    os.kill(stack.pool_process(job_id), signal.SIGKILL)
    until(lambda: "exited prematurely" in stack.log("worker"))
    lines = [json.loads(line) for line in stack.log("worker").splitlines()]
    assert {"worker", "headway.sdk.attempt", "celery.worker.request"} <= {line["logger"] for line in lines}
    assert any("SimulatedFailure" in line.get("traceback", "") for line in lines)


def test_a_busy_worker_leaves_messages_to_others(new_worker_stack: NewStack) -> None:
    stack = new_worker_stack(WORKER_CONCURRENCY="1")
    first = stack.enqueue("simulate", duration_s=60)
    second = stack.enqueue("simulate", duration_s=0)
    stack.until(first, lambda job: job.progress is not None and (job.progress.current or 0) > 5)
    assert stack.store.redis.llen("test:default") == 1
    assert stack.job(second).state is State.QUEUED
    stack.store.cancel(first)
    assert stack.ended(second).state is State.SUCCEEDED


def test_a_restart_of_redis_disturbs_no_job_and_the_worker_hears_again(new_worker_stack: NewStack) -> None:
    stack = new_worker_stack(LEASE_S="20")
    job_id = stack.enqueue("simulate", duration_s=4, rate=20, log_every=1)
    stack.until(job_id, lambda job: job.progress is not None)
    stack.valkey.stop()
    until(lambda: "waits for Redis" in stack.log("worker"), what="a write to fail")
    stack.start_valkey()
    job = stack.ended(job_id)
    assert job.state is State.SUCCEEDED
    assert job.attempt == 1
    lines = [e.data["message"] for e in stack.events(job_id, "log")]
    assert lines == [f"update {n} of 80" for n in range(1, 81)]
    assert stack.ended(stack.enqueue("simulate", duration_s=0)).state is State.SUCCEEDED


DEAF = """
from worker import broker_watchdog
from worker.__main__ import main

broker_watchdog.UNRESPONSIVE_S, broker_watchdog.CHECK_S = 3.0, 0.5
raise SystemExit(main())
"""


def test_a_worker_that_has_gone_deaf_starts_anew_and_hears_again(new_worker_stack: NewStack) -> None:
    stack = new_worker_stack()
    stack.stop("worker")
    broker = FaultyProxy(stack.valkey.port)
    try:
        stack.environ["CELERY_BROKER_URL"] = f"redis://127.0.0.1:{broker.port}/0"
        stack.start_worker("-c", DEAF)
        (before,) = stack.store.registry.workers()
        busy = stack.enqueue("simulate", duration_s=4, rate=20)
        stack.running(busy)
        broker.freeze()
        # The first message goes to the dead connection, which still has a request open at the broker.
        waiting = [stack.enqueue("simulate", duration_s=0) for _ in range(2)]
        until(
            lambda: any(stack.job(job_id).ended for job_id in waiting),
            30,
            lambda: stack.log("worker")[-4000:],
        )
        assert "none was received for 3 s" in stack.log("worker")
        (after,) = stack.store.registry.workers()
        assert (after.pid, after.name == before.name) == (before.pid, False)
        assert stack.worker.poll() is None
        # What it was at when it stopped was released.
        assert stack.ended(busy).state is State.SUCCEEDED
        for job_id in waiting:
            assert stack.ended(job_id).state is State.SUCCEEDED, "an alarm sent another message"
    finally:
        broker.close()


STOPPED_AS_IT_STARTS = """
import os, signal
from celery.signals import worker_ready
from worker.__main__ import main

@worker_ready.connect(weak=False)
def stop(sender, **_):
    os.kill(os.getpid(), signal.SIGTERM)
    for process in sender.pool._pool._pool:
        # What SIGTERM does to one that has hardly begun.
        os.kill(process.pid, signal.SIGKILL)
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)

raise SystemExit(main())
"""


def test_a_worker_that_is_told_to_stop_while_its_processes_start_stops(new_worker_stack: NewStack) -> None:
    """Celery then takes them for processes that cannot start."""
    stack = new_worker_stack()
    stack.stop("worker")
    assert stack.start("worker", "-c", STOPPED_AS_IT_STARTS).wait(30) == 0


CRASHING = """
import ctypes, os
from worker.__main__ import main
from headway.sdk.job_type import Params, job

def crash(job, how):
    if job.attempt == 1:
        with job.subprocess(["sleep", "600", str(job.workdir)]):
            how()
    return job.attempt

for name, how in (("abort", os.abort), ("segfault", lambda: ctypes.string_at(0))):
    job("crash." + name, params=Params, title=name)(lambda job, how=how: crash(job, how))
raise SystemExit(main())
"""


def test_a_native_crash_takes_its_subprocesses_with_it_and_nobody_elses_job(
    new_worker_stack: NewStack,
) -> None:
    stack = new_worker_stack()
    stack.stop("worker")
    stack.start_worker("-c", CRASHING)
    other = stack.enqueue("simulate", duration_s=3, rate=10)
    stack.running(other)
    for name in ("crash.abort", "crash.segfault"):
        job = stack.do(name)
        assert (job.state, job.result) == (State.SUCCEEDED, 2)
        assert [e.data.get("reason") for e in stack.events(job.id, "state")][2] == "worker_lost"
    assert stack.encoders() == []
    assert stack.ended(other).attempt == 1

"""The process `python -m worker`: how it starts, what it announces, and Redis going away under it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable

import jsonschema

from service import valkey
from service.contract.states import State
from tests.integration.worker_stack import ROOT, WorkerStack, eventually

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
    types = stack.store.types()
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
    stack.worker.terminate()
    assert stack.worker.wait(20) == 0
    assert not any(is_alive for _, is_alive in stack.store.types().values())


def test_a_worker_tells_who_it_is_and_its_jobs_name_it(new_worker_stack: NewStack) -> None:
    stack = new_worker_stack()
    (worker,) = stack.store.workers()
    assert (worker.pid, worker.concurrency) == (stack.worker.pid, 2)
    assert worker.queues == ("default", "file", "video")
    assert worker.types == ("file.checksum", "simulate", "video.encode")
    job_id = stack.submit("simulate", duration_s=60)
    stack.running(job_id)
    (running,) = stack.store.running("owner")
    assert (running.id, running.type, running.attempt) == (job_id, "simulate", 1)
    assert running.worker == f"{worker.name}:{stack.pool_process(job_id)}"
    stack.worker.terminate()
    assert stack.worker.wait(6) == 0
    assert stack.store.workers() == []
    assert stack.store.running("owner") == []


def test_every_line_of_a_json_log_is_json(new_worker_stack: NewStack) -> None:
    stack = new_worker_stack(LOG_FORMAT="json")
    stack.do("simulate", duration_s=0, fail_at=0, max_attempts=1)
    job_id = stack.submit("simulate", duration_s=60)
    stack.running(job_id)
    # Celery and its pool have something to say about this.
    os.kill(stack.pool_process(job_id), signal.SIGKILL)
    eventually(lambda: "exited prematurely" in stack.log.read_text())
    lines = [json.loads(line) for line in stack.log.read_text().splitlines()]
    assert {"worker", "worker.runtime", "celery.worker.request"} <= {line["logger"] for line in lines}
    assert any("SimulatedFailure" in line.get("traceback", "") for line in lines)


def test_a_busy_worker_leaves_messages_to_others(new_worker_stack: NewStack) -> None:
    stack = new_worker_stack(WORKER_CONCURRENCY="1")
    first = stack.submit("simulate", duration_s=60)
    second = stack.submit("simulate", duration_s=0)
    stack.until(first, lambda job: job.progress is not None and (job.progress.current or 0) > 5)
    assert stack.store.redis.llen("test:default") == 1
    assert stack.job(second).state is State.QUEUED
    stack.store.cancel(first)
    assert stack.ended(second).state is State.SUCCEEDED


def test_a_restart_of_redis_disturbs_no_job_and_the_worker_hears_again(new_worker_stack: NewStack) -> None:
    stack = new_worker_stack(LEASE_S="20")
    job_id = stack.submit("simulate", duration_s=4, rate=20, log_every=1)
    stack.until(job_id, lambda job: job.progress is not None)
    port = stack.valkey.port
    stack.valkey.stop()
    eventually(lambda: "wait for Redis" in stack.log.read_text(), "a write fails")
    stack.valkey = valkey.start(stack.data_dir / "valkey", port=port)
    job = stack.ended(job_id)
    assert job.state is State.SUCCEEDED
    assert job.attempt == 1
    lines = [e.data["message"] for e in stack.events(job_id, "log")]
    assert lines == [f"update {n} of 80" for n in range(1, 81)]
    assert stack.ended(stack.submit("simulate", duration_s=0)).state is State.SUCCEEDED

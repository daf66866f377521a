"""What reporting progress costs the task that does it."""

from __future__ import annotations

import time
from pathlib import Path

from headway.contract.settings import Settings
from headway.contract.store import JobStore
from headway.sdk.job import Job
from headway.sdk.job_type import JobType, Params
from headway.sdk.runtime import Runtime
from service.process import valkey
from tests.bench.appends import new_job


def updates(server: valkey.Valkey, directory: Path, seconds: float) -> dict[str, float]:
    """A task that does nothing but note its progress, under the real runtime. The loop itself is
    subtracted."""
    calls = 0
    took = 0.0

    def task(job: Job[Params]) -> None:
        nonlocal calls, took
        with job.stage("count", total=1e9, unit="calls") as stage:
            started = time.perf_counter()
            while time.perf_counter() - started < seconds:
                for _ in range(1000):
                    calls += 1
                    stage.update(calls)
            took = time.perf_counter() - started

    store = JobStore.of(Settings(redis_url=server.url, key_prefix="bench:"))
    job_id = store.create(new_job())[0]
    runtime = Runtime(store, worker="bench", data_dir=directory, lease_s=12)
    runtime.run(JobType("bench", "Bench", "bench", Params, 1, task), job_id)
    page = store.read(job_id, None, 0)
    assert page is not None
    assert page.ended
    length = store.redis.xlen(store.keys.events(job_id))
    started = time.perf_counter()
    for number in range(calls):
        _ = number
    loop = time.perf_counter() - started
    return {"ns_a_call": (took - loop) / calls * 1e9, "writes_per_s": (length - 3) / took}

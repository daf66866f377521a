"""How many events one Valkey takes in: nobody listens, so that only the writing counts."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import redis

from headway.contract.events import EventType
from headway.contract.new_job import NewJob
from headway.contract.settings import Settings
from headway.contract.store import JobStore, Report
from service.process import valkey

BODY = json.dumps(
    {
        "fraction": 0.51667, "current": 931, "total": 1800, "unit": "frames", "message": None,
        "stage": {"name": "encode", "index": 2, "count": 3, "fraction": 0.51667},
        "rate": 74.2, "eta_s": 11.7, "data": {"fps": 74.2, "speed": 2.47, "size": 10262192},
    },
    separators=(",", ":"),
)  # fmt: skip


def new_job() -> NewJob:
    return NewJob(owner="bench", type="bench", params={}, queue="bench", max_attempts=1)


def append_for(url: str, batch: int, seconds: float) -> tuple[int, float]:
    """Append batches to one job for a while; how many events, in how many seconds."""
    store = JobStore.of(Settings(redis_url=url, key_prefix="bench:"), connections=1)
    ref = store.ref(store.create(new_job())[0])
    assert ref is not None
    claim = store.claim(ref, token="bench", lease_s=600, worker="bench")
    assert claim is not None
    reports = [Report(EventType.PROGRESS, BODY, "progress", BODY)] * batch
    calls = 0
    started = time.perf_counter()
    while (taken := time.perf_counter() - started) < seconds:
        calls += 1
        store.append(claim, calls, reports)
    return calls * batch, taken


def appends(server: valkey.Valkey, seconds: float) -> Iterator[tuple[str, dict[str, float]]]:
    """Each append is the whole script: fence, state, job, two streams' ids, event, publication.
    JobStore as workers have it, waiting for every answer: a case and its values."""
    client = redis.Redis.from_url(server.url, protocol=2)
    for clients, batch in ((1, 1), (4, 1), (1, 50), (2, 50)):
        before = client.info("cpu")
        with ProcessPoolExecutor(clients, mp_context=get_context("spawn")) as pool:
            done = list(
                pool.map(append_for, [server.url] * clients, [batch] * clients, [seconds] * clients)
            )
        after = client.info("cpu")
        events = sum(count for count, _ in done)
        cpu = sum(after[key] - before[key] for key in ("used_cpu_user", "used_cpu_sys"))
        name = f"appends, {clients} client{'s'[: clients > 1]}, {batch} event{'s'[: batch > 1]} a call"
        per_s = sum(count / taken for count, taken in done)
        yield name, {"events_per_s": per_s, "Valkey_CPU_µs_each": cpu / events * 1e6}
    client.close()

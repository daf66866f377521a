"""How many events one Valkey takes in: nobody listens, so that only the writing counts."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from multiprocessing import get_context
from pathlib import Path

import redis

from headway.contract.events import EventType
from headway.contract.new_job import NewJob
from headway.contract.settings import Settings
from headway.contract.store import Hold, JobStore, Report
from service.process import valkey
from tests.support.redis_cluster import Server, ValkeyCluster

BODY = json.dumps(
    {
        "fraction": 0.51667, "current": 931, "total": 1800, "unit": "frames", "message": None,
        "stage": {"name": "encode", "index": 2, "count": 3, "fraction": 0.51667},
        "rate": 74.2, "eta_s": 11.7, "data": {"fps": 74.2, "speed": 2.47, "size": 10262192},
    },
    separators=(",", ":"),
)  # fmt: skip


BATCH = 20
OWNERS = 24
"""Of each of two processes that append to several servers."""


def new_job(owner: str = "bench") -> NewJob:
    return NewJob(owner=owner, type="bench", params={}, queue="bench", max_attempts=1)


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


def _store(url: str) -> JobStore:
    return JobStore.of(Settings(redis_url=url, celery_broker_url="redis://unused", key_prefix="bench:"))


def append_in_turn(url: str, held: Sequence[tuple[str, str]], seconds: float) -> int:
    """Append a batch to each of these jobs in turn, ids and fences; how many events. Of single events, what
    a server does beside the script would be most of it, and more of it where three servers share them."""
    store = _store(url)
    reports = [Report(EventType.PROGRESS, BODY, "progress", BODY)] * BATCH
    holds = []
    for job_id, fence in held:
        ref = store.ref(job_id)
        assert ref is not None
        holds.append(Hold(ref, fence))
    rounds = 0
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        rounds += 1
        for hold in holds:
            store.append(hold, rounds, reports)
    return rounds * len(holds) * BATCH


def _hold(store: JobStore, owner: str) -> tuple[str, str]:
    ref = store.ref(store.create(new_job(owner))[0])
    assert ref is not None
    claim = store.claim(ref, token=f"bench {owner}", lease_s=600, worker="bench")
    assert claim is not None
    return ref.id, claim.fence


def spread(directory: Path, seconds: float) -> Iterator[tuple[str, dict[str, float]]]:
    """Appends of many owners, to one server and to a cluster of three: what one costs the servers, and what
    part of all the busiest of them has. By these, how many they could take with a core each."""
    with ExitStack() as ended:
        one = Server(directory / "one", "appendonly yes")
        ended.callback(one.close)
        cluster = ValkeyCluster(directory / "cluster", "appendonly yes")
        ended.callback(cluster.close)
        yield "appends of 48 owners, one server", _spread(f"redis://127.0.0.1:{one.port}/0", [one], seconds)
        yield "appends of 48 owners, three servers", _spread(cluster.url, cluster.servers, seconds)


def _spread(url: str, servers: Sequence[Server], seconds: float) -> dict[str, float]:
    def cpu() -> list[float]:
        told = [server.client.info("cpu") for server in servers]
        return [t["used_cpu_user"] + t["used_cpu_sys"] for t in told]

    store = _store(url)
    held = [_hold(store, f"owner{n}") for n in range(2 * OWNERS)]
    before = cpu()
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        events = sum(pool.map(append_in_turn, [url] * 2, [held[:OWNERS], held[OWNERS:]], [seconds] * 2))
    used = [now - then for then, now in zip(before, cpu(), strict=True)]
    return {
        "Valkey_CPU_µs_each": sum(used) / events * 1e6,
        "busiest server's part": max(used) / sum(used),
        "events/s with a core for each server": events / max(used),
    }

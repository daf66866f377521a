"""What /metrics shows of the store: of all web services that share it, so each of them shows the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import redis
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from headway.contract.listings import Waiting
from headway.contract.outcomes import BUCKETS_S, Outcome, Times
from headway.contract.registry import Worker
from headway.contract.store import JobStore

T = TypeVar("T")


# A registry tells collectors apart by identity.
@dataclass(frozen=True, eq=False)
class StoreMetrics(Collector):
    """What was read of the store at one moment: of each kind, unless a server that it needs is away."""

    outcomes: Mapping[str, Outcome] | None
    workers: list[Worker] | None
    waiting: Mapping[str, Waiting] | None
    """By queue."""
    servers: Sequence[Mapping[str, Any]] | None
    """What INFO says of each."""

    @classmethod
    def read(cls, store: JobStore) -> StoreMetrics:
        """Read what can be read."""

        def waiting() -> Mapping[str, Waiting]:
            queues = {description["queue"] for description, _ in store.registry.types().values()}
            queues.update(queue for worker in workers or () for queue in worker.queues)
            return store.listings.waiting(sorted(queues))

        workers = _if_reachable(store.registry.workers)
        return cls(
            outcomes=_if_reachable(store.outcomes.by_type),
            workers=workers,
            waiting=_if_reachable(waiting),
            servers=_if_reachable(
                lambda: [client.info("memory", "replication") for client in store.database.clients()]
            ),
        )

    def collect(self) -> Iterator[Metric]:
        if self.outcomes is not None:
            yield from self._of_outcomes(self.outcomes)
        if self.workers is not None:
            yield from self._of_workers(self.workers)
        if self.workers is not None and self.waiting is not None:
            yield from self._of_queues(self.workers, self.waiting)
        if self.servers is not None:
            yield from self._of_servers(self.servers)

    def _of_servers(self, servers: Sequence[Mapping[str, Any]]) -> Iterator[Metric]:
        used = sum(of_one["used_memory"] for of_one in servers)
        limit = sum(of_one["maxmemory"] for of_one in servers)
        replicas = min(of_one["connected_slaves"] for of_one in servers)
        yield _gauge("headway_store_memory_bytes", "Memory that Redis uses.", used)
        yield _gauge("headway_store_memory_limit_bytes", "Redis's maxmemory; 0 if it has none.", limit)
        yield _gauge("headway_store_replicas", "Replicas of the primary that has the fewest.", replicas)
        yield _gauge(
            "headway_store_replica_behind_bytes",
            "What the replica that is furthest behind has yet to confirm.",
            max(map(_behind, servers)),
        )

    def _of_outcomes(self, outcomes: Mapping[str, Outcome]) -> Iterator[Metric]:
        attempts = CounterMetricFamily("headway_job_attempts", "Attempts that began.", labels=["type"])
        ended = CounterMetricFamily("headway_jobs_ended", "Jobs that ended.", labels=["type", "state"])
        waited = HistogramMetricFamily(
            "headway_job_wait_seconds", "From when a job could begin to its first attempt.", labels=["type"]
        )
        ran = HistogramMetricFamily(
            "headway_job_duration_seconds", "From a job's first attempt to its end.", labels=["type"]
        )
        for name, outcome in sorted(outcomes.items()):
            attempts.add_metric([name], outcome.attempts)
            for state, count in sorted(outcome.ended.items()):
                ended.add_metric([name, state], count)
            waited.add_metric([name], _cumulative(outcome.waited), outcome.waited.total_s)
            ran.add_metric([name], _cumulative(outcome.ran), outcome.ran.total_s)
        yield from (attempts, ended, waited, ran)

    def _of_workers(self, workers: list[Worker]) -> Iterator[Metric]:
        dropped = CounterMetricFamily(
            "headway_messages_dropped",
            "Messages that a worker found on its queues and dropped, as they were no jobs.",
            labels=["worker"],
        )
        for worker in workers:
            dropped.add_metric([worker.name], worker.dropped_messages)
        yield dropped
        yield _gauge("headway_workers", "Living workers.", len(workers))
        slots = sum(worker.concurrency for worker in workers)
        yield _gauge("headway_worker_slots", "Jobs that the living workers can do at once.", slots)

    def _of_queues(self, workers: list[Worker], waiting: Mapping[str, Waiting]) -> Iterator[Metric]:
        jobs = GaugeMetricFamily("headway_queue_jobs", "Jobs that wait for a worker.", labels=["queue"])
        oldest = GaugeMetricFamily(
            "headway_queue_oldest_seconds", "How long the first of them has waited.", labels=["queue"]
        )
        served = GaugeMetricFamily("headway_queue_workers", "Living workers of a queue.", labels=["queue"])
        for name, of_queue in waiting.items():
            jobs.add_metric([name], of_queue.jobs)
            oldest.add_metric([name], of_queue.oldest_s)
            served.add_metric([name], sum(name in worker.queues for worker in workers))
        yield from (jobs, oldest, served)


def _if_reachable(read: Callable[[], T]) -> T | None:
    try:
        return read()
    except redis.RedisError:
        return None


def _behind(replication: Mapping[str, Any]) -> int:
    confirmed = [
        replication[f"slave{n}"]["offset"]
        for n in range(replication["connected_slaves"])
        if f"slave{n}" in replication
    ]
    return max(0, replication["master_repl_offset"] - min(confirmed)) if confirmed else 0


def _cumulative(times: Times) -> list[tuple[str, float]]:
    so_far = 0
    buckets = []
    for bucket in BUCKETS_S:
        so_far += times.buckets[bucket]
        buckets.append((bucket, float(so_far)))
    return buckets


def _gauge(name: str, what: str, value: float) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, what)
    family.add_metric([], value)
    return family

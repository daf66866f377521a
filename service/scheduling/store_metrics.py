"""What /metrics shows of the store: of all web services that share it, so each of them shows the same."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

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


# A registry tells collectors apart by identity.
@dataclass(frozen=True, eq=False)
class StoreMetrics(Collector):
    """What was read of the store at one moment."""

    outcomes: Mapping[str, Outcome]
    workers: list[Worker]
    waiting: Mapping[str, Waiting]
    """By queue."""
    memory_bytes: int
    memory_limit_bytes: int
    """0: none."""
    replicas: int
    """Of the primary that has the fewest."""
    behind_bytes: int
    """What the last replica has yet to confirm."""

    @classmethod
    def read(cls, store: JobStore) -> StoreMetrics:
        """Read them. Raises RedisError."""
        workers = store.registry.workers()
        queues = {description["queue"] for description, _ in store.registry.types().values()}
        queues.update(queue for worker in workers for queue in worker.queues)
        said = [client.info("memory", "replication") for client in store.database.clients()]
        return cls(
            outcomes=store.outcomes.by_type(),
            workers=workers,
            waiting=store.listings.waiting(sorted(queues)),
            memory_bytes=sum(of_one["used_memory"] for of_one in said),
            memory_limit_bytes=sum(of_one["maxmemory"] for of_one in said),
            replicas=min(of_one["connected_slaves"] for of_one in said),
            behind_bytes=max(map(_behind, said)),
        )

    def collect(self) -> Iterator[Metric]:
        yield from self._of_outcomes()
        yield from self._of_workers()
        yield from self._of_queues()
        yield _gauge("headway_store_memory_bytes", "Memory that Redis uses.", self.memory_bytes)
        limit = self.memory_limit_bytes
        yield _gauge("headway_store_memory_limit_bytes", "Redis's maxmemory; 0 if it has none.", limit)
        yield _gauge(
            "headway_store_replicas", "Replicas of the primary that has the fewest.", self.replicas
        )
        yield _gauge(
            "headway_store_replica_behind_bytes",
            "What the replica that is furthest behind has yet to confirm.",
            self.behind_bytes,
        )

    def _of_outcomes(self) -> Iterator[Metric]:
        attempts = CounterMetricFamily("headway_job_attempts", "Attempts that began.", labels=["type"])
        ended = CounterMetricFamily("headway_jobs_ended", "Jobs that ended.", labels=["type", "state"])
        waited = HistogramMetricFamily(
            "headway_job_wait_seconds", "From when a job could begin to its first attempt.", labels=["type"]
        )
        ran = HistogramMetricFamily(
            "headway_job_duration_seconds", "From a job's first attempt to its end.", labels=["type"]
        )
        for name, outcome in sorted(self.outcomes.items()):
            attempts.add_metric([name], outcome.attempts)
            for state, count in sorted(outcome.ended.items()):
                ended.add_metric([name, state], count)
            waited.add_metric([name], _cumulative(outcome.waited), outcome.waited.total_s)
            ran.add_metric([name], _cumulative(outcome.ran), outcome.ran.total_s)
        yield from (attempts, ended, waited, ran)

    def _of_workers(self) -> Iterator[Metric]:
        dropped = CounterMetricFamily(
            "headway_messages_dropped",
            "Messages that a worker found on its queues and dropped, as they were no jobs.",
            labels=["worker"],
        )
        for worker in self.workers:
            dropped.add_metric([worker.name], worker.dropped_messages)
        yield dropped
        yield _gauge("headway_workers", "Living workers.", len(self.workers))
        slots = sum(worker.concurrency for worker in self.workers)
        yield _gauge("headway_worker_slots", "Jobs that the living workers can do at once.", slots)

    def _of_queues(self) -> Iterator[Metric]:
        jobs = GaugeMetricFamily("headway_queue_jobs", "Jobs that wait for a worker.", labels=["queue"])
        oldest = GaugeMetricFamily(
            "headway_queue_oldest_seconds", "How long the first of them has waited.", labels=["queue"]
        )
        served = GaugeMetricFamily("headway_queue_workers", "Living workers of a queue.", labels=["queue"])
        for name, waiting in self.waiting.items():
            jobs.add_metric([name], waiting.jobs)
            oldest.add_metric([name], waiting.oldest_s)
            served.add_metric([name], sum(name in worker.queues for worker in self.workers))
        yield from (jobs, oldest, served)


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

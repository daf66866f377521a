"""Line: how a worker takes the jobs that wait in the line of a queue (lua/take.lua)."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import redis

from headway.contract.database import Call
from headway.contract.encoding import dumps
from headway.contract.keys import JobRef
from headway.contract.records import Job
from headway.contract.store import Claim, JobStore, StaleFence

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Place:
    """A line in which jobs of these types are wanted."""

    partition: int
    queue: str
    types: tuple[str, ...]

    @classmethod
    def of(cls, partition: int, queue: str, types: Iterable[str]) -> Place:
        return cls(partition, queue, tuple(types))


class Line:
    """Takes jobs for one process of a worker, one at a time."""

    def __init__(self, store: JobStore, *, worker: str, lease_s: float) -> None:
        self._store = store
        self._worker = worker
        self._lease_ms = round(lease_s * 1000)

    def take(self, place: Place, token: str) -> Claim | None:
        """Claim the job that is next there; with the same token the same one again, while it is held.

        Owners take turns, as in JobStore.next. Returns None if there is none, or it cannot be had.
        """
        return self._taken(place, self._store.database.run(*self._call(place, token)))

    def end(self, end: Call) -> None:
        """End a job (JobStore.ending). Raises StaleFence."""
        JobStore.held(self._store.database.run(*end))

    def end_and_take(self, end: Call, place: Place, token: str) -> tuple[Claim | None, bool]:
        """End a job (JobStore.ending), and take the next, in one round trip.

        Returns that claim, and whether the ended job was held: if not, nothing has ended."""
        ended, taken = self._store.database.run_many([end, self._call(place, token)])
        if isinstance(ended, Exception):
            raise ended
        if isinstance(taken, redis.ConnectionError | redis.TimeoutError):
            raise taken
        if isinstance(taken, Exception):
            logger.warning("no job is taken: %s", taken)
            taken = [b"none"]
        try:
            JobStore.held(ended)
        except StaleFence:
            return self._taken(place, taken), False
        return self._taken(place, taken), True

    def _call(self, place: Place, token: str) -> Call:
        keys, database = self._store.keys, self._store.database
        partition = place.partition
        return (
            "take",
            [
                *(keys.clock(partition), keys.alarms(partition), keys.expiring(partition)),
                *(keys.line(partition, place.queue), keys.paused(partition)),
                keys.taken(partition, self._worker),
            ],
            [
                *(keys.job_head(partition), *database.limits, token, self._lease_ms, dumps(self._worker)),
                *(place.queue, *map(dumps, place.types)),
            ],
        )

    @staticmethod
    def _taken(place: Place, reply: list[Any]) -> Claim | None:
        if reply[0] != b"claimed":
            return None
        job = Job.model_validate_json(reply[2])
        ref = JobRef(job.id, job.owner, place.queue, job.group, reply[6].decode(), job.parent)
        return JobStore.claimed(ref, job, reply)

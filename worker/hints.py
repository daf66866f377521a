"""Hints: which of the broker's messages still mean something. A job may be taken without its message."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence

import redis

from headway.contract.settings import Settings
from headway.contract.store import JobStore

TIMEOUT_S = 1.0
"""Seconds for one question to the store; no message is received meanwhile."""
PAUSE_S = 10.0
"""Seconds without another question after one that was not answered."""


class Hints:
    """Asks the store about the jobs that messages name, in the worker's main process. To have one of the
    pool's find out costs many times as much."""

    def __init__(self, settings: Settings, queues: Mapping[str, str]) -> None:
        """`queues` are those of the types that the worker serves."""
        self._queues = queues
        self._store = JobStore.of(settings, connections=1, timeout_s=TIMEOUT_S)
        self._not_before = float("-inf")

    def waiting(self, jobs: Sequence[tuple[str, str]]) -> Collection[str]:
        """Return those of the jobs, each given with its type, that wait for a worker or whose place in the
        line is another's that does; all of them if that cannot be found out."""
        if time.monotonic() >= self._not_before:
            try:
                return self._store.waiting([(job_id, self._queues[of_type]) for job_id, of_type in jobs])
            except redis.RedisError:
                self._not_before = time.monotonic() + PAUSE_S
        return [job_id for job_id, _ in jobs]

"""Hints: which of the broker's messages still mean something. A job may be taken without its message."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence

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

    def __init__(self, settings: Settings) -> None:
        self._store = JobStore.of(settings, connections=1, timeout_s=TIMEOUT_S)
        self._not_before = float("-inf")

    def waiting(self, job_ids: Sequence[str]) -> Collection[str]:
        """Return those of the jobs that wait for a worker; all of them if that cannot be found out."""
        if time.monotonic() < self._not_before:
            return job_ids
        try:
            return self._store.waiting(job_ids)
        except redis.RedisError:
            self._not_before = time.monotonic() + PAUSE_S
            return job_ids

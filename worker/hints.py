"""Hints: which of the broker's messages still mean something. A job may be taken without its message."""

from __future__ import annotations

import time

import redis

from headway.contract.settings import Settings
from headway.contract.store import JobStore

TIMEOUT_S = 1.0
"""Seconds for one question to the store; no message is received meanwhile."""
PAUSE_S = 10.0
"""Seconds without another question after one that was not answered."""


class Hints:
    """Asks the store about the job that a message names, in the worker's main process. To have one of the
    pool's find out costs many times as much."""

    def __init__(self, settings: Settings) -> None:
        self._store = JobStore.of(settings, connections=1, timeout_s=TIMEOUT_S)
        self._not_before = float("-inf")

    def waits(self, job_id: str) -> bool:
        """Return whether the job waits for a worker; True too if that cannot be found out."""
        if time.monotonic() < self._not_before:
            return True
        try:
            return self._store.waits(job_id)
        except redis.RedisError:
            self._not_before = time.monotonic() + PAUSE_S
            return True

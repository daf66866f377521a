"""StoreMemory: whether Redis is nearly full, known without asking it for each submission."""

from __future__ import annotations

import math
import time
from typing import Any

import redis

from headway.contract.store import JobStore

FULL = 0.8
"""Share of Redis' maxmemory above which no new job is accepted; the rest is for the live ones."""
FRESH_S = 2.0
"""How old what is known may be. The alarm loop looks more often."""


class StoreMemory:
    def __init__(self, store: JobStore) -> None:
        self._store = store
        self._full: set[int] = set()
        """The servers that are nearly full, by their connection pools."""
        self._looked_at = float("-inf")

    def look(self) -> None:
        """Ask each server how much of its memory is used. Raises RedisError if none answers."""
        full = set()
        error: redis.RedisError | None = None
        answered = False
        for client in self._store.database.clients():
            try:
                memory: dict[str, Any] = client.info("memory")
            except redis.RedisError as failed:
                error = failed
                continue
            answered = True
            if memory["used_memory"] > FULL * (memory.get("maxmemory") or math.inf):
                full.add(id(client.connection_pool))
        if error is not None and not answered:
            raise error
        self._full, self._looked_at = full, time.monotonic()

    def is_full(self, owner: str) -> bool:
        """Return what was known at the last look of the server that has the owner's jobs; looks if that was
        too long ago. Raises RedisError."""
        if time.monotonic() - self._looked_at > FRESH_S:
            self.look()
        keys = self._store.keys
        client = self._store.database.at(keys.clock(keys.partition(owner)))
        return id(client.connection_pool) in self._full

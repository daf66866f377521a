"""StoreMemory: whether Redis is nearly full, known without asking it for each submission."""

from __future__ import annotations

import math
import time
from typing import Any

import redis

FULL = 0.8
"""Share of Redis' maxmemory above which no new job is accepted; the rest is for the live ones."""
FRESH_S = 2.0
"""How old what is known may be. The alarm loop looks more often."""


class StoreMemory:
    """Every method raises redis.RedisError when the store cannot be reached."""

    def __init__(self, client: redis.Redis) -> None:
        self._redis = client
        self._full = False
        self._looked_at = float("-inf")

    def look(self) -> None:
        """Ask Redis how much of its memory is used."""
        memory: dict[str, Any] = self._redis.info("memory")
        limit = memory.get("maxmemory") or math.inf
        self._full = memory["used_memory"] > FULL * limit
        self._looked_at = time.monotonic()

    def is_full(self) -> bool:
        """Return what was known at the last look; looks if that was too long ago."""
        if time.monotonic() - self._looked_at > FRESH_S:
            self.look()
        return self._full

"""A JobStore whose time is an input: a key of the server holds what its scripts take for the time.

Only what asks for the time is replaced, in the scripts' text and in the client: everything else is the
real store on the real server.
"""

from __future__ import annotations

from typing import Any, cast

from headway.contract.connections import connect
from headway.contract.database import Database
from headway.contract.keys import Keys
from headway.contract.store import JobStore

ASKS = "redis.call('TIME')"


class ClockedStore(JobStore):
    """Time stands still until it is set."""

    def __init__(self, url: str, keys: Keys, **options: Any) -> None:
        client = connect(url)
        database = Database(client, keys, **options)
        self._time_key = f"{keys.prefix}time"
        asks = f"redis.call('HMGET', '{self._time_key}', 's', 'us')"
        for name, script in database.scripts.items():
            text = cast(str, script.script)
            database.scripts[name] = client.register_script(text.replace(ASKS, asks))
        client.time = self._time  # type: ignore[method-assign, assignment]
        super().__init__(database)
        self.now_ms = 0
        self.set_time(1_700_000_000_000)

    def set_time(self, ms: int) -> None:
        self.now_ms = ms
        self.redis.hset(self._time_key, mapping={"s": ms // 1000, "us": ms % 1000 * 1000})

    def advance(self, seconds: float) -> None:
        self.set_time(self.now_ms + round(seconds * 1000))

    def _time(self) -> tuple[int, int]:
        return self.now_ms // 1000, self.now_ms % 1000 * 1000

    def close(self) -> None:
        self.redis.connection_pool.disconnect()

"""KeyTable: the API keys and revoked sessions, copied, so that no request waits for Redis."""

from __future__ import annotations

import threading
import time

from headway.contract.access import REFRESH_S, Access, Key, Snapshot, split_token
from headway.loops import forever


class KeyTable:
    """While Redis is unreachable the last copy counts."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._copy: Snapshot | None = None
        self._lock = threading.Lock()

    def start(self) -> None:
        """Look for changes every REFRESH_S from now on."""
        forever("API keys", self.refresh, pause_s=REFRESH_S)

    def refresh(self) -> None:
        """Read the keys again if one has changed. Raises redis.RedisError."""
        if self._copy is None or self._access.version() != self._copy.version:
            self._copy = self._access.snapshot()

    def key(self, key_id: str) -> Key | None:
        """Return a key that works now. Raises redis.RedisError if the keys could never be read."""
        key = self._read().keys.get(key_id)
        return key if key is not None and (key.expires_at or time.time() + 1) > time.time() else None

    def opened_by(self, token: str) -> Key | None:
        """Return the key whose text this is, None if there is none. Raises redis.RedisError like `key`."""
        parts = split_token(token)
        key = self.key(parts[0]) if parts else None
        return key if parts and key and key.opens_with(parts[1]) else None

    def is_revoked(self, session_id: str) -> bool:
        return session_id in self._read().revoked_sessions

    def _read(self) -> Snapshot:
        if self._copy is None:
            # Of thousands of clients that come back to a service that has just started, one reads.
            with self._lock:
                if self._copy is None:
                    self._copy = self._access.snapshot()
        return self._copy

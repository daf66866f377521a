"""KeyTable: the API keys and revoked sessions, copied, so that no request waits for Redis."""

from __future__ import annotations

import threading
import time

import redis

from headway.contract.access import REFRESH_S, Access, Key, Snapshot, split_token
from headway.loops import forever


class KeyTable:
    """While Redis is unreachable the last copy counts, for the keys that are in it."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._copy: Snapshot | None = None
        self._lock = threading.Lock()
        self._looks = 0
        """How many looks for changes have begun."""
        self._failed: redis.RedisError | None = None
        """Why the last one did."""

    def start(self) -> None:
        """Look for changes every REFRESH_S from now on."""
        forever("API keys", self.refresh, pause_s=REFRESH_S)

    def refresh(self) -> None:
        """Know every change that was made before this call. Raises redis.RedisError.

        One caller looks at a time. Those who wait meanwhile, of thousands of clients that come back to a
        service that has just started, say, share the next look and its error.
        """
        ours = self._looks + 1
        with self._lock:
            if self._looks >= ours:
                if self._failed is not None:
                    raise self._failed
                return
            self._looks += 1
            try:
                if self._copy is None or self._access.version() != self._copy.version:
                    self._copy = self._access.snapshot()
                self._failed = None
            except redis.RedisError as error:
                self._failed = error
                raise

    def key(self, key_id: str) -> Key | None:
        """Return a key that works now. Raises redis.RedisError if the keys could never be read."""
        key = self._read().keys.get(key_id)
        return key if key is not None and (key.expires_at or time.time() + 1) > time.time() else None

    def opened_by(self, token: str) -> Key | None:
        """Return the key whose text this is, None if there is none. Raises redis.RedisError if that cannot
        be told: the keys could never be read, or the key is unknown and may be newer than the copy."""
        parts = split_token(token)
        if parts is None:
            return None
        if parts[0] not in self._read().keys:
            self.refresh()
        key = self.key(parts[0])
        return key if key and key.opens_with(parts[1]) else None

    def is_revoked(self, session_id: str) -> bool:
        return session_id in self._read().revoked_sessions

    def _read(self) -> Snapshot:
        if self._copy is None:
            self.refresh()
        assert self._copy is not None  # noqa: S101
        return self._copy

"""How much each owner's uploads may hold together: UPLOAD_QUOTA_BYTES."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import redis

from headway.contract.data_dir import UPLOADS
from headway.contract.files import Files
from headway.contract.store import JobStore
from headway.contract.uploads import find_upload
from service.api.problems import Problem


class UploadQuota:
    """Adds up what the uploads hold; each upload is looked at once, as it never changes."""

    def __init__(self, files: Files, store: JobStore, quota: int) -> None:
        self._store = store
        self._files = files
        self._quota = quota
        self._known: dict[str, tuple[str, int]] = {}
        """Owner and size of each upload."""
        self._coming: Counter[str] = Counter()
        """Bytes that this process is about to receive, by owner."""
        self._lock = threading.Lock()

    @contextmanager
    def reserve(self, owner: str, size: int | None) -> Iterator[int | None]:
        """Hold room for an upload while it is received. `size` is None if its client does not know it.

        Yields how many bytes it may have, None for no limit. Raises Problem (507) if there is no room.
        """
        if not self._quota:
            yield None
            return
        left = self._left(owner)
        with self._lock:
            left -= self._coming[owner]
            if left <= 0 or (size or 0) > left:
                raise quota_used(self._quota)
            room = left if size is None else size
            self._coming[owner] += room
        try:
            yield room
        finally:
            with self._lock:
                self._coming[owner] -= room

    def check(self, owner: str, size: int) -> None:
        """Check once more, before an upload of this size is complete: other processes know nothing of what
        is received here. Raises Problem (507)."""
        if self._quota and size > self._left(owner):
            raise quota_used(self._quota)

    def _left(self, owner: str) -> int:
        self._known = self._look()
        announced = 0
        with suppress(redis.RedisError):  # an upload in one piece needs no store
            announced = self._store.resumable.announced(owner)
        return self._quota - announced - sum(held for whose, held in self._known.values() if whose == owner)

    def _look(self) -> dict[str, tuple[str, int]]:
        found = {}
        for name, _ in self._files.trees(UPLOADS):
            if name in self._known:
                found[name] = self._known[name]
            elif upload := find_upload(self._files, name):
                found[name] = (upload.owner, upload.size)
        return found


def quota_used(quota: int) -> Problem:
    return Problem(
        507, f"your uploads may hold {quota} bytes together; nothing was kept; delete some, or wait"
    )

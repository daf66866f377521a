"""StoreReader of single jobs: those that arrive together in one round trip, and the same only once.

10,000 readers that come back at once then need some 40 round trips, and one connection.
"""

from __future__ import annotations

import threading

import redis

from headway.contract.events import EventId
from headway.contract.pages import JobPage
from headway.contract.store import JobStore
from service.streaming.primitives import new_event

BATCH = 256
"""StoreReader in one round trip."""
PAGE = 500
"""Events read at once."""


class _Read:
    """A read that was asked for, and has not been sent yet or has not been answered."""

    __slots__ = ("done", "error", "page")

    def __init__(self) -> None:
        self.done = new_event()
        self.page: JobPage | None = None
        self.error: Exception | None = None


class StoreReader:
    """Begins with the first read, and ends with the process."""

    def __init__(self, store: JobStore) -> None:
        self.store = store
        self._lock = threading.Lock()
        self._wanted: dict[tuple[str, EventId | None], _Read] = {}
        self._work = threading.Event()
        self._thread: threading.Thread | None = None

    def job(self, job_id: str, cursor: EventId | None) -> JobPage | None:
        """A job and up to PAGE events after the cursor (None: no events), as they are at some moment
        after this call; None if there is no such job. With a cursor the page is brief
        (JobStore.read_jobs). Raises RedisError."""
        with self._lock:
            # A read that was sent already may be older than this call, so it is not among these.
            read = self._wanted.setdefault((job_id, cursor), _Read())
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="reads", daemon=True)
                self._thread.start()
        self._work.set()
        read.done.wait()
        if isinstance(read.error, redis.RedisError):
            raise redis.ConnectionError(str(read.error)) from read.error
        if read.error is not None:
            raise RuntimeError(f"a read failed: {read.error}") from read.error
        return read.page

    def _run(self) -> None:
        while True:
            self._work.wait()
            with self._lock:
                keys = list(self._wanted)[:BATCH]
                batch = [self._wanted.pop(key) for key in keys]
                if not self._wanted:
                    self._work.clear()
            self._read(keys, batch)

    def _read(self, keys: list[tuple[str, EventId | None]], batch: list[_Read]) -> None:
        try:
            pages = self.store.read_jobs(keys, PAGE, together=False, brief=True)
        except Exception as error:  # noqa: BLE001
            # Whatever it is, it is the readers' to handle: without this loop none is ever read for.
            for read in batch:
                read.error = error
        else:
            for read, page in zip(batch, pages, strict=True):
                read.page = page
        finally:
            for read in batch:
                read.done.set()

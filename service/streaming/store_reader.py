"""Reads of the store for readers that catch up. Reads that arrive together share a round trip, and equal
reads are made once.

10,000 readers of single jobs that come back at once then need some 40 round trips, and 2,000 readers of
one feed need one. However many readers there are, they hold WORKERS connections at most.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from typing import Any, TypeVar, cast

from headway.contract.events import EventId
from headway.contract.keys import Keys
from headway.contract.pages import JobPage
from headway.contract.store import JobStore
from headway.loops import forever
from service.streaming.primitives import new_event

BATCH = 256
"""Jobs read in one round trip."""
PAGE = 500
"""Events read at once."""
WORKERS = 4
"""Reads at the same time: one for single jobs, the others for everything else."""

T = TypeVar("T")
JobKey = tuple[str, EventId | None, str | None]


class _Read:
    """A read that was asked for and has not been answered."""

    __slots__ = ("done", "error", "result")

    def __init__(self) -> None:
        self.done = new_event()
        self.result: Any = None
        self.error: Exception | None = None

    def answer(self) -> Any:
        self.done.wait()
        if self.error is not None:
            # An error of its own for each caller: a traceback is not to be shared.
            raise type(self.error)(*self.error.args) from self.error
        return self.result


class StoreReader:
    """Starts its threads with the first read; they end with the process.

    A time limit may strike a caller wherever greenlets switch, and what it leaves must be whole. So nothing
    here switches between noting a read and waking a thread for it: `Event.set` does not. Under gevent
    `threading.Semaphore.release` does, and a reader whose limit struck there stopped all others for good.
    """

    def __init__(self, store: JobStore) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._jobs: dict[JobKey, _Read] = {}
        self._others: dict[Hashable, tuple[_Read, Callable[[JobStore], Any]]] = {}
        self._jobs_wanted = new_event()
        self._others_wanted = new_event()
        self._to_start = [
            ("job reader", self._read_jobs),
            *[("store reader", self._read_other)] * (WORKERS - 1),
        ]

    @property
    def keys(self) -> Keys:
        return self._store.keys

    def job(self, job_id: str, cursor: EventId | None, owner: str | None = None) -> JobPage | None:
        """Returns a job and up to PAGE events after the cursor (None: no events), as they are at some
        moment after this call; None if there is no such job, or none of the `owner`. With a cursor
        the page is brief (JobStore.read_each). Raises RedisError."""
        with self._lock:
            self._start()
            # A read that was sent already may be older than this call, so it is not among these.
            read = self._jobs.get((job_id, cursor, owner))
            if read is None:
                read = self._jobs[job_id, cursor, owner] = _Read()
                self._jobs_wanted.set()
        return cast(JobPage | None, read.answer())

    def shared(self, key: Hashable, make: Callable[[JobStore], T]) -> T:
        """Returns what `make` reads at some moment after this call. Callers whose keys are equal must
        give functions that do the same; they share one call. Raises what it raises."""
        with self._lock:
            self._start()
            found = self._others.get(key)
            if found is None:
                found = self._others[key] = (_Read(), make)
                self._others_wanted.set()
        return cast(T, found[0].answer())

    def _start(self) -> None:
        while self._to_start:
            name, step = self._to_start.pop()
            forever(name, step, pause_s=0)

    def _read_jobs(self) -> None:
        self._jobs_wanted.wait()
        with self._lock:
            keys = list(self._jobs)[:BATCH]
            batch = [self._jobs.pop(key) for key in keys]
            if not self._jobs:
                self._jobs_wanted.clear()
        try:
            pages = self._store.read_each(keys, PAGE)
        except Exception as error:  # noqa: BLE001
            for read in batch:
                read.error = error
        else:
            for read, page in zip(batch, pages, strict=True):
                if isinstance(page, Exception):
                    read.error = page
                else:
                    read.result = page
        finally:
            for read in batch:
                read.done.set()

    def _read_other(self) -> None:
        self._others_wanted.wait()
        with self._lock:
            if not self._others:  # another thread has taken it
                self._others_wanted.clear()
                return
            key = next(iter(self._others))
            read, make = self._others.pop(key)
        try:
            read.result = make(self._store)
        except Exception as error:  # noqa: BLE001  it is the readers' to handle
            read.error = error
        finally:
            read.done.set()

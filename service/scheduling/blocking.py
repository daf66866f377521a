"""Calls that block, such as those of a disk: made in threads, so that the event loop goes on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import gevent
import gevent.monkey
import gevent.threadpool

T = TypeVar("T")

FILE_THREADS = 32
"""Of one process. Not gevent's own pool of 10, in which names are looked up: an object storage that hangs
must not hold that up."""


def off_the_loop(work: Callable[[], T]) -> T:
    """Do work that blocks: under greenlets in gevent's thread pool, else here."""
    if gevent.monkey.is_module_patched("threading"):
        result: T = gevent.get_hub().threadpool.apply(work)
        return result
    return work()


def file_threads() -> Callable[[Callable[[], Any]], Any]:
    """Return what does the same for the work on files, in a pool of its own that is made when it is first
    used."""
    pool: gevent.threadpool.ThreadPool | None = None

    def run(work: Callable[[], Any]) -> Any:
        nonlocal pool
        if not gevent.monkey.is_module_patched("threading"):
            return work()
        if pool is None:
            pool = gevent.threadpool.ThreadPool(FILE_THREADS)
        return pool.apply(work)

    return run

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


def in_pool(pool: gevent.threadpool.ThreadPool, work: Callable[[], T]) -> T:
    """Do work in a thread of the pool, and raise here what it raises. If the thread raised it, gevent would
    also write its traceback, whoever handles it."""

    def quietly() -> tuple[list[T], Exception | None]:
        try:
            return [work()], None
        except Exception as error:  # noqa: BLE001 - it is raised below
            return [], error

    done, error = pool.apply(quietly)
    if error is not None:
        raise error
    result: T = done[0]
    return result


def off_the_loop(work: Callable[[], T]) -> T:
    """Do work that blocks: under greenlets in gevent's thread pool, else here."""
    if gevent.monkey.is_module_patched("threading"):
        return in_pool(gevent.get_hub().threadpool, work)
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
        return in_pool(pool, work)

    return run

"""The loop that removes ended jobs, with their files, when their retention is over."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import gevent
import gevent.monkey

from headway.contract.store import JobStore
from headway.loops import forever

log = logging.getLogger(__name__)

PERIOD_S = 1.0


class Sweeper:
    """Every web process runs one; the store says which of them removes a job."""

    def __init__(self, store: JobStore, data_dir: Path) -> None:
        self._store = store
        self._artifacts = data_dir / "artifacts"

    def start(self) -> None:
        forever("sweeper", self.sweep, pause_s=PERIOD_S)

    def sweep(self) -> None:
        """Remove the jobs whose retention is over."""
        for partition in range(self._store.keys.partitions):
            while expired := self._store.alarms.expired(partition):
                for job_id in expired:
                    remove_tree(self._artifacts / job_id)
                    self._store.alarms.sweep(job_id)


def remove_tree(directory: Path) -> None:
    """Remove a directory and all in it, if it is there, without holding up the event loop."""

    def remove() -> None:
        shutil.rmtree(directory, ignore_errors=True)

    off_the_loop(remove)


def off_the_loop(work: Callable[[], None]) -> None:
    """Do work that blocks, such as on a disk: under greenlets in gevent's thread pool, else here."""
    if gevent.monkey.is_module_patched("threading"):
        gevent.get_hub().threadpool.apply(work)
    else:
        work()

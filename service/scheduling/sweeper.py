"""The loops that make room: ended jobs go when their retention is over, uploads when nobody uses them."""

from __future__ import annotations

import logging
import os
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import gevent
import gevent.monkey

from headway.contract.data_dir import ARTIFACTS, UPLOADS
from headway.contract.store import JobStore
from headway.loops import forever
from service.scheduling.keeper import Keeper

log = logging.getLogger(__name__)

PERIOD_S = 1.0
UPLOADS_PERIOD_S = 60.0
_UPLOAD = re.compile(rb"upload:([A-Za-z0-9_-]+)")

T = TypeVar("T")


class Sweeper:
    """Every web process runs one, for its share of the partitions; the store says which of them removes a
    job."""

    def __init__(self, store: JobStore, keeper: Keeper, data_dir: Path, *, upload_ttl_s: float) -> None:
        self._store = store
        self._keeper = keeper
        self._artifacts = data_dir / ARTIFACTS
        self._uploads = data_dir / UPLOADS
        self._upload_ttl_s = upload_ttl_s

    def start(self) -> None:
        """Sweep until the process ends."""
        forever("sweeper", self.sweep_jobs, pause_s=PERIOD_S)
        pause_s = min(UPLOADS_PERIOD_S, self._upload_ttl_s / 2)
        forever("sweeper of uploads", self.sweep_uploads, pause_s=pause_s)

    def sweep_jobs(self) -> None:
        """Remove the jobs whose retention is over, with their files."""
        while expired := self._store.alarms.expired(self._keeper.share):
            for job_id in expired:
                remove_tree(self._artifacts / job_id)
                self._store.alarms.sweep(job_id)

    def sweep_uploads(self) -> None:
        """Remove the uploads that no job has used for `upload_ttl_s`, and what broken uploads left.

        A live job that names an upload uses it; so does a worker that opens it.
        """
        old = off_the_loop(lambda: _older_than(self._uploads, time.time() - self._upload_ttl_s))
        if not old:
            return
        named = {
            upload.decode()
            for params in self._store.listings.live_params()
            for upload in _UPLOAD.findall(params)
        }
        for directory in old:
            if directory.name in named:
                off_the_loop(lambda used=directory: os.utime(used))  # type: ignore[misc]
            else:
                log.info("upload %s is removed: no job has used it for a while", directory.name)
                remove_tree(directory)


def _older_than(directory: Path, moment: float) -> list[Path]:
    """The directories in it that were last used before this moment, in seconds since 1970."""
    if not directory.is_dir():
        return []
    return [path for path in directory.iterdir() if path.is_dir() and _last_used(path) < moment]


def _last_used(upload: Path) -> float:
    """An upload that is still coming in changes its data, not its directory."""
    try:
        return max(path.stat().st_mtime for path in (upload, *upload.iterdir()))
    except OSError:  # it went meanwhile
        return float("inf")


def remove_tree(directory: Path) -> None:
    """Remove a directory and all in it, if it is there, without holding up the event loop."""
    off_the_loop(lambda: shutil.rmtree(directory, ignore_errors=True))


def off_the_loop(work: Callable[[], T]) -> T:
    """Do work that blocks, such as on a disk: under greenlets in gevent's thread pool, else here."""
    if gevent.monkey.is_module_patched("threading"):
        result: T = gevent.get_hub().threadpool.apply(work)
        return result
    return work()

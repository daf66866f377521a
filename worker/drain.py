"""Drain: a worker takes no new jobs and lets its own end, as it was told to or as its disk is full."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection
from pathlib import Path

from celery.worker import state

from headway.contract.local_files import LocalFiles
from headway.contract.pauses import Pauses, Subject
from headway.loops import retry_until_reachable
from worker.broker import intake

logger = logging.getLogger(__name__)

TICK_S = 0.1


class Drain:
    """Keeps this worker from taking jobs while it is paused in the store, or lacks scratch space.

    While it is paused, the store refuses its claims, so a message that is still on its way changes
    nothing. For want of scratch space, a job would fail here that may succeed elsewhere.
    """

    def __init__(self, pauses: Pauses, worker: str, data_dir: Path, min_free_bytes: int) -> None:
        self._pauses = pauses
        self._worker = worker
        self._disk = LocalFiles(data_dir)
        self._min_free_bytes = min_free_bytes
        self._stopping = False
        self._settle(paused=False)

    @property
    def disk_full(self) -> bool:
        free = self._disk.free_bytes()
        return free is not None and free < self._min_free_bytes

    def look(self) -> None:
        """Take messages, or take none any more, as the store and the disk have it. Raises RedisError."""
        self._settle(paused=self._pauses.of(Subject("worker", self._worker)) is not None)

    def _settle(self, *, paused: bool) -> None:
        full = self.disk_full
        if intake.open == (paused or full) and not self._stopping:
            if full:
                logger.warning("the disk of DATA_DIR is full (MIN_FREE_BYTES): no new jobs are taken")
            else:
                logger.info("draining: no new jobs are taken" if paused else "jobs are taken again")
            intake.open = not (paused or full)

    def stop(self, limit_s: float, then: Callable[[], None]) -> None:
        """Take nothing new, and call `then` when no job runs, at the latest after `limit_s` seconds.
        Returns at once; a signal handler may call it."""
        self._stopping, intake.open = True, False
        threading.Thread(target=self._wait, args=(limit_s, then), daemon=True).start()

    def _wait(self, limit_s: float, then: Callable[[], None]) -> None:
        deadline = time.monotonic() + limit_s
        logger.info("stopping: running jobs have %g s to end", limit_s)
        threading.Thread(target=self._refuse_claims, daemon=True).start()
        running: Collection[object] = state.reserved_requests
        while running and time.monotonic() < deadline:
            time.sleep(TICK_S)
        if running:
            logger.warning("%d jobs have not ended in time and are handed back", len(running))
        then()

    def _refuse_claims(self) -> None:
        retry_until_reachable(lambda: self._pauses.add(Subject("worker", self._worker)), "the drain")

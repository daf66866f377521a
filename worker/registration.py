"""Presence: while a worker is up, the store knows the job types it serves."""

from __future__ import annotations

import logging
import shutil
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import redis

from headway.contract.store import JobStore
from headway.sdk.attempt_dirs import remove_attempts

INTERVAL_S = 3.0
ALIVE_S = 10.0
"""A worker counts as alive this long after it was last heard of."""
SWEEP_INTERVAL_S = 30.0
FORGOTTEN_S = 86_400.0
"""A work directory of a job that Redis does not know is removed after this long without a change."""

logger = logging.getLogger(__name__)


class Presence:
    """Registers a worker and its job types every few seconds, and removes what killed attempts left
    behind."""

    def __init__(
        self,
        store: JobStore,
        worker: str,
        about: Mapping[str, Any],
        types: Mapping[str, str],
        data_dir: Path,
    ) -> None:
        self._store = store
        self._worker = worker
        self._about = about
        self._types = types
        self._work = data_dir / "work"
        self._gone = threading.Event()
        self._thread = threading.Thread(target=self._run, name="presence", daemon=True)

    def start(self) -> None:
        """Register now, and again every few seconds, from a thread."""
        self._thread.start()

    def stop(self) -> None:
        """No longer count as alive; what Redis says to that does not matter any more."""
        self._gone.set()
        if self._thread.is_alive():
            self._thread.join(1)
            with suppress(redis.RedisError):
                self._store.registry.forget(self._worker, self._types)

    def _run(self) -> None:
        swept = float("-inf")
        while True:
            try:
                self._store.registry.register(self._worker, self._types, ALIVE_S, self._about)
                if time.monotonic() - swept >= SWEEP_INTERVAL_S:
                    swept = time.monotonic()
                    sweep(self._store, self._work)
            except (redis.RedisError, OSError) as error:
                logger.warning("job types are not registered, or files not swept: %s", error)
            if self._gone.wait(INTERVAL_S):
                return


def sweep(store: JobStore, work: Path) -> None:
    """Remove the directories of attempts that are over: whoever had them was killed."""
    if not work.is_dir():
        return
    found = [path.name for path in work.iterdir()]
    for job_id in found:
        job = store.get(job_id)
        if job is not None and not job.ended:
            remove_attempts(work / job_id, before=job.attempt)
        # An unknown one may belong to another Redis with the same DATA_DIR.
        elif job is not None or time.time() - (work / job_id).stat().st_mtime > FORGOTTEN_S:
            shutil.rmtree(work / job_id, ignore_errors=True)

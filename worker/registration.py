"""Registration: while a worker is up, the store knows the job types it serves."""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from headway.contract.store import JobStore
from headway.loops import forever
from headway.sdk.attempt_dirs import remove_attempts

INTERVAL_S = 3.0
ALIVE_S = 10.0
"""A worker counts as alive this long after its last heartbeat."""
SWEEP_INTERVAL_S = 30.0
FORGOTTEN_S = 86_400.0
"""A work directory of a job that Redis does not know is removed after this long without a change."""


class Registration:
    """Registers a worker and its job types every few seconds, and removes what killed attempts left
    behind."""

    def __init__(
        self,
        store: JobStore,
        worker: str,
        about: Callable[[], Mapping[str, Any]],
        types: Mapping[str, str],
        data_dir: Path,
        registered: Callable[[], None] = lambda: None,
    ) -> None:
        """`about` is called for each registration: what the registry shows of the worker; `registered`
        after each."""
        self._store = store
        self._worker = worker
        self._about = about
        self._types = types
        self._work = data_dir / "work"
        self._registered = registered
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Register now, and again every few seconds, from a thread."""
        self._thread = forever(
            "registration", self._register, pause_s=INTERVAL_S, stop=self._stopped, at_end=self._forget
        )
        forever("work sweep", self._sweep, pause_s=SWEEP_INTERVAL_S, stop=self._stopped)

    def stop(self) -> None:
        """No longer count as alive. Waits for a registration that is under way, and then for Redis.

        An error of Redis is ignored: the registration runs out anyway.
        """
        self._stopped.set()
        if self._thread is not None:
            self._thread.join()

    def _register(self) -> None:
        self._store.registry.register(self._worker, self._types, ALIVE_S, self._about())
        self._registered()

    def _forget(self) -> None:
        self._store.registry.forget(self._worker, self._types)

    def _sweep(self) -> None:
        sweep(self._store, self._work)


def sweep(store: JobStore, work: Path) -> None:
    """Remove the directories of attempts that are over: the processes that had them were killed."""
    if not work.is_dir():
        return
    for directory in list(work.iterdir()):
        # Not as a record: a newer version may have written a state or an error that this one does not know.
        page = store.read(directory.name, None, 0)
        if page is not None and not page.ended:
            remove_attempts(directory, before=json.loads(page.fields[b"attempt"]))
        # An unknown one may belong to another Redis with the same DATA_DIR.
        elif page is not None or time.time() - directory.stat().st_mtime > FORGOTTEN_S:
            shutil.rmtree(directory, ignore_errors=True)

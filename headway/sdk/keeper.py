"""Keeper: the thread of a process that looks after whichever attempt runs there."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from headway.loops import forever

TICK_S = 0.1
IDLE_TICKS = 10
"""After so many without an attempt the thread sleeps until there is one."""


class Keeper:
    """Calls what it was given some times a second, from a thread that outlives the attempts: to start one
    costs more than a short job."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._look: Callable[[], object] | None = None
        self._idle = IDLE_TICKS
        self._wake = threading.Event()
        self._started = False

    @contextmanager
    def watching(self, look: Callable[[], object]) -> Iterator[None]:
        """Have `look` called during the block. A call that is under way at its end is waited for."""
        with self._lock:
            self._look = look
            if self._idle >= IDLE_TICKS:
                self._idle = 0
                self._wake.set()
        if not self._started:
            self._started = True
            forever("keeper", self._step, pause_s=TICK_S)
        try:
            yield
        finally:
            with self._lock:
                self._look = None

    def _step(self) -> None:
        self._wake.wait()
        with self._lock:
            if self._look is not None:
                self._idle = 0
                self._look()
                return
            self._idle += 1
            if self._idle >= IDLE_TICKS:
                self._wake.clear()

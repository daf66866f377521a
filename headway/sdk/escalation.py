"""Escalation: makes a task end that must, by ever stronger means."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable

from headway.sdk.stopping import Stop
from headway.sdk.subprocesses import GRACE_S, Subprocesses

INTERRUPT = signal.SIGUSR2
INTERRUPT_AFTER_S = 2.0
GIVE_UP_AFTER_S = 10.0
"""A task that ignores even the interrupt for this long takes its process with it."""


class Escalation:
    """Subprocesses get SIGTERM at once and SIGKILL after GRACE_S; the task's thread is interrupted once a
    second from INTERRUPT_AFTER_S on; after GIVE_UP_AFTER_S `give_up` is called, which ends the process.

    Made in the thread that runs the task. Only a main thread can be interrupted.
    """

    def __init__(self, stop: Stop, subprocesses: Subprocesses, give_up: Callable[[], object]) -> None:
        self._stop = stop
        self._subprocesses = subprocesses
        self._give_up = give_up
        main = threading.main_thread()
        self._thread = main.ident if threading.current_thread() is main else None
        self._since: float | None = None
        self._next_interrupt_s = INTERRUPT_AFTER_S

    def step(self, *, task_runs: bool) -> None:
        """Do what is due by now; called several times a second from a thread beside the task."""
        if not (task_runs and self._stop.pending):
            self._since = None
            return
        if self._since is None:
            self._since = time.monotonic()
            self._next_interrupt_s = INTERRUPT_AFTER_S
            self._subprocesses.signal(signal.SIGTERM)
        waited_s = time.monotonic() - self._since
        if waited_s >= GRACE_S:
            self._subprocesses.signal(signal.SIGKILL)
        if waited_s >= self._next_interrupt_s:
            self._next_interrupt_s += 1
            if self._thread is not None:
                signal.pthread_kill(self._thread, INTERRUPT)
        if waited_s >= GIVE_UP_AFTER_S:
            self._give_up()

"""Restarts a worker whose broker connection died silently.

A connection can be dead without anybody being told, and the consumer waits on it for ever: messages wait, a
process is idle, and none arrives.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence

from celery.signals import task_received
from celery.worker import state
from kombu.connection import Connection

from headway.broker import errors_of, waiting
from headway.loops import forever
from worker.broker import intake

logger = logging.getLogger(__name__)

UNRESPONSIVE_S = 30.0
"""Without a message for this long, with some waiting and a process idle, the connection counts as dead."""
CHECK_S = 3.0


class BrokerWatchdog:
    """Checks every CHECK_S whether this worker still receives, and calls `restart` once if it does not."""

    def __init__(
        self, broker: Connection, queues: Sequence[str], concurrency: int, restart: Callable[[], None]
    ) -> None:
        """`broker` is a connection of its own: the consumer's may be what is broken."""
        self._broker = broker
        self._errors = errors_of(broker)
        self._queues = queues
        self._concurrency = concurrency
        self._restart = restart
        self._received_at = time.monotonic()
        self._done = threading.Event()

    def start(self) -> None:
        """Check until the process ends, from a thread."""
        task_received.connect(self._received, weak=False)
        self._received()
        forever("broker watchdog", self._check, pause_s=CHECK_S, stop=self._done)

    def _received(self, **_: object) -> None:
        self._received_at = time.monotonic()

    def _check(self) -> None:
        try:
            messages = sum(waiting(self._broker, queue) for queue in self._queues)
        except self._errors:
            # The broker is away, which a restart would not mend.
            self._broker.collect()
            messages = 0
        if not messages or not intake.open or len(state.reserved_requests) >= self._concurrency:
            self._received()
        elif time.monotonic() - max(self._received_at, intake.dropped_at) >= UNRESPONSIVE_S:
            logger.error(
                "%d messages wait, none was received for %g s: restarting", messages, UNRESPONSIVE_S
            )
            self._done.set()
            self._restart()

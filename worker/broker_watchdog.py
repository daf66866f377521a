"""Hearing: a worker that takes no message though there are some and it is idle has gone deaf.

A connection to the broker can be dead without anybody being told, and the consumer waits on it for ever.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence

import redis
from celery.signals import task_received
from celery.worker import state

logger = logging.getLogger(__name__)

DEAF_S = 30.0
"""So long without a message, with some waiting and a process idle, is deaf."""
CHECK_S = 3.0


class Hearing:
    """Looks every few seconds whether this worker still hears, and calls `deaf` once if it does not."""

    def __init__(
        self, broker: redis.Redis, queues: Sequence[str], concurrency: int, deaf: Callable[[], None]
    ) -> None:
        """`broker` is a connection of its own: the consumer's may be what is broken. `queues` are the
        keys of the lists there."""
        self._broker = broker
        self._queues = queues
        self._concurrency = concurrency
        self._deaf = deaf
        self._heard_at = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="hearing", daemon=True)

    def start(self) -> None:
        task_received.connect(self._heard, weak=False)
        self._heard()
        self._thread.start()

    def _heard(self, **_: object) -> None:
        self._heard_at = time.monotonic()

    def _run(self) -> None:
        while True:
            time.sleep(CHECK_S)
            try:
                waiting = sum(int(self._broker.llen(queue)) for queue in self._queues)
            except redis.RedisError:
                # Whoever cannot reach the broker is not deaf, and starting anew would mend nothing.
                waiting = 0
            if not waiting or len(state.reserved_requests) >= self._concurrency:
                self._heard()
            elif time.monotonic() - self._heard_at >= DEAF_S:
                logger.error("%d messages wait, none was heard for %g s: starting anew", waiting, DEAF_S)
                self._deaf()
                return

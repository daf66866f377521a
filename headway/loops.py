"""Loops in the background that outlive their own errors."""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable

import redis

log = logging.getLogger(__name__)

JITTER = 0.2
"""How far a pause strays from its length, so that processes do not move in step."""


def forever(
    name: str,
    step: Callable[[], float | None],
    *,
    pause_s: float,
    stop: threading.Event | None = None,
) -> threading.Thread:
    """Start a daemon thread called `name` that calls `step` again and again.

    Between two calls it pauses for `pause_s`, or for the seconds that `step` returned, give or take
    JITTER. An error of `step` is logged (a RedisError or OSError in one line, anything else with its
    traceback) and followed by the same pause: nobody would notice a loop that died. Returns the thread;
    it ends only when `stop` is set, and at once then.
    """
    ended = stop or threading.Event()

    def run() -> None:
        while not ended.is_set():
            pause: float | None = None
            try:
                pause = step()
            except (redis.RedisError, OSError) as error:
                log.warning("%s: %s", name, error)
            except Exception:
                log.exception("%s: unexpected error", name)
            seconds = pause_s if pause is None else pause
            if seconds:
                ended.wait(seconds * random.uniform(1 - JITTER, 1 + JITTER))  # noqa: S311

    thread = threading.Thread(target=run, name=name, daemon=True)
    thread.start()
    return thread

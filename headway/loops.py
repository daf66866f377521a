"""Loops that outlive errors: one in the background for ever, one until Redis answers."""

from __future__ import annotations

import contextvars
import logging
import random
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

import redis

log = logging.getLogger(__name__)

T = TypeVar("T")

# A task may have seeded the other one, and is not to get other numbers because of a thread of ours.
_random = random.SystemRandom()

JITTER = 0.2
"""How far a pause strays from its length, so that processes do not move in step."""
ERROR_PAUSE_S = 0.5
"""Shortest pause after an error: a loop that otherwise never pauses must not spin on one that stays."""


def forever(
    name: str,
    step: Callable[[], float | None],
    *,
    pause_s: float,
    stop: threading.Event | None = None,
    at_end: Callable[[], object] | None = None,
) -> threading.Thread:
    """Start a daemon thread called `name` that calls `step` again and again, in the caller's context.

    Between two calls it pauses for `pause_s`, or for the seconds that `step` returned, give or take
    JITTER. An error of `step` is logged (a RedisError or OSError in one line, and only once while it stays
    the same; anything else with its traceback) and followed by a pause of at least ERROR_PAUSE_S: nobody
    would notice a loop that died.
    Returns the thread; it ends only when `stop` is set, and at once then, but for a call of `at_end`, whose
    RedisError is ignored.
    """
    ended = stop or threading.Event()

    def run() -> None:
        said = None
        while not ended.is_set():
            try:
                pause = step()
                seconds = pause_s if pause is None else pause
                if said is not None:
                    log.info("%s goes on", name)
                    said = None
            except (redis.RedisError, OSError) as error:
                # Twice a second for as long as Redis is away would fill the log, which may be a project's.
                if str(error) != said:
                    log.warning("%s: %s", name, error)
                    said = str(error)
                seconds = max(pause_s, ERROR_PAUSE_S)
            except Exception:
                log.exception("%s: unexpected error", name)
                seconds = max(pause_s, ERROR_PAUSE_S)
            if seconds:
                ended.wait(seconds * _random.uniform(1 - JITTER, 1 + JITTER))
        if at_end is not None:
            with suppress(redis.RedisError):
                at_end()

    thread = threading.Thread(target=contextvars.copy_context().run, args=(run,), name=name, daemon=True)
    thread.start()
    return thread


def retry_until_reachable(
    call: Callable[[], T],
    what: str,
    *,
    limit_s: float = float("inf"),
    give_up: Callable[[], bool] = lambda: False,
) -> T:
    """Call until Redis answers, with a pause that doubles from 0.05 s to 1 s. Returns what `call` returned.

    That `what` waits is logged once. Raises the RedisError of the last try when `limit_s` would be over
    or `give_up()` is true; any other error of `call` at once.
    """
    deadline = time.monotonic() + limit_s
    pause_s = 0.05
    while True:
        try:
            return call()
        except redis.RedisError as error:
            if time.monotonic() + pause_s > deadline or give_up():
                raise
            if pause_s == 0.05:
                log.warning("%s waits for Redis: %s", what, error)
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, 1.0)

"""A loop in the background outlives its own errors."""

from __future__ import annotations

import logging
import queue
import threading

import pytest
import redis

from headway.loops import forever


@pytest.mark.parametrize("error", [redis.ConnectionError("gone"), OSError("full"), KeyError("a bug")])
def test_a_loop_goes_on_after_an_error_and_logs_it(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "headway.loops")
    stop = threading.Event()
    calls: queue.Queue[int] = queue.Queue()

    errors = iter([error])

    def step() -> float:
        calls.put(1)
        for first in errors:
            raise first
        return 0.001

    thread = forever("the step", step, pause_s=0.001, stop=stop)
    for _ in range(3):
        calls.get(timeout=10)
    stop.set()
    thread.join(10)
    assert not thread.is_alive()
    (record,) = caplog.records
    assert "the step" in record.getMessage()
    assert bool(record.exc_info) == isinstance(error, KeyError)


def test_a_stop_ends_the_pause() -> None:
    stop = threading.Event()
    thread = forever("sleeper", lambda: None, pause_s=3600, stop=stop)
    stop.set()
    thread.join(10)
    assert not thread.is_alive()

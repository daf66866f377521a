"""A background loop outlives its own errors; a call is repeated until Redis answers."""

from __future__ import annotations

import logging
import queue
import threading

import pytest
import redis

from headway.loops import forever, retry_until_reachable


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


def test_an_error_that_stays_is_logged_once_and_so_is_its_end(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "headway.loops")
    stop = threading.Event()
    errors = iter([OSError("gone"), OSError("gone"), OSError("loading"), OSError("gone")])

    def step() -> float:
        for error in errors:
            raise error
        if len(caplog.records) > 3:
            stop.set()
        return 0.001

    forever("the step", step, pause_s=0.001, stop=stop).join(10)
    said = [record.getMessage() for record in caplog.records]
    assert said == ["the step: gone", "the step: loading", "the step: gone", "the step goes on"]


def test_a_stop_ends_the_pause() -> None:
    stop = threading.Event()
    thread = forever("sleeper", lambda: None, pause_s=3600, stop=stop)
    stop.set()
    thread.join(10)
    assert not thread.is_alive()


def test_a_call_is_repeated_until_redis_answers(caplog: pytest.LogCaptureFixture) -> None:
    errors = iter([redis.ConnectionError("gone"), redis.TimeoutError("slow")])

    def call() -> str:
        for error in errors:
            raise error
        return "the answer"

    assert retry_until_reachable(call, "the caller") == "the answer"
    (record,) = caplog.records
    assert record.getMessage() == "the caller waits for Redis: gone"


def test_a_call_is_not_repeated_after_its_limit_when_it_gave_up_or_for_other_errors() -> None:
    def fails(error: Exception) -> None:
        calls.append(1)
        raise error

    calls: list[int] = []
    gone = redis.ConnectionError("gone")
    with pytest.raises(redis.ConnectionError):
        retry_until_reachable(lambda: fails(gone), "it", limit_s=0)
    with pytest.raises(redis.ConnectionError):
        retry_until_reachable(lambda: fails(gone), "it", give_up=lambda: True)
    with pytest.raises(ValueError):
        retry_until_reachable(lambda: fails(ValueError()), "it")
    assert len(calls) == 3

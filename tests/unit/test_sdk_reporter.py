"""The limiter that keeps a talkative task from flooding its readers; how long a retry waits."""

from __future__ import annotations

import pytest

from headway.sdk.reporter import MAX_LINES_PER_S, LogLine, LogRateLimiter
from headway.sdk.retry import Retry


def line(at: float) -> LogLine:
    return LogLine(at, "info", "x")


def test_two_hundred_lines_a_second_pass_and_the_rest_are_counted() -> None:
    limiter = LogRateLimiter()
    passed = [out for n in range(1000) for out in limiter.take(line(n / 1000))]
    assert len(passed) == MAX_LINES_PER_S
    (count,) = limiter.settle(1)
    assert count.message == "800 log lines left out: more than can be kept"
    assert count.level == "warning"
    assert limiter.settle(2) == []


def test_the_count_comes_before_the_next_line() -> None:
    limiter = LogRateLimiter()
    for _ in range(MAX_LINES_PER_S + 1):
        limiter.take(line(0))
    assert [out.message.partition(":")[0] for out in limiter.take(line(5))] == ["1 log line left out", "x"]


def test_a_slow_task_is_never_held_up() -> None:
    limiter = LogRateLimiter()
    assert all(
        limiter.take(line(n / MAX_LINES_PER_S)) == [line(n / MAX_LINES_PER_S)] for n in range(10_000)
    )


def test_retries_wait_longer_each_time_with_full_jitter() -> None:
    policy = Retry()
    assert [policy.delay_s(n, lambda: 1.0) for n in (1, 2, 3, 7, 1000)] == [1, 2, 4, 60, 60]
    assert policy.delay_s(5, lambda: 0.0) == 0
    assert all(0 <= policy.delay_s(3) <= 4 for _ in range(100))


def test_a_policy_says_how_long_and_which_errors() -> None:
    policy = Retry(first_s=10, max_s=30, jitter=0.5, on=(OSError,), never=(FileNotFoundError,))
    assert [policy.delay_s(n, lambda: 0.0) for n in (1, 2, 3)] == [5, 10, 15]
    assert [policy.delay_s(n, lambda: 1.0) for n in (1, 2, 3)] == [10, 20, 30]
    assert policy.covers(ConnectionError())
    assert not policy.covers(FileNotFoundError())
    assert not policy.covers(ValueError())
    for wrong in ({"first_s": -1}, {"first_s": 9, "max_s": 1}, {"jitter": 2}):
        with pytest.raises(ValueError):
            Retry(**wrong)

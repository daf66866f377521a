"""How a task learns that it must end, also when that comes from a signal handler at the worst moment."""

from __future__ import annotations

import subprocess
import sys
import threading
import time

import pytest

from headway.sdk.stopping import JobCanceled, LeaseLost, Stop, WorkerStopping

SIGNAL_BEFORE_EACH_LINE = """
import signal, sys
from headway.sdk.stopping import Stop, WorkerStopping

def waits(signal_at):
    '''A wait whose line number `signal_at`, counted over all it calls, is preceded by the signal.'''
    stop, line = Stop(), 0
    signal.signal(signal.SIGTERM, lambda *_: stop.request(WorkerStopping))

    def trace(frame, event, argument):
        nonlocal line
        if event == "line":
            line += 1
            if line == signal_at:
                sys.settrace(None)
                signal.raise_signal(signal.SIGTERM)
        return trace

    sys.settrace(trace)
    ended = stop.wait(0.005)
    sys.settrace(None)
    return line, ended

length, _ = waits(-1)
for number in range(1, length + 1):
    _, ended = waits(number)
    print(number, ended)
"""


def test_a_signal_handler_may_request_the_end_whatever_the_task_waits_for() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", SIGNAL_BEFORE_EACH_LINE], capture_output=True, text=True, timeout=30
    )
    lines = ran.stdout.splitlines()
    assert ran.returncode == 0, ran.stderr
    assert len(lines) > 3
    assert lines[0] == "1 True"


def test_a_wait_ends_when_another_thread_requests_the_end() -> None:
    stop = Stop()
    timer = threading.Timer(0.05, stop.request, (JobCanceled,))
    timer.start()
    started = time.monotonic()
    assert stop.wait(30)
    assert time.monotonic() - started < 10
    timer.join()
    with pytest.raises(JobCanceled):
        stop.check()


def test_a_wait_that_nobody_ends_lasts_its_time() -> None:
    started = time.monotonic()
    assert not Stop().wait(0.05)
    assert time.monotonic() - started >= 0.05


def test_a_shielded_wait_lasts_its_time_and_the_next_check_raises() -> None:
    stop = Stop()
    with stop.shield():
        stop.request(JobCanceled)
        assert not stop.wait(0.02)
        stop.check()
    with pytest.raises(JobCanceled):
        stop.check()


def test_a_lost_lease_overrides_other_reasons_and_shields() -> None:
    stop = Stop()
    stop.request(WorkerStopping)
    with stop.shield(even_lost_lease=True):
        stop.request(LeaseLost)
        stop.check()
    with stop.shield(), pytest.raises(LeaseLost):
        stop.check()

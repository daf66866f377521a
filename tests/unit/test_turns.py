"""Turns among requests, on gevent's real loop, by a clock that stands still."""

from __future__ import annotations

import gevent
import pytest
from gevent import socket

from service.process import turns as turns_module
from service.process.turns import TURN_S, Turns


class Clock:
    now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(turns_module, "time", clock)
    return clock


def test_what_has_just_come_is_served_before_all_that_waits(clock: Clock) -> None:
    turns, served = Turns(), []
    ours, theirs = socket.socketpair()

    def work(number: int) -> None:
        turns.take()
        if number == 5:
            theirs.send(b"GET /healthz")
        clock.now += TURN_S
        served.append(number)

    def probe() -> None:
        ours.recv(100)
        turns.take(first=True)
        served.append("probe")

    with ours, theirs:
        waiting = [gevent.spawn(probe), *(gevent.spawn(work, number) for number in range(50))]
        gevent.joinall(waiting, timeout=30)
    assert len(served) == 51
    assert served.index("probe") <= 12
    served.remove("probe")
    assert served == list(range(50))


def test_what_waits_has_its_turn_however_much_comes(clock: Clock) -> None:
    turns, served = Turns(), []

    def work(*, first: bool, times: int) -> None:
        for _ in range(times):
            turns.take(first=first)
            clock.now += TURN_S / 5
            served.append(first)

    gevent.joinall(
        [
            *(gevent.spawn(work, first=True, times=50) for _ in range(10)),
            gevent.spawn(work, first=False, times=20),
        ],
        timeout=30,
    )
    assert len(served) == 520
    assert False not in served[-200:]


def test_who_is_alone_does_not_wait(clock: Clock) -> None:
    turns = Turns()
    turns.take()
    clock.now += TURN_S
    # Another look of the loop is due, and then it goes on.
    gevent.spawn(turns.take).join(30)


def test_a_greenlet_that_ends_while_it_waits_is_in_nobodys_way(clock: Clock) -> None:
    turns, served = Turns(), []

    def work(number: int) -> None:
        turns.take()
        clock.now += TURN_S
        served.append(number)

    workers = [gevent.spawn(work, number) for number in range(3)]
    gevent.spawn(workers[1].kill)
    gevent.joinall(workers, timeout=30)
    assert served == [0, 2]

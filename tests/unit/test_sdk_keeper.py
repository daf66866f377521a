"""Keeper: one thread for all attempts of a process."""

from __future__ import annotations

import threading

from headway.sdk.keeper import Keeper


class Looked:
    def __init__(self) -> None:
        self.thread = 0
        self.over = False
        self.once = threading.Event()

    def __call__(self) -> None:
        assert not self.over
        self.thread = threading.get_ident()
        self.once.set()


def test_one_thread_looks_after_one_attempt_after_the_other_and_never_after_its_end() -> None:
    keeper = Keeper()
    looks = [Looked(), Looked()]
    for look in looks:
        with keeper.watching(look):
            assert look.once.wait(10)
        look.over = True
    assert looks[0].thread == looks[1].thread != threading.get_ident()


def test_a_look_that_is_under_way_is_waited_for() -> None:
    keeper = Keeper()
    begun, go_on, left = threading.Event(), threading.Event(), threading.Event()

    def look() -> None:
        begun.set()
        go_on.wait(10)

    def attempt() -> None:
        with keeper.watching(look):
            begun.wait(10)
        left.set()

    thread = threading.Thread(target=attempt)
    thread.start()
    assert begun.wait(10)
    assert not left.is_set()
    go_on.set()
    thread.join(10)
    assert left.is_set()

"""TerminalGuard: keeps a terminal intact while bars are drawn in it."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import termios
from collections.abc import Iterator
from typing import Any, Self


class TerminalGuard:
    """Within the block keys are not echoed: a `^C` or a newline amid the bars would shift them and leave a
    row behind. Ctrl-C and SIGTERM leave the block, which restores the terminal."""

    def __init__(self) -> None:
        self._leave = contextlib.ExitStack()
        self._busy = False
        self._came: int | None = None

    def __enter__(self) -> Self:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._leave.callback(signal.signal, number, signal.signal(number, self._heard))
        if _in_foreground():
            self._leave.enter_context(_no_echo())
        return self

    def __exit__(self, *_: object) -> None:
        self._leave.close()

    @contextlib.contextmanager
    def whole(self) -> Iterator[None]:
        """Draw to the end before a signal is handled: what is half drawn would be drawn once more."""
        self._busy = True
        try:
            yield
        finally:
            self._busy = False
        if self._came is not None:
            _end(self._came)

    def _heard(self, number: int, _: Any) -> None:
        if self._busy:
            self._came = number
        else:
            _end(number)


def _end(number: int) -> None:
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    sys.exit(128 + number)


def _in_foreground() -> bool:
    """Whether this process may change the terminal; a background process would be stopped for it."""
    try:
        return os.tcgetpgrp(sys.stdin.fileno()) == os.getpgrp()
    except (AttributeError, OSError, ValueError):  # no stdin, or not our terminal
        return False


@contextlib.contextmanager
def _no_echo() -> Iterator[None]:
    terminal = sys.stdin.fileno()
    before = termios.tcgetattr(terminal)
    silent = termios.tcgetattr(terminal)
    silent[3] &= ~termios.ECHO
    termios.tcsetattr(terminal, termios.TCSADRAIN, silent)
    try:
        yield
    finally:
        if _in_foreground():
            termios.tcsetattr(terminal, termios.TCSADRAIN, before)

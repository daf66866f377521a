"""The keyboard while something is drawn that moves."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import termios
from collections.abc import Iterator
from typing import NoReturn


@contextlib.contextmanager
def unheard() -> Iterator[None]:
    """Keys are not echoed: a `^C` or a new line in the middle of the bars would shift them, and leave a row
    of them behind. And a SIGTERM leaves the block, so that the terminal is as it was."""
    before = signal.signal(signal.SIGTERM, _leave)
    try:
        with _no_echo() if _in_foreground() else contextlib.nullcontext():
            yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _in_foreground() -> bool:
    """Whoever else changes a terminal is stopped by it."""
    try:
        return os.tcgetpgrp(sys.stdin.fileno()) == os.getpgrp()
    except (AttributeError, OSError, ValueError):  # there is no stdin, or it is no terminal of ours
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


def _leave(number: int, _: object) -> NoReturn:
    sys.exit(128 + number)

"""A command in a terminal of its own, as a person sees it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import pyte

from tests.support.checkout import ROOT


class Terminal:
    """Leaving the block ends the command and what it started, if that has not ended."""

    def __init__(
        self, *command: str, columns: int = 120, lines: int = 24, cwd: Path = ROOT, **environ: str
    ) -> None:
        self.screen = pyte.Screen(columns, lines)
        self.drawn = b""
        """All that came, with its escape sequences."""
        self._stream = pyte.ByteStream(self.screen)
        self._near, far = pty.openpty()
        fcntl.ioctl(far, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        inherited = {name: text for name, text in os.environ.items() if name not in ("COLUMNS", "LINES")}
        self.process = subprocess.Popen(
            command,
            cwd=cwd,
            # The terminal has a size, and nobody else's counts.
            env={**inherited, "TERM": "xterm-256color", **environ},
            stdin=far,
            stdout=far,
            stderr=far,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(far)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        os.close(self._near)

    @property
    def text(self) -> str:
        """What is on the screen."""
        return "\n".join(line.rstrip() for line in self.screen.display).rstrip()

    @property
    def echoes(self) -> bool:
        return bool(termios.tcgetattr(self._near)[3] & termios.ECHO)

    def type(self, keys: str) -> None:
        os.write(self._near, keys.encode())

    def until(self, holds: Callable[[str], Any], seconds: float = 60) -> None:
        """Read on until the screen is so."""
        deadline = time.monotonic() + seconds
        while not holds(self.text):
            assert time.monotonic() < deadline, f"not within {seconds} s:\n{self.text}"
            self._read(0.2)

    def wait(self, seconds: float = 30) -> int:
        """Its exit status, when all is drawn."""
        deadline = time.monotonic() + seconds
        while self._read(0.2) or self.process.poll() is None:
            assert time.monotonic() < deadline, f"still running after {seconds} s:\n{self.text}"
        return self.process.returncode

    def _read(self, seconds: float) -> bool:
        """Whether something came."""
        if not select.select([self._near], [], [], seconds)[0]:
            return False
        try:
            chunk = os.read(self._near, 65536)
        except OSError:  # EIO: nobody has it open any more
            return False
        self.drawn += chunk
        self._stream.feed(chunk)
        return True

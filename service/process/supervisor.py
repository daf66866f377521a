"""Processes that live and end together: what `make run` holds the Procfile's processes with.

Not honcho's Manager, for four reasons seen in its source (2.0): it sets its deadline for KILL only
once some process has ended by itself, so it waits for ever if none heeds SIGTERM; a signal before every
process has started is a KeyError; between it and each process stands another that ignores SIGTERM and
outlives a killed Manager; and a reader of its output who stops reading stops everything.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from headway.sdk.sandbox import launch

_PR_SET_CHILD_SUBREAPER = 36
_LINE = 16_384
_WRITE = 4096  # PIPE_BUF: what select calls writable takes this much without blocking
_PATIENCE_S = 1.0

_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


class Console:
    """Standard output that is never waited for longer than once for a second.

    Its reader may stop reading, or go; the processes must not notice. Lines that nobody takes are dropped
    and counted, and the count is printed when the reader goes on.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._left_out = 0

    def line(self, text: bytes) -> None:
        patience = 0.0 if self._left_out else _PATIENCE_S
        if self._left_out and self._put(
            b"headway: dropped %d lines: output not being read\n" % self._left_out, 0
        ):
            self._left_out = 0
        if self._left_out or not self._put(text + b"\n", patience):
            self._left_out += 1

    def _put(self, data: bytes, patience: float) -> bool:
        for start in range(0, len(data), _WRITE):
            if not select.select([], [self._fd], [], patience)[1]:
                return False
            with contextlib.suppress(BrokenPipeError):
                os.write(self._fd, data[start : start + _WRITE])
        return True


class _Output:
    """One process's output, cut into lines that carry its name."""

    def __init__(self, prefix: bytes, console: Console) -> None:
        self._prefix = prefix
        self._console = console
        self._rest = b""

    def feed(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > _LINE:
            lines.append(self._rest)
            self._rest = b""
        for line in lines:
            self._console.line(self._prefix + line.rstrip(b"\r"))

    def end(self) -> None:
        if self._rest:
            self.feed(b"\n")


class Supervisor:
    """Starts processes, passes on what they print, and ends them. Use it from the main thread only.

    SIGTERM and SIGINT set `asked_to_stop`, and so does SIGHUP if the terminal was closed; otherwise it sets
    `asked_to_reread`. On Linux it is the subreaper of everything below it, so that `stop` finds those whose
    parents died; and a process it starts is killed when it is.
    """

    def __init__(self, console: Console) -> None:
        self.asked_to_stop = False
        self.asked_to_reread = False
        self._had_terminal = _has_terminal()
        self._console = console
        self._started: dict[str, subprocess.Popen[bytes]] = {}
        self._watched: dict[str, subprocess.Popen[bytes]] = {}
        self._selector = selectors.DefaultSelector()
        self._woken, self._wake = socket.socketpair()
        for end in (self._woken, self._wake):
            end.setblocking(False)
        self._selector.register(self._woken, selectors.EVENT_READ)
        signal.set_wakeup_fd(self._wake.fileno(), warn_on_full_buffer=False)
        for asks in (signal.SIGTERM, signal.SIGINT):
            signal.signal(asks, self._ask_to_stop)
        signal.signal(signal.SIGHUP, self._hang_up)
        signal.signal(signal.SIGCHLD, lambda *_: None)  # so that it wakes `turn`
        if _libc is not None:
            _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1)

    def _ask_to_stop(self, *_: object) -> None:
        self.asked_to_stop = True

    def _hang_up(self, *_: object) -> None:
        if self._had_terminal and not _has_terminal():
            self.asked_to_stop = True
        else:
            self.asked_to_reread = True

    def pass_on(self, signum: int, name: str) -> None:
        """Send a signal to the process of this name, and to no other of its group, if it was started."""
        if name in self._started:
            self._started[name].send_signal(signum)

    def watch(self, name: str, process: subprocess.Popen[bytes]) -> None:
        """Let `ended` tell of a process that its owner started, and will end."""
        self._watched[name] = process

    def start(
        self, name: str, command: str, *, env: Mapping[str, str], cwd: Path, prefix: bytes = b""
    ) -> None:
        """Start a Procfile's command in a session of its own, as honcho and Heroku do."""
        process = subprocess.Popen(
            launch(["/bin/sh", "-c", command], {"parent": os.getpid()}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=env,
            cwd=cwd,
            start_new_session=True,
        )
        self._started[name] = self._watched[name] = process
        if process.stdout is not None:
            os.set_blocking(process.stdout.fileno(), False)
            self._selector.register(process.stdout, selectors.EVENT_READ, _Output(prefix, self._console))

    def turn(self, seconds: float) -> None:
        """Wait until something happens, at most so long; pass on output and reap what has ended."""
        for key, _ in self._selector.select(seconds):
            if key.data is None:
                with contextlib.suppress(BlockingIOError):
                    self._woken.recv(4096)
                continue
            data = os.read(key.fd, 65_536)
            key.data.feed(data)
            if not data:
                key.data.end()
                self._selector.unregister(key.fileobj)
        self._reap()

    def ended(self) -> tuple[str, int] | None:
        """A process that has ended, and its status (negative: the signal that killed it)."""
        for name, process in self._watched.items():
            if process.returncode is not None:
                return name, process.returncode
        return None

    def stop(self, grace_s: float) -> None:
        """End what was started: TERM to each process group, KILL to what is left after the grace."""
        deadline = time.monotonic() + grace_s
        self._signal_groups(signal.SIGTERM, self._living())
        while self._living() and time.monotonic() < deadline:
            self.turn(0.1)
        self._signal_groups(signal.SIGKILL, list(self._started.values()))
        while self._living() or self._kill_orphans():
            self.turn(0.05)
        self.turn(0)

    def _living(self) -> list[subprocess.Popen[bytes]]:
        return [process for process in self._started.values() if process.poll() is None]

    @staticmethod
    def _signal_groups(signum: int, processes: list[subprocess.Popen[bytes]]) -> None:
        for process in processes:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signum)

    def _reap(self) -> None:
        """Collect the dead: our own, and those we inherited as subreaper."""
        while True:
            ours = {p.pid for p in self._watched.values() if p.poll() is None}
            try:
                dead = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if dead is None:
                return
            if dead.si_pid not in ours:
                os.waitpid(dead.si_pid, 0)

    def _kill_orphans(self) -> bool:
        """KILL the processes that became our children when their parents died; whether there were any."""
        ours = {process.pid for process in self._watched.values()}
        found = False
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                # pid (name, which may hold anything) state ppid …
                parent = int(stat.read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
            pid = int(stat.parent.name)
            if parent == os.getpid() and pid not in ours:
                found = True
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        return found


def _has_terminal() -> bool:
    """Whether there is a terminal whose Ctrl-C comes here: a closed one takes itself away [tty(4)]."""
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True

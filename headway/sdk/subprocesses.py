"""Subprocesses: those of one attempt, which end with it whatever happens."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from headway import tracing
from headway.sdk.output import Output
from headway.sdk.sandbox import Policy, Sandbox, launch
from headway.sdk.stopping import Stop

GRACE_S = 2.0
"""From TERM to KILL."""

Stream = int | IO[bytes]


class Subprocesses:
    """Starts each in a session of its own, so that a signal reaches all that it starts, and through
    launcher.py, so that the kernel kills it when this process is killed."""

    def __init__(self, stop: Stop, output: Output, policy: Policy | None = None) -> None:
        self._stop = stop
        self._output = output
        self._policy = policy or Policy()
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[bytes]] = set()
        self.was_signalled = False
        """Whether one was told to end because the job must end: its output is not to be trusted."""

    @contextmanager
    def run(
        self,
        args: Sequence[str | Path],
        *,
        stdin: Stream = subprocess.DEVNULL,
        stdout: Stream = subprocess.DEVNULL,
        stderr: Stream = subprocess.DEVNULL,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        sandbox: Sandbox | None = None,
    ) -> Iterator[subprocess.Popen[bytes]]:
        """Run a subprocess for the length of the block; what still runs at the end of the block is ended.

        `env` replaces the environment; in a sandbox it is added to the sandbox's own. Call from the thread
        that runs the task: the kernel ties the subprocess to that thread. The caller drains the pipes it
        asks for. A program that cannot be started exits with 127; one whose sandbox is required and cannot
        be made, with 126.
        """
        self._stop.check()
        name = Path(args[0]).name
        with tracing.span(f"run {name}", attributes={"process.executable.name": name}) as span:
            with self._run(args, stdin, stdout, stderr, cwd, env, sandbox) as process:
                span.set({"process.pid": process.pid})
                yield process
            span.set({"process.exit.code": process.returncode})
            if process.returncode and not self.was_signalled:
                span.fail("exit", f"{name} ended with status {process.returncode}")

    @contextmanager
    def _run(
        self,
        args: Sequence[str | Path],
        stdin: Stream,
        stdout: Stream,
        stderr: Stream,
        cwd: Path | None,
        env: Mapping[str, str] | None,
        sandbox: Sandbox | None,
    ) -> Iterator[subprocess.Popen[bytes]]:
        spec: dict[str, Any] = {"parent": os.getpid()}
        program, *arguments = map(str, args)
        if sandbox is not None and self._policy.mode != "off":
            program = shutil.which(program) or program
            spec["sandbox"] = sandbox.spec(program, self._policy)
            env = sandbox.environment(env)
        command = launch([program, *arguments], spec)
        # An interrupt between fork and the line after it would lose the process.
        with self._stop.shield(even_lost_lease=True), self._lock:
            process = subprocess.Popen(
                command, stdin=stdin, stdout=stdout, stderr=stderr, cwd=cwd, env=env, start_new_session=True
            )
            self._running.add(process)
        try:
            with self._output.watched():
                yield process
        finally:
            _end(process, GRACE_S)
            for pipe in (process.stdin, process.stdout, process.stderr):
                if pipe is not None:
                    with suppress(OSError):
                        pipe.close()
            with self._lock:
                self._running.discard(process)

    def close(self) -> None:
        """End all that are still running."""
        with self._lock:
            left, self._running = self._running, set()
        for process in left:
            _end(process, GRACE_S)

    def signal(self, number: signal.Signals) -> None:
        """Signal all that are running, with everything they started."""
        with self._lock:
            for process in self._running:
                if process.returncode is None:
                    self.was_signalled = True
                    _signal_group(process, number)


def _end(process: subprocess.Popen[bytes], grace_s: float) -> None:
    if process.returncode is None and not _exited(process, 0):
        _signal_group(process, signal.SIGTERM)
        _exited(process, grace_s)
    # Processes that it started may have outlived it.
    _signal_group(process, signal.SIGKILL)
    process.wait()


def _exited(process: subprocess.Popen[bytes], timeout_s: float) -> bool:
    """Wait for its end without reaping it; return whether it came in time."""
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            if os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                return True
        except ChildProcessError:
            return True
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.01)


def _signal_group(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)

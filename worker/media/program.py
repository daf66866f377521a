"""A run of ffmpeg or ffprobe: in its sandbox, its stderr read, and ended if it stands still."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from subprocess import PIPE, Popen
from typing import IO, Any

from headway.sdk.job import Job
from headway.sdk.sandbox import Sandbox
from worker.media.said import Said

LOOK_S = 5.0
STILL_LOOKS = 24
"""Looks in a row that find no CPU time used since the one before: two minutes."""


class StoodStill(RuntimeError):
    """A program was ended because it did nothing. Another attempt may succeed, if it was the disk."""


@contextmanager
def run_program(
    job: Job[Any],
    command: Sequence[str | Path],
    said: Said,
    *,
    sandbox: Sandbox | None,
    cwd: Path | None = None,
) -> Iterator[Popen[bytes]]:
    """Run a program for the length of the block, which reads its stdout. `said` takes its stderr.

    Raises what `job.check` raises if the job must end, and StoodStill.
    """
    with job.subprocess(command, stdout=PIPE, stderr=PIPE, cwd=cwd, sandbox=sandbox) as process:
        stderr = _StderrReader(process.stderr, said)
        watch = _Watch(process.pid)
        try:
            yield process
            if process.returncode is not None:
                stderr.finish()
        finally:
            watch.stop()
    job.check()
    if watch.stood_still:
        raise StoodStill(
            f"ffmpeg was ended: it had done nothing for {LOOK_S * STILL_LOOKS:.0f} s. "
            f"The disk of the worker may not answer, or this file makes it hang"
        )


class _StderrReader(threading.Thread):
    """Reads what a program says on stderr to the end."""

    def __init__(self, pipe: IO[bytes] | None, said: Said) -> None:
        super().__init__(name="stderr", daemon=True)
        self._pipe = pipe
        self._said = said
        self.start()

    def run(self) -> None:
        if self._pipe is None:
            return
        while line := self._pipe.readline(4096):
            text = line.decode("utf-8", "replace").strip()
            if text:
                self._said.add(text)

    def finish(self) -> None:
        """Wait for the end, once the program has ended; a grandchild that keeps the pipe open does not
        hold us."""
        self.join(1)


class _Watch(threading.Thread):
    """Kills a process that uses no CPU time. It counts its looks and not seconds: while this process is
    stopped too, the other has done nothing wrong."""

    def __init__(self, pid: int) -> None:
        super().__init__(name="standstill", daemon=True)
        self.stood_still = False
        self._pid = pid
        self._ended = threading.Event()
        self.start()

    def run(self) -> None:
        before: int | None = None
        still = 0
        while not self._ended.wait(LOOK_S):
            used = cpu_ticks(self._pid)
            still = still + 1 if used is not None and used == before else 0
            before = used
            if still >= STILL_LOOKS:
                self.stood_still = True
                with suppress(ProcessLookupError):
                    os.kill(self._pid, signal.SIGKILL)
                return

    def stop(self) -> None:
        self._ended.set()
        self.join()


def cpu_ticks(pid: int) -> int | None:
    """Return the CPU time of all threads of a process, in the kernel's ticks; None where nothing tells."""
    try:
        # The name before it, in brackets, may hold anything.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return int(fields[11]) + int(fields[12])

"""A command of the project as somebody types it, and every process that comes of it."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import signal
import subprocess
import sys
from pathlib import Path
from typing import Self

from tests.conftest import missing
from tests.support.stack import ROOT, free_port, until

MARK = "HEADWAY_TEST_MARK"
_OURS = re.compile(r"MAKE|MFLAGS|GNUMAKEFLAGS|REDIS_URL|CELERY_BROKER_URL|HEADWAY_URL")


class Command:
    """Runs in a session of its own, as at a terminal; leaving the block kills whatever is left of it."""

    def __init__(
        self, *arguments: str, data: Path, cwd: Path = ROOT, stdout: int | None = None, **environ: str
    ) -> None:
        self.data = data
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.mark = secrets.token_hex(16)
        data.mkdir(parents=True, exist_ok=True)
        self._output = data.parent / f"{self.mark}.out"
        inherited = {name: value for name, value in os.environ.items() if not _OURS.match(name)}
        settings = {"DATA_DIR": str(data), "PORT": str(self.port), "WORKER_CONCURRENCY": "2"}
        with self._output.open("wb") as out:
            self.process = subprocess.Popen(
                arguments,
                cwd=cwd,
                env={**inherited, **settings, MARK: self.mark, **environ},
                stdin=subprocess.DEVNULL,
                stdout=out if stdout is None else stdout,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                # A shell without job control ignores SIGINT for what it puts in the background.
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.kill()
        self.process.wait()

    @property
    def output(self) -> str:
        return self._output.read_text(errors="replace")

    def processes(self) -> dict[int, str]:
        """All that came of it, by an environment that nobody else has: pid → command line.

        Valkey wipes its environment (it writes its title there) but works in a directory of ours.
        """
        found = {}
        for directory in Path("/proc").glob("[0-9]*"):
            try:
                marked = f"{MARK}={self.mark}".encode() in (directory / "environ").read_bytes()
                if marked or (directory / "cwd").readlink().is_relative_to(self.data.resolve()):
                    words = (directory / "cmdline").read_bytes().replace(b"\0", b" ")
                    found[int(directory.name)] = words.decode(errors="replace")
            except OSError:
                continue  # it has gone, or is not ours to read
        return found

    def wait_ready(self) -> None:
        def ready() -> bool:
            assert self.process.poll() is None, self.output
            return f"Headway is ready at {self.url}\n" in self.output

        until(ready, 60, "the ready line")

    def wait(self, seconds: float) -> int:
        """Its exit status."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {seconds} s:\n{self.output}") from None

    def nothing_left(self, seconds: float = 0) -> None:
        """Assert that no process of it is there, at the latest after so long."""
        until(lambda: not self.processes() or not seconds, seconds, f"the end of {self.processes()}")
        assert not self.processes(), self.output


def make(target: str, *, data: Path, **environ: str) -> Command:
    """`make target` in this checkout, whose set-up must be done: no test may change it."""
    if subprocess.run(["make", "-q", ".venv/ready"], cwd=ROOT, env=_quiet(), check=False).returncode:
        missing("an up-to-date .venv (make setup)")
    return Command("make", target, data=data, **environ)


def service(*arguments: str, data: Path, stdout: int | None = None, **environ: str) -> Command:
    """`python -m service …`, without make before it."""
    return Command(sys.executable, "-m", "service", *arguments, data=data, stdout=stdout, **environ)


def _quiet() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not _OURS.match(name)}

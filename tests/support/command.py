"""A command of the project as somebody types it, and every process that comes of it."""

from __future__ import annotations

import os
import re
import secrets
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Self

from tests.support import processes
from tests.support.checkout import ROOT
from tests.support.programs import missing
from tests.support.stack import free_port
from tests.support.wait import until

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
        processes.signal_all(self.processes(), signal.SIGKILL)
        self.process.kill()
        self.process.wait()

    @property
    def output(self) -> str:
        return self._output.read_text(errors="replace")

    def processes(self) -> dict[int, str]:
        """All that came of it: pid → command line."""
        table = processes.table()
        marked = processes.ours(f"{MARK}={self.mark}", self.data.resolve())
        return {pid: table[pid].command for pid in marked if pid in table}

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


def make(target: str, *, data: Path, **environ: Any) -> Command:
    """`make target` in this checkout, whose set-up must be done: no test may change it."""
    if subprocess.run(["make", "-q", ".venv/ready"], cwd=ROOT, env=_quiet(), check=False).returncode:
        missing("an up-to-date .venv (make setup)")
    return Command("make", target, data=data, **environ)


def service(*arguments: str, data: Path, stdout: int | None = None, **environ: Any) -> Command:
    """`python -m service …`, without make before it."""
    return Command(sys.executable, "-m", "service", *arguments, data=data, stdout=stdout, **environ)


def _quiet() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not _OURS.match(name)}

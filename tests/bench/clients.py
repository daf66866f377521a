"""The C clients: compiled into a temporary directory, run, their line of JSON read."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any, Self

from tests.support.checkout import ROOT

HERE = Path(__file__).parent
SOURCES = ("sseload", "rawfan", "storm", "aborts")


class ClientError(RuntimeError):
    """A client or a server did not do what it should; the message says what it said."""


def compile_all(directory: Path) -> dict[str, Path]:
    """Raises ClientError without a compiler."""
    compiler = shutil.which("cc")
    if compiler is None:
        raise ClientError("no C compiler (cc): the clients of the bench are compiled when it starts")
    for name in SOURCES:
        subprocess.run([compiler, "-O2", "-o", directory / name, HERE / f"{name}.c"], check=True)
    return {name: directory / name for name in SOURCES}


class Client:
    """A running client, or a publisher. Its last line is a JSON object. Leaving the block ends it."""

    def __init__(self, command: list[str | Path], limit_s: float, **environ: str) -> None:
        self.process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, **environ},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._name = Path(command[0]).name
        self._limit_s = limit_s

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()

    def wait_for(self, path: Path, timeout_s: float = 120) -> float:
        """When the client had made the file (monotonic clock). Raises ClientError if it ends first."""
        deadline = time.monotonic() + timeout_s
        while not path.exists():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.process.kill()
                raise ClientError(f"{self._name}: not all came: {self.process.communicate()[1][-500:]}")
            time.sleep(0.002)
        return time.monotonic()

    def result(self) -> dict[str, Any]:
        """What it has found, when it has ended. Raises ClientError if that was not well."""
        out, error = self.process.communicate(timeout=self._limit_s)
        if self.process.returncode != 0:
            raise ClientError(f"{self._name}: {error[-800:]}")
        found: dict[str, Any] = json.loads(out.strip().rpartition("\n")[2])
        if found.get("failed") or found.get("closed"):
            found["words"] = error[:500]
        return found


class Load(Client):
    """sseload. All its connections are open once `opened` exists."""

    def __init__(
        self,
        binary: Path,
        directory: Path,
        port: int,
        path: str,
        connections: int,
        seconds: float,
        *,
        jobs: int = 1,
        window: int = 128,
    ) -> None:
        """`path` may hold a %d for the number of one of so many jobs."""
        self._opened = directory / "open"
        self._opened.unlink(missing_ok=True)
        super().__init__(
            [binary, "127.0.0.1", str(port), path, str(connections), str(seconds)],
            seconds + 120,
            SSELOAD_READY=str(self._opened),
            SSELOAD_MOD=str(jobs),
            SSELOAD_WINDOW=str(window),
        )

    def wait_open(self) -> float:
        """When the last connection had opened, on the monotonic clock."""
        return self.wait_for(self._opened)

"""The C clients: compiled into a temporary directory, run, their line of JSON read."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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


@dataclass(slots=True)
class Load:
    """A running sseload. All its connections are open once `ready` exists."""

    process: subprocess.Popen[str]
    ready: Path
    seconds: float

    def wait_open(self, timeout_s: float = 120) -> float:
        """When the last connection had opened, on the monotonic clock."""
        deadline = time.monotonic() + timeout_s
        while not self.ready.exists():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise ClientError(f"sseload opened not all of its connections: {self._words()}")
            time.sleep(0.002)
        return time.monotonic()

    def result(self) -> dict[str, Any]:
        out, error = self.process.communicate(timeout=self.seconds + 120)
        if self.process.returncode != 0:
            raise ClientError(f"sseload: {error[-500:]}")
        found: dict[str, Any] = json.loads(out)
        if found["failed"] or found["closed"]:
            found["words"] = error[:500]
        return found

    def _words(self) -> str:
        self.process.kill()
        return self.process.communicate()[1][-500:]


def load(
    binary: Path,
    directory: Path,
    port: int,
    path: str,
    connections: int,
    seconds: float,
    *,
    jobs: int = 1,
    window: int = 128,
) -> Load:
    """Start sseload. `path` may hold a %d for the number of one of so many jobs."""
    ready = directory / "open"
    ready.unlink(missing_ok=True)
    environ = {
        **os.environ,
        "SSELOAD_READY": str(ready),
        "SSELOAD_MOD": str(jobs),
        "SSELOAD_WINDOW": str(window),
    }
    process = subprocess.Popen(
        [binary, "127.0.0.1", str(port), path, str(connections), str(seconds)],
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    return Load(process, ready, seconds)


def run(binary: Path, *arguments: str, timeout_s: float = 300, **environ: str) -> dict[str, Any]:
    """A client from beginning to end."""
    done = subprocess.run(
        [binary, *arguments],
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        timeout=timeout_s,
    )
    if done.returncode != 0:
        raise ClientError(f"{binary.name}: {done.stderr[-500:]}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found

"""What tests need of npm, as tests/web/package-lock.json pins it: installed once, beside it."""

from __future__ import annotations

import fcntl
import subprocess
from pathlib import Path

from tests.support.checkout import ROOT
from tests.support.programs import missing, program

WEB = ROOT / "tests/web"


def package(path: str) -> Path:
    """A file of an installed package."""
    lock, stamp = WEB / "package-lock.json", WEB / "node_modules" / ".headway"
    # Of several test processes one installs, and the others wait.
    with lock.open() as waiting:
        fcntl.flock(waiting, fcntl.LOCK_EX)
        _install(lock, stamp)
    return WEB / "node_modules" / path


def _install(lock: Path, stamp: Path) -> None:
    if not stamp.exists() or stamp.read_text() != lock.read_text():
        command = [program("npm"), "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
        ran = subprocess.run(command, cwd=WEB, capture_output=True, text=True, timeout=100)
        if ran.returncode != 0:
            missing(f"what {lock.name} names (npm: {ran.stderr[-300:]})")
        stamp.write_text(lock.read_text())

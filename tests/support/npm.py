"""What tests need of npm, as the lock files below tests/web pin it."""

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
        if not stamp.exists() or stamp.read_text() != lock.read_text():
            install(WEB)
            stamp.write_text(lock.read_text())
    return WEB / "node_modules" / path


def install(project: Path) -> None:
    """What the lock file of this project names, downloaded unless npm has it from an earlier run."""
    command = [program("npm"), "ci", "--prefer-offline", "--ignore-scripts", "--no-audit", "--no-fund"]
    ran = subprocess.run(command, cwd=project, capture_output=True, text=True, timeout=200)
    if ran.returncode != 0:
        missing(f"what {project.name}/package-lock.json names (npm: {ran.stderr[-300:]})")

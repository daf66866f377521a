"""The set-up: it notices what changed, and mends what was interrupted."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.checkout import ROOT
from tests.support.command import Command
from tests.support.wait import until

pytestmark = pytest.mark.long


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The Makefile with requirements that need no network."""
    directory = tmp_path / "checkout"
    (directory / "tests").mkdir(parents=True)
    shutil.copy(ROOT / "Makefile", directory)
    for path in ("requirements.txt", "tests/requirements.txt"):
        (directory / path).write_text("# nothing\n")
    return directory


def make(checkout: Path, target: str, **environ: str) -> Command:
    environ = {"PYTHON": sys.executable, **environ}
    return Command("make", target, data=checkout.parent / "var", cwd=checkout, **environ)


def test_what_was_interrupted_or_failed_is_mended_and_nothing_is_done_twice(
    checkout: Path,
) -> None:
    # In one test: each environment that is made takes seconds of a core.
    said = [
        "Setting up .venv, once and whenever requirements.txt changes. This takes a minute.",
        "Adding what the checks and tests need to .venv.",
    ]
    with make(checkout, "setup") as interrupted:
        # Its python is there, and no pip yet.
        until((checkout / ".venv" / "bin" / "python").exists, what="the half of a venv")
        interrupted.process.terminate()
        assert interrupted.wait(60) == -signal.SIGTERM
        interrupted.nothing_left(60)
    requirements = checkout / "requirements.txt"
    requirements.write_text("./there-is-no-such-package\n")
    with make(checkout, "setup") as failed:
        assert failed.wait(150) == 2
        assert "there-is-no-such-package" in failed.output
    requirements.write_text("")
    with make(checkout, "setup") as mended:
        assert mended.wait(150) == 0, mended.output
        assert mended.output.splitlines() == said
    shutil.copytree(ROOT / "headway", checkout / "headway")
    command = [checkout / ".venv" / "bin" / "headway", "--version"]
    ran = subprocess.run(command, cwd="/", capture_output=True, text=True, check=True)
    assert ran.stdout.startswith("headway 0.")
    with make(checkout, "setup") as nothing_to_do:
        assert nothing_to_do.wait(150) == 0
        assert "Setting up" not in nothing_to_do.output
    requirements.touch()
    with make(checkout, "setup") as changed:
        assert changed.wait(150) == 0
        assert changed.output.splitlines() == said


def test_an_old_python_is_refused_in_one_clear_line(checkout: Path) -> None:
    old = checkout / "old-python"
    old.write_text(
        f'#!/bin/sh\nexec {sys.executable} -c "import sys; sys.version_info = (3, 9, 18); '
        'sys.version = \'3.9.18 (main)\'; exec(sys.argv[2])" "$@"\n'
    )
    old.chmod(0o755)
    with make(checkout, "run", PYTHON="./old-python") as refused:
        assert refused.wait(60) == 2
        lines = [line for line in refused.output.splitlines() if not re.match(r"make.*\*\*\*", line)]
        assert lines == [
            "headway: needs Python 3.11 or newer, and ./old-python is 3.9.18; "
            "name another with: make PYTHON=python3.12"
        ]
        assert not (checkout / ".venv").exists()

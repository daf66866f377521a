"""Programs that tests need and the checkout does not bring."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Sequence
from typing import NoReturn

import pytest


def missing(what: str) -> NoReturn:
    """Something is not installed: skip here, fail in CI, where nothing may be missing."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"{what} is missing, and this is CI")
    pytest.skip(f"{what} is not installed")


def with_us(command: Sequence[str]) -> list[str]:
    """The command that is killed when this process is, so that a suite which was killed leaves nothing.

    On Linux, for what the main thread starts: the kernel looks at the thread, not at the process.
    """
    leash = ["setpriv", "--pdeathsig", "KILL"]
    held = threading.current_thread() is threading.main_thread() and shutil.which(leash[0])
    return [*leash, *command] if held else list(command)


def program(*names: str) -> str:
    """The path of the first of these programs that is installed; without any, see `missing`."""
    # Debian has some of them where only root looks.
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin"])
    return next(filter(None, (shutil.which(name, path=path) for name in names)), None) or missing(names[0])

"""Programs that tests need and the checkout does not bring."""

from __future__ import annotations

import os
import shutil
from typing import NoReturn

import pytest


def missing(what: str) -> NoReturn:
    """Something is not installed: skip here, fail in CI, where nothing may be missing."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"{what} is missing, and this is CI")
    pytest.skip(f"{what} is not installed")


def program(*names: str) -> str:
    """The path of the first of these programs that is installed; without any, see `missing`."""
    # Debian has some of them where only root looks.
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin"])
    return next(filter(None, (shutil.which(name, path=path) for name in names)), None) or missing(names[0])

"""The directory in which the processes of one web service count, and what killed ones left of theirs."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

PREFIX = "headway-metrics-"
LOCK = "lock"


def make() -> Path:
    """Make a directory for this process and those it forks, and remove those whose processes have gone.

    It is marked as in use by a lock that the kernel gives up when the last of them ends. The caller removes
    it when it stops in order.
    """
    _remove_abandoned()
    directory = Path(tempfile.mkdtemp(prefix=PREFIX))
    lock = os.open(directory / f"{LOCK}.new", os.O_CREAT | os.O_RDWR, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    # Not before it is held: whoever finds a lock that is free removes the directory.
    (directory / f"{LOCK}.new").rename(directory / LOCK)
    return directory


def _remove_abandoned() -> None:
    for directory in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with suppress(OSError):
            if directory.is_symlink() or directory.stat().st_uid != os.geteuid():
                continue
            with (directory / LOCK).open("rb") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(directory)

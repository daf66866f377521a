"""A disk so small that it is soon full."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.programs import missing


@contextmanager
def small_disk(directory: Path, options: str) -> Iterator[Path]:
    """Mount a file system of its own at a new directory, with these options of tmpfs. Skips without the
    right to."""
    directory.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(directory)]
    if subprocess.run(command, capture_output=True, check=False).returncode != 0:
        missing("the right to mount a small file system")
    try:
        yield directory
    finally:
        subprocess.run(["umount", "-l", str(directory)], check=True)

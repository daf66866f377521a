"""Part: a piece of an input, copied to the working directory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from headway.sdk.job import Job
from headway.sdk.stopping import NoSpace
from worker.media import failure
from worker.media.source import Source

_COPIED = 1 << 20
"""Bytes at a time."""


def copy_part(job: Job[Any], source: Source, start: int, end: int, name: str) -> Path:
    """Copy the bytes from `start` up to `end` to a file of this name. Raises NoSpace."""
    assert source.path is not None  # noqa: S101
    copy = job.workdir / name
    try:
        with source.path.open("rb") as whole, copy.open("wb") as target:
            whole.seek(start)
            left = end - start
            while left and (data := whole.read(min(left, _COPIED))):
                job.check()
                left -= target.write(data)
    except OSError as error:
        if failure.is_full([str(error)], job.workdir):
            raise NoSpace(failure.full(source.name)) from None
        raise
    return copy

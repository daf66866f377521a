"""ADTS: AAC without a container. ffmpeg times all of it by the sample rate of the first frame."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path

_HEADER = 7
_SURE = 3
"""How many frames in a row cannot be there by chance."""


def changes_rate(path: Path) -> bool:
    """Return whether the sample rate of an ADTS file changes in the middle."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        first: int | None = None
        in_a_row = 0
        for rate in _rates(data):
            first = rate if first is None else first
            in_a_row = in_a_row + 1 if rate != first else 0
            if in_a_row == _SURE:
                return True
    return False


def _rates(data: mmap.mmap) -> Iterator[int]:
    """Yield the index of the sample rate in each frame's header; what is between frames is skipped."""
    at = 0
    while 0 <= at <= len(data) - _HEADER:
        head = data[at : at + _HEADER]
        length = (head[3] & 3) << 11 | head[4] << 3 | head[5] >> 5
        if head[0] == 0xFF and head[1] & 0xF6 == 0xF0 and length >= _HEADER:
            yield head[2] >> 2 & 15
            at += length
        else:
            at = data.find(b"\xff", at + 1)

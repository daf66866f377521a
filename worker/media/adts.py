"""ADTS: AAC without a container. ffmpeg times all of it by the sample rate of the first frame."""

from __future__ import annotations

import mmap
from collections.abc import Iterator

_HEADER = 7
_SURE = 3
"""How many frames in a row cannot be there by chance."""


def formats_of(data: mmap.mmap) -> Iterator[tuple[int, int]]:
    """Yield where each part begins that has a sample rate of its own, and the index of that."""
    known: int | None = None
    in_a_row: list[int] = []
    for at, rate in _rates(data):
        in_a_row = [*in_a_row, at] if rate != known else []
        if known is None or len(in_a_row) == _SURE:
            yield in_a_row[0], rate
            known, in_a_row = rate, []


def _rates(data: mmap.mmap) -> Iterator[tuple[int, int]]:
    """Yield where each frame is, and the index of its sample rate; what is between frames is skipped."""
    at = 0
    while 0 <= at <= len(data) - _HEADER:
        head = data[at : at + _HEADER]
        length = (head[3] & 3) << 11 | head[4] << 3 | head[5] >> 5
        if head[0] == 0xFF and head[1] & 0xF6 == 0xF0 and length >= _HEADER:
            yield at, head[2] >> 2 & 15
            at += length
        else:
            at = data.find(b"\xff", at + 1)

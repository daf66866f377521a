"""Joined: whether another recording follows the first one in a file, as after `cat`. ffmpeg reads the first
and says nothing of the rest."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from worker.media.torn import ASF_PROPERTIES

_FLV = b"FLV\x01"
_FLV_HEADER = 9
_FLV_TAG = 11
_MAX_PARTS = 1_000_000
"""Boxes or tags that are looked at: more than hours of either have."""
_HEAD = 65_536
_NEAR = 8
"""Bytes. Some programs count a header in, or leave out a byte of padding."""


def holds_another(path: Path, formats: frozenset[str]) -> bool:
    """Return whether a file of these formats (ffprobe's names) holds more than one recording. Those are
    looked at of which ffmpeg reads the first only, and whose timestamps do not tell."""
    size = path.stat().st_size
    with path.open("rb") as file:
        if "mov" in formats:
            return _another_movie(file, size)
        if "flv" in formats:
            return _another_flv(file)
        for name, end in _ENDS.items():
            if name in formats:
                return _begins_again(file, end(file))
    return False


# -- headers that say where their recording ends -------------------------------------------------------


def _begins_again(file: BinaryIO, end: int) -> bool:
    """Return whether what begins the file is also there where its first recording ends."""
    file.seek(0)
    mark = file.read(4)
    if end < 2 * _NEAR:
        return False
    file.seek(end - _NEAR)
    return mark in file.read(2 * _NEAR + len(mark))


def _chunk_end(file: BinaryIO) -> int:
    """Of RIFF, and of FORM, which has the higher bytes first."""
    head = file.read(8)
    return 8 + int.from_bytes(head[4:], "little" if head.startswith(b"RIFF") else "big")


def _w64_end(file: BinaryIO) -> int:
    return int.from_bytes(file.read(24)[16:], "little")


def _asf_end(file: BinaryIO) -> int:
    return int.from_bytes(file.read(_HEAD).partition(ASF_PROPERTIES)[2][24:32], "little")


def _caf_end(file: BinaryIO) -> int:
    """Behind the last chunk: each has a name and its length, which is -1 for up to the end of the file."""
    at = 8
    for _ in range(_MAX_PARTS):
        file.seek(at)
        head = file.read(12)
        length = int.from_bytes(head[4:], "big", signed=True)
        if len(head) < 12 or length < 0 or head.startswith(b"caff"):
            break
        at += 12 + length
    return at


_ENDS: dict[str, Callable[[BinaryIO], int]] = {
    "wav": _chunk_end,
    "aiff": _chunk_end,
    "w64": _w64_end,
    "asf": _asf_end,
    "caf": _caf_end,
}


# -- boxes and tags ------------------------------------------------------------------------------------


def _another_movie(file: BinaryIO, size: int) -> bool:
    """Return whether more than one table of contents at the top level has media of its own. A table may be
    there twice; and of fragments, which many programs write a new one before, ffmpeg reads all."""
    at = tables = whole = fragments = 0
    in_fragment = False
    for _ in range(_MAX_PARTS):
        file.seek(at)
        head = file.read(16)
        if len(head) < 8:
            break
        length, kind = int.from_bytes(head[:4], "big"), head[4:8]
        tables += kind == b"moov"
        whole += kind == b"mdat" and not in_fragment
        if kind in (b"moof", b"moov"):
            in_fragment = kind == b"moof"
            fragments |= in_fragment
        if length == 1:
            length = int.from_bytes(head[8:], "big")
        elif length == 0:
            break  # up to the end of the file
        if length < 8 or at + length > size:
            break
        at += length
    return min(tables, whole + fragments) > 1


def _another_flv(file: BinaryIO) -> bool:
    """Each tag is followed by its length; where one should begin there is another header."""
    at = _FLV_HEADER + 4
    for _ in range(_MAX_PARTS):
        file.seek(at)
        head = file.read(_FLV_TAG)
        if len(head) < _FLV_TAG:
            return False
        if head.startswith(_FLV):
            return True
        at += _FLV_TAG + int.from_bytes(head[1:4], "big") + 4
    return False

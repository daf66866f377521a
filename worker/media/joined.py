"""Joined: whether another recording follows the first one in a file, as after `cat`. ffmpeg reads the first
and says nothing of the rest."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

_FLV = b"FLV\x01"
_FLV_HEADER = 9
_FLV_TAG = 11
_MAX_PARTS = 1_000_000
"""Boxes or tags that are looked at: more than hours of either have."""


def holds_another(path: Path, formats: frozenset[str]) -> bool:
    """Return whether a file of these formats (ffprobe's names) holds more than one recording. Only MP4,
    QuickTime and FLV are looked at; of the others ffmpeg reads the rest too, or its timestamps tell."""
    size = path.stat().st_size
    with path.open("rb") as file:
        if "mov" in formats:
            return _movies(file, size) > 1
        if "flv" in formats:
            return _another_flv(file)
    return False


def _movies(file: BinaryIO, size: int) -> int:
    """Count the tables of contents at the top level."""
    at = found = 0
    for _ in range(_MAX_PARTS):
        file.seek(at)
        head = file.read(16)
        if len(head) < 8:
            break
        length = int.from_bytes(head[:4], "big")
        found += head[4:8] == b"moov"
        if length == 1:
            length = int.from_bytes(head[8:], "big")
        elif length == 0:
            break  # up to the end of the file
        if length < 8 or at + length > size:
            break
        at += length
    return found


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

"""Tags: what lies between the frames of an MP3 and is no sound. ffmpeg takes it for a packet that cannot be
decoded."""

from __future__ import annotations

import mmap
import re
from pathlib import Path

_TAG = re.compile(rb"ID3[\2-\4]\0|APETAGEX|TAG(?=[^\xff]{125}$)")
_PADDING = 64
"""Zeros at the end of a file that are no sound."""


def tags_within(path: Path, formats: frozenset[str]) -> int:
    """Return how many pieces of a file of these formats (ffprobe's names) are tags or padding, of an MP3;
    else 0."""
    if "mp3" not in formats:
        return 0
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        found = sum(1 for tag in _TAG.finditer(data) if tag.start())
        return found + (data[-_PADDING:].count(0) == _PADDING)

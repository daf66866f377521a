"""What follows the samples of a WAV file (worker/media/chunk.py); tests/media has the other formats."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from worker.media import chunk

HEAD = b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0" + bytes(16) + b"data"
TWO_GIB = 2**31


@pytest.mark.parametrize(
    ("told", "behind", "mended"),
    [
        (8, b"", None),
        (8, b"LIST\4\0\0\0abcd", None),
        (8, b"\0" * 4096, None),
        (8, b"\0" * 4096 + b"\1", 0),
        (8, b"\x9c\xff\x10\0", 0),
        (7, b"\0LIST\4\0\0\0abcd", None),
        (0, b"\x9c\xff\x10\0", None),
        (2**32 - 1, b"\x9c\xff\x10\0", None),
    ],
    ids=["nothing", "chunk", "zeros", "sound", "sound at once", "padded", "to a pipe", "endless"],
)
def test_only_sound_behind_the_samples_is_taken_for_more_of_them(
    tmp_path: Path, told: int, behind: bytes, mended: int | None
) -> None:
    path = tmp_path / "x.wav"
    path.write_bytes(HEAD + struct.pack("<I", told) + b"\5" * min(told, 8) + behind)
    found = chunk.too_short(path, "wav")
    assert found == (None if mended is None else (len(HEAD), mended.to_bytes(4, "little")))


def test_more_sound_than_a_header_can_tell_is_told_as_much_as_it_can(tmp_path: Path) -> None:
    path = tmp_path / "x.aiff"
    path.write_bytes(b"FORM\0\0\0\0AIFFSSND\0\0\0\x10" + b"\5" * 64)
    with path.open("r+b") as file:
        file.truncate(2 * TWO_GIB)
    assert chunk.too_short(path, "aiff") == (16, (TWO_GIB - 1).to_bytes(4, "big"))

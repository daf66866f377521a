"""Another recording after the first: what tells it, and what only looks like it."""

from __future__ import annotations

from pathlib import Path

import pytest

from worker.media.joined import holds_another


def box(kind: bytes, data: bytes = b"") -> bytes:
    return (8 + len(data)).to_bytes(4, "big") + kind + data


def tag(data: bytes) -> bytes:
    return b"\x09" + len(data).to_bytes(3, "big") + bytes(7) + data + (11 + len(data)).to_bytes(4, "big")


MP4 = box(b"ftyp", b"isom") + box(b"moov", bytes(20)) + box(b"mdat", b"moov" * 9)
MOOV = box(b"moov", bytes(20))
FRAGMENTED = MOOV + box(b"moof") + box(b"mdat") + box(b"moof") + box(b"mdat")
WAV = b"RIFF" + (32).to_bytes(4, "little") + b"WAVE" + b"RIFF" * 5 + bytes(8)
COUNTED_IN = b"RIFF" + (40).to_bytes(4, "little") + WAV[8:]
CAF = (
    b"caff\0\1\0\0"
    + b"desc"
    + (0).to_bytes(8, "big")
    + b"data"
    + (16).to_bytes(8, "big")
    + b"caff" * 2
    + bytes(8)
)
LARGE = b"\0\0\0\1mdat" + (24).to_bytes(8, "big") + bytes(8)
FLV = b"FLV\x01\x05\0\0\0\x09\0\0\0\0" + tag(b"FLV\x01" * 3) + tag(b"x")


@pytest.mark.parametrize(
    ("data", "formats", "expected"),
    [
        (MP4, "mov", False),
        (MP4 + MP4, "mov", True),
        (LARGE + MP4 + MP4, "mov", True),
        (MP4 + b"\0\0\0\0mdat" + MP4, "mov", False),
        (MP4 + b"\0\0\0\3junk" + MP4, "mov", False),
        (MP4[:-4] + MP4, "mov", False),
        (b"", "mov", False),
        (FLV, "flv", False),
        (FLV + FLV, "flv", True),
        (FLV[:-3], "flv", False),
        (MOOV + MP4, "mov", False),
        (MP4 + MOOV, "mov", False),
        (FRAGMENTED + FRAGMENTED, "mov", False),
        (FRAGMENTED + MP4, "mov", True),
        (MP4 + FRAGMENTED, "mov", True),
        (MP4 + MP4, "matroska", False),
        (WAV, "wav", False),
        (WAV + WAV, "wav", True),
        (WAV + b"LIST", "wav", False),
        (COUNTED_IN + COUNTED_IN, "wav", True),
        (bytes(9), "wav", False),
        (CAF, "caf", False),
        (CAF + CAF, "caf", True),
        (CAF[:20] + b"\xff" * 8 + CAF[28:] + CAF, "caf", False),
        (CAF[:-3], "caf", False),
    ],
)
def test_a_file_holds_another_recording_if_a_second_one_begins_where_the_first_ends(
    tmp_path: Path, data: bytes, formats: str, expected: bool
) -> None:
    path = tmp_path / "x"
    path.write_bytes(data)
    assert holds_another(path, frozenset([formats])) == expected

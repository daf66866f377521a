"""Where the format of a sound changes (worker/media/rejoin.py, adts.py)."""

from __future__ import annotations

from pathlib import Path

import pytest

from worker.media.probe import Media
from worker.media.rejoin import cuts_of


def page(content: bytes, flags: int = 0) -> bytes:
    return b"OggS\0" + bytes([flags]) + bytes(20) + bytes([1, len(content)]) + content


def opus(channels: int, skip: bytes = b"\0\0") -> bytes:
    """A recording: its head, and two pages of sound."""
    return page(b"OpusHead\1" + bytes([channels]) + skip, flags=2) + page(b"OggS" * 9) + page(b"x", flags=4)


def flac(rate: bytes) -> bytes:
    return page(b"\x7fFLAC" + bytes(22) + rate + bytes(9), flags=2) + page(b"x")


def frames(rate: int, count: int) -> bytes:
    """Frames of ADTS, 8 bytes each."""
    return bytes([0xFF, 0xF1, 0x40 | rate << 2, 0x80, 1, 0, 0xFC, 0]) * count


@pytest.mark.parametrize(
    ("kind", "parts", "cut"),
    [
        ("ogg", [opus(1), opus(2)], True),
        ("ogg", [opus(1), opus(1, b"\1\2")], False),
        ("ogg", [opus(1), flac(b"\1\2\3\4")], True),
        ("ogg", [flac(b"\1\2\3\4"), flac(b"\1\2\3\5")], True),
        ("ogg", [b"", b"no pages"], False),
        ("aac", [frames(4, 9), frames(5, 9)], True),
        ("aac", [frames(4, 9), b"between" + frames(4, 9)], False),
        ("aac", [frames(4, 9), frames(5, 2) + frames(4, 9)], False),
        ("flac", [b"fLaC\0\0\0\x22" + bytes(50), b"fLaC\x80\0\0\x22" + bytes(50)], True),
        ("flac", [b"fLaC\0\0\0\x22" + bytes(50), b"fLaC" + bytes(50)], False),
        ("mp3", [frames(4, 9), frames(5, 9)], False),
    ],
)
def test_a_file_is_cut_where_its_format_changes(
    tmp_path: Path, kind: str, parts: list[bytes], cut: bool
) -> None:
    (tmp_path / "x").write_bytes(b"".join(parts))
    cuts = cuts_of(tmp_path / "x", Media(kind, None, 0.0, None, ()))
    assert cuts == ([len(parts[0])] if cut else [])

"""Torn: what a file's own tables and blocks say of its end."""

from __future__ import annotations

from pathlib import Path

import pytest

from worker.media.torn import is_torn

HEADER = b"GIF89a" + bytes([1, 0, 1, 0, 0x80, 0, 0]) + bytes(6)
"""Of 1x1, with a table of two colours."""
DELAY = b"!\xf9\x04" + bytes(4) + b"\0"
PICTURE = b"," + bytes(8) + b"\0" + b"\x02" + b"\x02\x44\x01" + b"\0"
WITH_COLORS = b"," + bytes(8) + b"\x80" + bytes(6) + b"\x02" + b"\x02\x44\x01" + b"\0"
WHOLE = HEADER + DELAY + PICTURE + DELAY + WITH_COLORS + b";"


def torn(tmp_path: Path, data: bytes) -> bool:
    path = tmp_path / "a.gif"
    path.write_bytes(data)
    return is_torn(path, frozenset({"gif"}))


@pytest.mark.parametrize(
    "data",
    [WHOLE, WHOLE[:-1], WHOLE + b"\0made by hand", WHOLE + WHOLE],
    ids=["whole", "without a trailer", "with a word behind it", "two"],
)
def test_a_gif_that_can_be_read_to_its_end_is_not_torn(tmp_path: Path, data: bytes) -> None:
    assert not torn(tmp_path, data)


@pytest.mark.parametrize("lost", range(2, len(DELAY + WITH_COLORS) + 1))
def test_a_gif_that_ends_within_a_block_is_torn(tmp_path: Path, lost: int) -> None:
    whole = len(WHOLE) - lost in {len(HEADER + DELAY + PICTURE), len(HEADER + DELAY + PICTURE + DELAY)}
    assert torn(tmp_path, WHOLE[:-lost]) is not whole


def test_a_gif_that_goes_on_with_something_unknown_is_torn(tmp_path: Path) -> None:
    assert torn(tmp_path, HEADER + PICTURE + b"\x8e" + DELAY + PICTURE + b";")
    assert torn(tmp_path, WHOLE[:-1] + b"\0" * 20)


def box(kind: bytes, length: int, data: bytes = b"") -> bytes:
    return length.to_bytes(4, "big") + kind + data


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (box(b"mdat", 12, bytes(4)) + box(b"moov", 20, bytes(12)), False),
        (box(b"mdat", 12, bytes(4)) + box(b"moov", 21, bytes(12)), True),
        (box(b"moov", 16, bytes(8)) + box(b"mdat", 99, bytes(4)), False),
        (box(b"moov", 16, bytes(8)) + box(b"moof", 99, bytes(4)), True),
        (box(b"moov", 16, bytes(8)) + b"left behind by a camera", False),
        (box(b"moov", 16, bytes(8)) + box(b"mdat", 1, (99).to_bytes(8, "big")), False),
        (box(b"moov", 16, bytes(8)) + box(b"mdat", 0, bytes(99)), False),
        (b"", False),
    ],
)
def test_an_mp4_is_torn_if_it_ends_within_its_tables(tmp_path: Path, data: bytes, expected: bool) -> None:
    (tmp_path / "a.mp4").write_bytes(data)
    assert is_torn(tmp_path / "a.mp4", frozenset({"mov", "mp4"})) == expected


@pytest.mark.parametrize("length", [188, 192, 204])
def test_a_transport_stream_is_torn_if_it_ends_within_a_packet(tmp_path: Path, length: int) -> None:
    packet = b"\x47" + bytes(187)
    packet = bytes(4) + packet if length == 192 else packet + bytes(length - 188)

    def is_so(data: bytes) -> bool:
        (tmp_path / "a.ts").write_bytes(data)
        return is_torn(tmp_path / "a.ts", frozenset({"mpegts"}))

    assert not is_so(packet * 9)
    assert not is_so(packet)
    assert not is_so(b"what was there before" + packet * 9)
    assert is_so((packet * 9)[:-1])
    assert is_so(packet * 9 + packet[:100])
    assert is_so(packet[:-1])

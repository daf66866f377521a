"""Where a transport stream goes on in another format (worker/media/transport.py)."""

from __future__ import annotations

from pathlib import Path

import pytest

from worker.media import transport
from worker.media.transport import parts_of

H264, HEVC, PRIVATE, AAC = 0x1B, 0x24, 0x06, 0x0F
AC3, SUBTITLES = b"\x6a\1\0", b"\x59\1\0"


def packet(pid: int, payload: bytes, length: int = 188) -> bytes:
    body = b"\x47" + (0x4000 | pid).to_bytes(2, "big") + b"\x10" + payload.ljust(184, b"\xff")
    return bytes(4) + body if length == 192 else body + bytes(length - 188)


def table(*tracks: tuple[int, int, bytes]) -> bytes:
    """A program's table: types, PIDs and descriptors."""
    entries = b"".join(
        bytes([kind]) + (0xE000 | pid).to_bytes(2, "big") + (0xF000 | len(told)).to_bytes(2, "big") + told
        for kind, pid, told in tracks
    )
    length = 9 + len(entries) + 4
    return b"\0\2" + (0xB000 | length).to_bytes(2, "big") + b"\0\1\xc1\0\0\xe1\0\xf0\0" + entries + bytes(4)


def stream(*tracks: tuple[int, int, bytes], count: int = 1, length: int = 188) -> bytes:
    """Tables, each with a few packets of pictures behind it."""
    named = packet(0, b"\0\0", length) + packet(0x1000, table(*tracks), length)
    return (named + packet(0x100, b"\0\0\1\xe0", length) * 8) * count


VIDEO = (H264, 0x100, b"")


@pytest.mark.parametrize("length", [188, 192, 204])
def test_parts_begin_where_a_track_has_another_format(tmp_path: Path, length: int) -> None:
    path = tmp_path / "x"
    first = stream(VIDEO, (AAC, 0x101, b""), length=length)
    second = stream((HEVC, 0x100, b""), (PRIVATE, 0x101, AC3), length=length)
    path.write_bytes(first + second * 2)
    one, two = parts_of(path)
    assert (one.start, one.end) == (0, len(first))
    assert (two.start, two.end) == (len(first), path.stat().st_size)
    assert one.formats == {0x100: "h264", 0x101: "aac"}
    assert two.formats == {0x100: "hevc", 0x101: "ac3"}


def test_other_changes_are_none_of_format(tmp_path: Path) -> None:
    path = tmp_path / "x"
    other = [(PRIVATE, 0x101, SUBTITLES), (AAC, 0x102, b"")]
    path.write_bytes(stream(VIDEO, (AAC, 0x101, b"")) + stream(VIDEO, *other))
    assert len(parts_of(path)) == 1


@pytest.mark.parametrize("data", [b"", b"\x47", b"no packets at all" * 99], ids=["empty", "short", "text"])
def test_other_files_have_no_parts(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "x").write_bytes(data)
    assert parts_of(tmp_path / "x") == []


def test_in_a_large_file_a_change_is_found_between_the_places_that_are_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "_SPOT", 188 * 24)
    monkeypatch.setattr(transport, "_SPOTS", 4)
    first, second = stream(VIDEO, count=333), stream((HEVC, 0x100, b""), count=67)
    (tmp_path / "x").write_bytes(first + second)
    one, two = parts_of(tmp_path / "x")
    assert one.end == two.start == len(first)

"""Torn: whether a file ends before its own tables say that it does, of which ffmpeg says nothing."""

from __future__ import annotations

import mmap
import struct
from pathlib import Path
from typing import BinaryIO

TS_PACKETS = (188, 192, 204)
"""Bytes of a packet of a transport stream, in its variants."""
_TS_SYNC = 0x47
_LAST_PACKETS = 8
_MAX_HEADER = 65_536
ASF_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
_UNKNOWN_RIFF = 1 << 31
"""At least this is what a program writes that does not know the size yet."""
_W64 = b"riff\x2e\x91\xcf\x11"
_MP3_FRAME = 200
"""What is read of the first one: its table follows 36 bytes later at most."""
_OGG_PAGE = 27 + 255 + 255 * 255
"""Bytes of the longest page."""
_OGG_LAST = 4
"""The flag of a stream's last page."""
_MAX_BOXES = 1_000_000
"""At the top level: more than hours of fragments have."""
_GIF_EXTENSION, _GIF_PICTURE, _GIF_TRAILER = b"!,;"
_GIF_COLORS = 0x80
"""The flag of a table of colours; the three lowest bits have its size."""


def is_torn(path: Path, formats: frozenset[str]) -> bool:
    """Return whether a file of these formats (ffprobe's names) is shorter than its header says, ends within
    a packet, or goes on with something that cannot be read."""
    size = path.stat().st_size
    with path.open("rb") as file:
        if "mpegts" in formats:
            return _ends_within_packet(file, size)
        if "mp3" in formats:
            return size < _mp3_size(file)
        if "ogg" in formats:
            return _ends_within_ogg(file, size)
        if "gif" in formats:
            return _gif_breaks_off(file)
        if "mov" in formats:
            return _ends_within_table(file, size)
        head = file.read(_MAX_HEADER)
    if "asf" in formats:
        return size < int.from_bytes(head.partition(ASF_PROPERTIES)[2][24:32], "little")
    if head.startswith(_W64):
        return size < int.from_bytes(head[16:24], "little") < _UNKNOWN_RIFF << 32
    if head.startswith(b"RIFF"):
        # Some programs count in the 8 bytes of this header.
        return size < int.from_bytes(head[4:8], "little") < _UNKNOWN_RIFF
    return False


def _ends_within_packet(file: BinaryIO, size: int) -> bool:
    """Return whether the last few packets do not end where the file does; it may begin with anything."""
    for length in TS_PACKETS:
        # In packets of 192 bytes the time comes first.
        head = 4 if length == 192 else 0
        count = min(size // length, _LAST_PACKETS)
        file.seek(size - count * length)
        last = file.read()
        if count and all(last[at] == _TS_SYNC for at in range(head, len(last), length)):
            return False
    return True


def _mp3_size(file: BinaryIO) -> int:
    """Return the size that the first frame says that the file has; 0 if it does not say.

    The frame has the mark "Xing" or "Info", flags (1: frames, 2: bytes) and these numbers, 32 bits each.
    """
    head = file.read(10)
    tag = 0
    if head.startswith(b"ID3"):
        # 4 times 7 bits, without the header itself.
        for byte in head[6:]:
            tag = tag << 7 | byte & 0x7F
        tag += len(head)
    file.seek(tag)
    frame = file.read(_MP3_FRAME)
    for mark in (b"Xing", b"Info"):
        flags, *numbers = struct.unpack(">3I", frame.partition(mark)[2][:12].ljust(12, b"\0"))
        if flags & 2:
            return tag + int(numbers[flags & 1])
    return 0


def _ends_within_ogg(file: BinaryIO, size: int) -> bool:
    """Return whether the last page is incomplete, or is not the last one of its stream."""
    file.seek(max(0, size - _OGG_PAGE))
    page = file.read().rpartition(b"OggS")[2]
    if len(page) < 23 or len(page) < 23 + page[22]:
        return True
    lengths = page[23 : 23 + page[22]]
    return len(page) < 23 + len(lengths) + sum(lengths) or not page[1] & _OGG_LAST


def _ends_within_table(file: BinaryIO, size: int) -> bool:
    """Return whether the file ends within what says where its media is: a track whose part of that is
    missing is none. Of media that is missing, ffmpeg tells."""
    at = 0
    for _ in range(_MAX_BOXES):
        file.seek(at)
        head = file.read(16)
        length, kind = int.from_bytes(head[:4], "big"), head[4:8]
        if length == 1:
            length = int.from_bytes(head[8:], "big")
        if length < 8:
            return False
        at += length
        if at > size:
            return kind in (b"moov", b"moof")
    return False


def _gif_breaks_off(file: BinaryIO) -> bool:
    """Return whether the file ends within a block, or goes on with something that is none. Behind a trailer
    there may be anything: many programs leave something there, or another picture."""
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        at, complete = 0, False
        while at < len(data):
            kind = data[at]
            if data[at : at + 3] == b"GIF":
                at += 13 + _colors(data, at + 10)
            elif kind == _GIF_EXTENSION:
                at = _behind_parts(data, at + 2)
            elif kind == _GIF_PICTURE:
                at = _behind_parts(data, at + 11 + _colors(data, at + 9))
            elif kind == _GIF_TRAILER:
                at += 1
            else:
                return not complete
            complete = kind == _GIF_TRAILER
        return at > len(data)


def _colors(data: mmap.mmap, at: int) -> int:
    flags = data[at] if at < len(data) else 0
    return 6 << (flags & 7) if flags & _GIF_COLORS else 0


def _behind_parts(data: mmap.mmap, at: int) -> int:
    """Each part begins with its length, and the last one has none."""
    while at < len(data) and data[at]:
        at += 1 + data[at]
    return at + 1

"""Transport: what the packets of a transport stream say and ffmpeg does not: how much is encrypted, and
where a track goes on in another format, as after `cat`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO

from headway.sdk.job import Job
from worker.media.part import copy_part
from worker.media.source import Source
from worker.media.torn import TS_PACKETS

_SPOT = 1 << 18
"""Bytes that are looked at in one place."""
_SPOTS = 64
_SYNC = 0x47
_BEGINS, _PID = 0x40, 0x1FFF
_SCRAMBLED, _ADAPTED = 0xC0, 0x20
_START_CODE = b"\0\0\1"
_PMT = 2
_FORMATS = {
    **dict.fromkeys((0x01, 0x02), "mpeg2video"),
    **dict.fromkeys((0x03, 0x04), "mp2"),
    **{0x0F: "aac", 0x10: "mpeg4", 0x11: "aac_latm", 0x1B: "h264", 0x24: "hevc", 0x33: "vvc"},
    **{0x81: "ac3", 0x87: "eac3", 0xD2: "avs2", 0xEA: "vc1"},
}
"""By stream type, names of formats that are told apart; within one, ffmpeg goes on."""
_PRIVATE = 0x06
_PRIVATE_FORMATS = {0x6A: "ac3", 0x7A: "eac3", 0x7B: "dts", 0x7C: "aac"}
"""The same of a private stream, by what is in its descriptors."""
_HEAD_PACKETS = 16
"""The table that names a program may come so long before the one that says what is in it."""

Formats = dict[int, str]


def _packets(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the packets in a piece of a file, wherever it begins: where each begins, and its 188 bytes."""
    for length in TS_PACKETS:
        for at in range(length):
            marks = data[at : at + 8 * length : length]
            if len(marks) > 4 and all(mark == _SYNC for mark in marks):
                # In packets of 192 bytes the time comes first.
                head = 4 if length == 192 else 0
                for start in range(at, len(data) - 187, length):
                    yield max(0, start - head), data[start : start + 188]
                return


def _pid_of(packet: bytes) -> int:
    return int.from_bytes(packet[1:3], "big") & _PID


def _payload_at(packet: bytes) -> int:
    return 4 + (1 + packet[4] if packet[3] & _ADAPTED else 0)


# -- encryption ----------------------------------------------------------------------------------------


def scrambled_shares(path: Path) -> dict[int, float]:
    """Return by PID the share (0 to 1) of what begins in its packets that is scrambled. A larger file is
    looked at in places."""
    begun: Counter[int] = Counter()
    scrambled: Counter[int] = Counter()
    with path.open("rb") as file:
        for at in _places(path):
            file.seek(at)
            for _, packet in _packets(file.read(_SPOT)):
                if not packet[1] & _BEGINS:
                    continue
                pid, payload = _pid_of(packet), _payload_at(packet)
                begun[pid] += 1
                # Some programs that decrypt leave the flag as it was.
                scrambled[pid] += (
                    packet[3] & _SCRAMBLED > 0 and packet[payload : payload + 3] != _START_CODE
                )
    return {pid: scrambled[pid] / count for pid, count in begun.items()}


def _places(path: Path) -> list[int]:
    """Return where to look: all of a small file, of a larger one also its end."""
    size = path.stat().st_size
    step = size // _SPOTS
    if step <= _SPOT:
        return list(range(0, size, _SPOT))
    return [*range(0, size - 2 * _SPOT, step), size - _SPOT]


# -- formats -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Part:
    """Bytes of a file whose tracks keep their formats."""

    start: int
    end: int
    formats: Formats


def one_format(job: Job[Any], source: Source) -> tuple[Source, str | None]:
    """Return the longest part of a transport stream that one set of decoders can decode, as a copy, and
    what to tell of that; the source itself if that is all of it. Raises NoSpace."""
    assert source.path is not None  # noqa: S101
    parts = parts_of(source.path)
    if len(parts) < 2:
        return source, None
    part = max(parts, key=lambda part: part.end - part.start)
    copy = copy_part(job, source, part.start, part.end, f"{source.path.stem[:80]}.part.ts")
    size = parts[-1].end
    changes = dict.fromkeys(
        f"{one.formats[pid]} to {other.formats[pid]}"
        for one, other in pairwise(parts)
        for pid in sorted(one.formats.keys() & other.formats.keys())
        if one.formats[pid] != other.formats[pid]
    )
    told = (
        f"{source.name} changes its format in the middle ({', '.join(changes)}): only the longest part is "
        f"taken, from {part.start / size:.0%} to {part.end / size:.0%} of the file"
    )
    return replace(source, path=copy), told


def parts_of(path: Path) -> list[Part]:
    """Return the parts of a transport stream in which no track changes its format; of other files none. A
    larger one is looked at in places, and more closely where something changes."""
    parts: list[Part] = []
    start = at_last = 0
    known: Formats = {}
    with path.open("rb") as file:
        for place in _places(path):
            tables = _tables(file, place)
            if not tables and not known:
                break
            for at, formats in tables:
                if _differ(known, formats):
                    end, begin = _narrow(file, at_last, at, known)
                    parts.append(Part(start, end, known))
                    start, known = begin, {}
                known |= formats
                at_last = at
    return [*parts, Part(start, path.stat().st_size, known)] if known else []


def _differ(one: Formats, other: Formats) -> bool:
    return any(one[pid] != other[pid] for pid in one.keys() & other.keys())


def _narrow(file: BinaryIO, before: int, after: int, known: Formats) -> tuple[int, int]:
    """Return where tables of these formats end and others begin, which is between two places."""
    while after - before > _SPOT:
        middle = (before + after) // 2
        tables = [table for table in _tables(file, middle) if before < table[0] < after]
        if not tables:
            return before, after
        for at, formats in tables:
            if _differ(known, formats):
                after = at
                break
            before = at
    return after, after


def _tables(file: BinaryIO, place: int) -> list[tuple[int, Formats]]:
    """Return what the tables in one place say, and where what they tell of begins."""
    file.seek(place)
    found = []
    named, named_at = None, 0
    for n, (at, packet) in enumerate(_packets(file.read(_SPOT + max(TS_PACKETS)))):
        payload = _payload_at(packet)
        if not packet[1] & _BEGINS or packet[payload : payload + 3] == _START_CODE or payload > 180:
            continue
        if _pid_of(packet) == 0:
            named, named_at = n, at
        section = packet[payload + 1 + packet[payload] :]
        if section[:1] == bytes([_PMT]) and (formats := _formats(section)):
            near = named is not None and n - named <= _HEAD_PACKETS
            found.append((place + (named_at if near else at), formats))
    return found


def _formats(section: bytes) -> Formats:
    """Read a program's table, as far as it is in this packet: the formats that are known, by PID."""
    found: Formats = {}
    end = min(len(section), 3 + (int.from_bytes(section[1:3], "big") & 0xFFF) - 4)
    at = 12 + (int.from_bytes(section[10:12], "big") & 0xFFF)
    while at + 5 <= end:
        kind = section[at]
        pid = int.from_bytes(section[at + 1 : at + 3], "big") & _PID
        told = int.from_bytes(section[at + 3 : at + 5], "big") & 0xFFF
        name = _FORMATS.get(kind)
        if kind == _PRIVATE:
            name = _private_format(section[at + 5 : at + 5 + told])
        if name is not None:
            found[pid] = name
        at += 5 + told
    return found


def _private_format(descriptors: bytes) -> str | None:
    at = 0
    while at + 2 <= len(descriptors):
        if descriptors[at] in _PRIVATE_FORMATS:
            return _PRIVATE_FORMATS[descriptors[at]]
        at += 2 + descriptors[at + 1]
    return None

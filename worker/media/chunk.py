"""Chunk: where the samples of a WAV, W64, AIFF or CAF file end, or the packets of an ASF file (WMV, WMA).
ffmpeg reads as many as the chunk's header says, and what a recorder that lost its power wrote there last is
too few."""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

from headway.sdk.job import Job
from worker.media.part import copy_part
from worker.media.probe import probe
from worker.media.rare import Listed

_MAX_CHUNKS = 10_000
_MARK = 4
"""Bytes that begin the name of a chunk, all of them printable but in ASF."""
_BLOCK = 1 << 20
_LONG, _LONG_AT = struct.Struct("<Q"), 8
"""How and where the chunk `ds64` tells the length of the samples, in RF64: WAV of more than 4 GiB."""

_ASF_DATA = bytes.fromhex("3626b2758e66cf11a6d900aa0062ce6c")
_ASF_OBJECTS = frozenset(map(bytes.fromhex, ("90080033", "d329e2d6", "f803b1fe", "d03fb73c", "3026b275")))
"""How the objects begin that may follow: four kinds of index, and another file's header."""


@dataclass(frozen=True, slots=True)
class _Layout:
    first: int
    """Where the first chunk begins."""
    named: int
    """Bytes of a chunk's name."""
    length: struct.Struct
    """What follows the name."""
    whole: bool
    """Whether the length is that of the chunk with its header."""
    padded: int
    """The next chunk begins at a multiple of that."""
    samples: bytes
    """How the name of the chunk with the samples begins."""
    endless: int | None = None
    """What length ffmpeg takes for up to the end of the file."""
    least: int = 0
    """A shorter length than that ffmpeg takes so as well."""


_LAYOUTS = {
    "wav": _Layout(12, 4, struct.Struct("<I"), False, 2, b"data", 0),
    "aiff": _Layout(12, 4, struct.Struct(">I"), False, 2, b"SSND"),
    "w64": _Layout(40, 16, struct.Struct("<Q"), True, 8, b"data"),
    "caf": _Layout(8, 4, struct.Struct(">Q"), False, 1, b"data"),
    "asf": _Layout(0, 16, struct.Struct("<Q"), True, 1, _ASF_DATA, least=100),
}


def with_all_samples(job: Job[Any], listed: Listed) -> Listed:
    """Return a file of samples whose header leaves the last ones out as a copy whose header does not; any
    other as it is. Raises NoSpace."""
    source = listed.source
    assert source.path is not None  # noqa: S101
    found = too_short(source.path, listed.media.format)
    if found is None:
        return listed
    at, length = found
    name = f"{source.path.stem[:80]}.whole.{listed.media.format}"
    copy = copy_part(job, source, 0, source.path.stat().st_size, name)
    with copy.open("r+b") as file:
        file.seek(at)
        file.write(length)
    job.log(f"{source.name} has more in it than its header says: all of it is taken")
    return replace(listed, source=replace(source, path=copy), media=probe(job, copy, source.name))


def too_short(path: Path, format: str) -> tuple[int, bytes] | None:
    """Return where the length of the samples is written and what has to be there; None for a file in which
    no sound follows them, or of another format."""
    layout = _LAYOUTS.get(format)
    if layout is None:
        return None
    head = layout.named + layout.length.size
    told_in_ds64 = None
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        at = layout.first
        for _ in range(_MAX_CHUNKS):
            file.seek(at)
            begin = file.read(head)
            if len(begin) < head:
                break
            (length,) = layout.length.unpack_from(begin, layout.named)
            start, told_at, form = at if layout.whole else at + head, at + layout.named, layout.length
            if begin.startswith(b"ds64"):
                told_in_ds64 = start + _LONG_AT
            if begin.startswith(layout.samples) and told_in_ds64 is not None:
                told_at, form = told_in_ds64, _LONG
                file.seek(told_at)
                (length,) = form.unpack(file.read(form.size))
            following = start + length + -(start + length) % layout.padded
            if begin.startswith(layout.samples):
                # Nothing is what a program leaves there that writes to a pipe.
                told = length >= layout.least and at + head < following < size
                if not told or not _is_sound(file, following):
                    break
                longest = 2 ** (8 * form.size - 1) - 1
                whole = min(size - start, longest)
                if form is layout.length and layout.endless is not None:
                    whole = layout.endless
                return told_at, form.pack(whole)
            at = following
    return None


def _is_sound(file: BinaryIO, at: int) -> bool:
    """Return whether what is here is neither another chunk nor only zeros, as in room that was kept."""
    file.seek(at)
    data = file.read(_MARK)
    if data in _ASF_OBJECTS or (data.isascii() and data.decode().isprintable()):
        return False
    while data and not data.strip(b"\0"):
        data = file.read(_BLOCK)
    return bool(data)

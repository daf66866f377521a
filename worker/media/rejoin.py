"""Rejoin: sound whose format changes in the middle, as a recording of internet radio, or FLAC files in one.
ffmpeg keeps to what it began with, so the parts are put together anew."""

from __future__ import annotations

import mmap
import re
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from headway.sdk.job import Job
from headway.sdk.stopping import NoSpace
from worker.media import failure, ffmpeg
from worker.media.adts import formats_of
from worker.media.part import copy_part
from worker.media.probe import Media, probe
from worker.media.rare import Listed
from worker.media.said import Said
from worker.media.torn import is_torn

MAX_PARTS = 32
_PAGE, _COUNT = 27, 26
"""Bytes of an Ogg page's header, whose last one says how many lengths follow."""
_HEAD = 32
"""Bytes of what a stream says of itself that are looked at."""
_FIRST = 2
"""The flag of a stream's first page."""
_FLAC = re.compile(rb"fLaC[\0\x80]\0\0\x22")
"""How a FLAC file begins: with what all of it is like."""


def rejoin(job: Job[Any], listed: Listed) -> Listed:
    """Return a sound whose format changes as one that keeps it, lossless; anything else as it is. Raises
    NoSpace."""
    path = listed.source.path
    assert path is not None  # noqa: S101
    seen = any("attached_pic" not in video.flags for video in listed.media.videos)
    cuts = [] if seen else cuts_of(path, listed.media)
    if not 0 < len(cuts) < MAX_PARTS:
        return listed
    bounds = [0, *cuts, path.stat().st_size]
    parts = [
        copy_part(job, listed.source, start, end, f"part{n}.{listed.media.format}")
        for n, (start, end) in enumerate(pairwise(bounds))
    ]
    joined = job.workdir / f"{path.stem[:80]}.mka"
    said = Said()
    try:
        for _ in ffmpeg.run(job, _joining(parts, joined.name), said, cwd=job.workdir):
            pass
    except ffmpeg.FFmpegFailed as error:
        if failure.is_full(error.words, job.workdir):
            raise NoSpace(failure.full(listed.source.name)) from None
        return listed
    finally:
        for part in parts:
            part.unlink()
    source = replace(listed.source, path=joined)
    damaged = listed.damaged or bool(said.complaints) or is_torn(path, listed.media.formats)
    return Listed(source, probe(job, joined, source.name), listed.rare, damaged)


def cuts_of(path: Path, media: Media) -> list[int]:
    """Return where the format of an ADTS or Ogg file becomes another one; of FLAC, where each file ends."""
    readers = {"aac": formats_of, "ogg": _ogg_formats, "flac": _flac_files}
    if media.format not in readers:
        return []
    cuts = []
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        before: object = None
        for at, found in readers[media.format](data):
            if before not in (None, found):
                cuts.append(at)
            before = found
    return cuts


def _ogg_formats(data: mmap.mmap) -> Iterator[tuple[int, bytes]]:
    """Yield where each recording begins, and what tells its format."""
    at, begun = data.find(b"OggS"), False
    while 0 <= at <= len(data) - _PAGE:
        head = data[at : at + _PAGE]
        lengths = data[at + _PAGE : at + _PAGE + head[_COUNT]]
        content = at + _PAGE + len(lengths)
        if head[5] & _FIRST and not begun:
            yield at, _ogg_format(data[content : content + _HEAD])
        begun = bool(head[5] & _FIRST)
        at = data.find(b"OggS", content + sum(lengths))


def _flac_files(data: mmap.mmap) -> Iterator[tuple[int, int]]:
    """Yield where each file begins. Each is one of its own."""
    for found in _FLAC.finditer(data):
        yield found.start(), found.start()


def _ogg_format(head: bytes) -> bytes:
    """Return the codec with the channels and the sample rate, as they are there; Opus has only one rate."""
    if head[1:7] == b"vorbis":
        return head[:16]
    if head[1:5] == b"FLAC":
        return head[1:5] + head[27:31]
    return head[:10]


def _joining(parts: list[Path], name: str) -> list[str]:
    inputs = [word for part in parts for word in (*ffmpeg.SAFE, "-i", f"file:{part}")]
    alike = "aresample=48000,aformat=channel_layouts=stereo"
    chains = "".join(f"[{n}:a:0]{alike}[a{n}];" for n in range(len(parts)))
    ends = "".join(f"[a{n}]" for n in range(len(parts)))
    graph = f"{chains}{ends}concat=n={len(parts)}:v=0:a=1"
    return [*inputs, "-filter_complex", graph, "-map_metadata", "0", "-c:a", "flac", f"file:{name}"]

"""Rare: tracks whose decoders are not allowed. ffprobe opens those of all tracks or ends, so a file with
such a track is read by way of a copy without it."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from headway.sdk.job import Job
from headway.sdk.stopping import NoSpace
from worker.media import failure, ffmpeg
from worker.media.probe import Media, Track, probe
from worker.media.program import run_program
from worker.media.said import Said
from worker.media.sandbox import sandbox_for
from worker.media.source import Source

MAX_RARE = 8
"""Copies that are made of one file."""
_REFUSED = re.compile(r"Could not open codec for input stream (?P<index>\d+)")
_TRACK = r"Stream #0:{}\b.*?: (?P<kind>Video|Audio|Subtitle)(?:.*(?P<cover>\(attached pic\)))?"


@dataclass(frozen=True, slots=True)
class Listed:
    """A source without the tracks whose decoders are not allowed."""

    source: Source
    """A copy, if there are such tracks."""
    media: Media
    rare: tuple[Track, ...] = ()
    damaged: bool = False
    """Whether that was found when it was copied: the copy does not show it."""

    def rare_of(self, kind: str) -> list[Track]:
        return [track for track in self.rare if track.kind == kind]


def probe_listed(job: Job[Any], source: Source) -> Listed:
    """Look at the headers of a source, and log which of its tracks may not be decoded.

    Raises InvalidInput if it is not media that is read here, or if nothing else is in it; NoSpace.
    """
    rare: list[Track] = []
    said = Said()
    while True:
        assert source.path is not None  # noqa: S101
        try:
            media = probe(job, source.path, source.name)
        except failure.RareCodec as error:
            track = _refused(job, source.path, error.codec)
            copy = None
            if track is not None and len(rare) < MAX_RARE:
                copy = _copy_without(job, source, track, said)
            if track is None or copy is None:
                raise
            job.log(f"{track} of {source.name} cannot be decoded here", "warning")
            if rare:
                source.path.unlink()
            rare.append(track)
            source = copy
        else:
            return Listed(source, media, tuple(rare), bool(said.complaints))


def _refused(job: Job[Any], path: Path, codec: str) -> Track | None:
    """Return the first track whose decoder is not allowed."""
    command = [ffmpeg.locate("ffprobe"), "-hide_banner", *ffmpeg.SAFE, "-i", f"file:{path}"]
    said = Said()
    with run_program(job, command, said, sandbox=sandbox_for(command)) as process:
        process.wait()
    for line in said.lines:
        if found := _REFUSED.search(line):
            index = int(found["index"])
            shown = next(filter(None, map(re.compile(_TRACK.format(index)).search, said.lines)), None)
            kind = "unknown" if shown is None else "cover" if shown["cover"] else shown["kind"].lower()
            return Track(index, kind, codec)
    return None


def _copy_without(job: Job[Any], source: Source, track: Track, said: Said) -> Source | None:
    """Copy the other pictures and sounds to a file in the working directory, unless there are none, or they
    cannot be copied. Raises NoSpace."""
    assert source.path is not None  # noqa: S101
    path = job.workdir / f"{source.path.stem[:80]}.{track.index}.mkv"
    maps = ("-map", "0:v?", "-map", "0:a?", "-map", f"-0:{track.index}", "-c", "copy")
    args = [*source.arguments(), *maps, "-max_interleave_delta", "0", f"file:{path.name}"]
    try:
        for _ in ffmpeg.run(job, args, said, cwd=job.workdir):
            pass
    except ffmpeg.FFmpegFailed as error:
        if failure.is_full(error.words, job.workdir):
            raise NoSpace(failure.full(source.name)) from None
        return None
    return replace(source, path=path)

"""Poster: a still picture of a result."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from headway.sdk.job import Job
from headway.sdk.stopping import NoSpace
from worker.media import failure, ffmpeg
from worker.media.said import last_words
from worker.media.source import Source

POSTER = "poster.jpg"
_NOT_BLACK = "signalstats,metadata=select:key=lavfi.signalstats.YAVG:value=32:function=greater"
"""Only pictures that are brighter than a line of text on black; black is 16."""
_END_OF_JPEG = b"\xff\xd9"
"""Without it a full disk has cut it off."""
_LOOKED_AT = ("-t", "30")
"""Seconds of a result in which one of these is looked for."""


def make_poster(
    job: Job[Any], source: Source, made: Path, length_s: float, inputs: Sequence[str]
) -> Path | None:
    """Make one in the working directory: from a little after the beginning, which is often black, the first
    picture that is not. Of a result that ffmpeg cannot decode it is the first one of the source, which
    `inputs` reads. Logs if there is none. Raises NoSpace."""
    path = job.workdir / POSTER
    result = [*ffmpeg.OURS, "-i", f"file:{made.relative_to(job.workdir)}", "-map", "0:v"]
    later = ["-ss", f"{min(3.0, length_s / 10):.3f}", *result]
    words: Sequence[str] = ()
    for tried in ([*_LOOKED_AT, *later, "-vf", _NOT_BLACK], later, result, inputs):
        args = [*tried, "-frames:v", "1", "-q:v", "3", "-f", "image2", "-update", "1", path.name]
        try:
            for _ in ffmpeg.run(job, args, cwd=job.workdir):
                pass
        except ffmpeg.FFmpegFailed as error:
            words = error.words
            continue
        if path.is_file() and path.read_bytes().endswith(_END_OF_JPEG):
            return path
    if failure.is_full(words, job.workdir):
        raise NoSpace(failure.full(source.name))
    said = failure.hide(last_words(words), source.path, source.name)
    job.log(f"there is no poster: {said}", "warning")
    return None

"""Fields: whether pictures are made of two halves of different times, by looking at them: what a stream
says of that is often wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from headway.sdk.job import Job
from worker.media import ffmpeg
from worker.media.probe import Video
from worker.media.source import Source

MIN_HEIGHT, MAX_HEIGHT = 240, 1088
"""In smaller pictures two lines show different things anyway; larger ones are never interlaced."""
MAX_FPS = 31.0
PICTURES = 12
"""That are looked at in each place."""
COLUMNS = 24
"""Of pixels, in each picture."""
_MOVES = 16
"""By how much the brightness of a pixel changes, from the picture before and to the next one."""
_MOVING = 0.005
"""Share of the pixels without which nothing can be told."""
_ORDERED, _TORN = 1.18, 0.5
"""What is measured of whole pictures, made by programs or filmed, is below one of them: from 1.0 to 1.1 and
0.5 to 1.5, of fine patterns 1.4 and 0.4. Of halves it is 1.2 to 3 and 0.6 to 2."""
_FEWEST, _SHARE, _AGREED = 4, 0.25, 0.9
"""Pictures of halves, of all that can be told, and of those the same half first: film on television is
made of halves in two of five."""
_SURE = 10
"""Pictures that can be told, without which none are called whole."""


@dataclass(frozen=True, slots=True)
class Seen:
    """How many pictures were told apart: those of two halves by which of these is the earlier one."""

    top_first: int = 0
    bottom_first: int = 0
    whole: int = 0

    @property
    def combed(self) -> str:
        """The order of the halves, as bwdif calls it; empty if the pictures are not made of halves."""
        first, other = sorted((self.top_first, self.bottom_first), reverse=True)
        halves = first + other
        if halves < max(_FEWEST, _SHARE * (halves + self.whole)) or first < _AGREED * halves:
            return ""
        return "tff" if self.top_first == first else "bff"

    @property
    def all_whole(self) -> bool:
        return self.whole >= _SURE and not self.top_first + self.bottom_first


def see(job: Job[Any], source: Source, video: Video, moments: Sequence[float]) -> Video:
    """Return the track with what its pictures are made of, near these moments; as it is if that cannot be
    told."""
    likely = video.shape.height <= MAX_HEIGHT and (video.fps or 0) <= MAX_FPS
    # What is turned or cut has other lines than those that were recorded.
    if (
        not (video.interlaced or likely)
        or video.shape.height < MIN_HEIGHT
        or video.rotation
        or any(video.crop)
    ):
        return video
    pictures = _pictures(job, source, video, moments)
    seen = judge(pictures, video.shape.height)
    return replace(video, combed=seen.combed, whole=video.interlaced and seen.all_whole)


def _pictures(job: Job[Any], source: Source, video: Video, moments: Sequence[float]) -> list[list[bytes]]:
    inputs: list[str] = []
    outputs: list[str] = []
    files = [job.workdir / f"fields{n}" for n in range(len(moments))]
    narrow = f"scale={COLUMNS}:{video.shape.height}:flags=neighbor,format=gray"
    for n, (at, file) in enumerate(zip(moments, files, strict=True)):
        inputs += source.arguments(["-noautorotate", "-noaccurate_seek", "-ss", f"{at:.3f}"])
        outputs += ["-map", f"{n}:{video.index}", "-frames:v", str(PICTURES), "-vf", narrow]
        outputs += ["-fps_mode", "passthrough", "-f", "rawvideo", file.name]
    try:
        for _ in ffmpeg.run(job, ["-max_error_rate", "1", *inputs, *outputs], cwd=job.workdir):
            pass
    except ffmpeg.FFmpegFailed:
        return []
    size = COLUMNS * video.shape.height
    found = []
    for file in files:
        data = file.read_bytes()
        file.unlink()
        found.append([data[at : at + size] for at in range(0, len(data) - size + 1, size)])
    return found


def judge(places: Sequence[Sequence[bytes]], height: int) -> Seen:
    """Tell apart the pictures of several places, each of COLUMNS grey pixels by `height`. Those that do not
    move tell nothing."""
    top = bottom = whole = 0
    for pictures in places:
        for (before, picture), after in zip(pairwise(pictures), pictures[2:], strict=False):
            moving, earlier, later, within = _measure(before, picture, after, height)
            if moving < _MOVING * len(picture):
                continue
            small, large = sorted((earlier, later))
            if large < _ORDERED * small or within < _TORN * small:
                whole += 1
            elif earlier > later:
                top += 1
            else:
                bottom += 1
    return Seen(top, bottom, whole)


def _measure(before: bytes, picture: bytes, after: bytes, height: int) -> tuple[int, int, int, int]:
    """Return how many pixels move, and how torn the picture would be there with the upper half of the one
    before or the lower half of the one after; with the other two; and how torn it is.

    Of two halves, the earlier one fits as well to the half before as to its own other one. Whole pictures
    fit to none, or to both alike. After the filter idet of ffmpeg, which takes fine patterns for halves.
    """
    moving = within = 0
    torn = [0, 0]
    for y in range(1, height - 1):
        at = y * COLUMNS
        lines = (
            picture[at - COLUMNS : at],
            picture[at : at + COLUMNS],
            picture[at + COLUMNS : at + 2 * COLUMNS],
            before[at : at + COLUMNS],
            after[at : at + COLUMNS],
        )
        for above, here, below, was, becomes in zip(*lines, strict=True):
            if abs(was - here) + abs(becomes - here) > _MOVES:
                moving += 1
                around = above + below
                within += abs(around - 2 * here)
                torn[y & 1] += abs(around - 2 * was)
                torn[~y & 1] += abs(around - 2 * becomes)
    return moving, torn[0], torn[1], within

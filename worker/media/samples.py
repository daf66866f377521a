"""Samples: what is decoded of a track, at its beginning and later, and what that says of it."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from headway.sdk.job import Job
from headway.sdk.stopping import InvalidInput
from worker.media.ffmpeg import number
from worker.media.probe import (
    ALPHA,
    KEYS_APART_S,
    Color,
    Media,
    Shape,
    Track,
    Video,
    color_of,
    peak_nits_of,
    run_ffprobe,
    shape_of,
)
from worker.media.timeline import Timeline

FIRST_PACKETS = (40, 600)
"""Packets of a track that are decoded to see whether that can be done; more if the first give nothing."""
LATER_PACKETS = 25
"""The same of each later place."""
COUNTED = frozenset({"avi", "matroska", "mov"})
"""Formats in which pictures without times of display follow one another from the beginning on; in others
the sound is as late as they are."""


def decode_first(job: Job[Any], path: Path, name: str, track: Track) -> Track | None:
    """Decode the beginning of a track. Returns the track with what its pictures say of themselves, or None
    if nothing of it can be decoded."""
    for packets in FIRST_PACKETS:
        which = ("-select_streams", str(track.index), "-read_intervals", f"%+#{packets}")
        try:
            out = run_ffprobe(job, path, name, *which, "-show_frames", "-of", "json")
            frames = json.loads(out).get("frames", [])
        except (InvalidInput, ValueError):
            frames = []
        if frames:
            return _seen(track, frames)
    return None


def on_time(video: Video, media: Media, line: Timeline) -> Video:
    """Return the track with how late its pictures come. Where packets are in the order of decoding, without
    times of display, ffmpeg shows a picture when the decoder gives it, which holds some back."""
    if not media.formats & COUNTED or line.times != sorted(line.times):
        return video
    shown = zip(video.shown_s, line.times, strict=False)
    late = [at - media.start_s - packet_s for at, packet_s in shown if at is not None]
    # What could not be decoded at the beginning looks like more.
    most_s = video.held_back * (line.usual_length_s() or 0.0)
    return replace(video, late_s=min(max(0.0, statistics.median(late)), most_s)) if late else video


@dataclass(frozen=True, slots=True)
class Later:
    """What a look at later pictures found."""

    interlaced: bool = False
    shapes: tuple[Shape, ...] = ()
    """Of each picture."""


def decode_later(job: Job[Any], path: Path, name: str, track: Video, moments: Sequence[float]) -> Later:
    """Decode a few pictures from each of these timestamps on: the first ones may be different, as a
    broadcast changes with what is shown."""
    which = ("-select_streams", str(track.index), "-of", "json")
    entries = ("-show_entries", "frame=interlaced_frame,width,height,sample_aspect_ratio")

    def read(interval: str, *options: str) -> list[dict[str, Any]]:
        try:
            out = run_ffprobe(job, path, name, *which, *entries, *options, "-read_intervals", interval)
            frames: list[dict[str, Any]] = json.loads(out).get("frames", [])
        except (InvalidInput, ValueError):
            return []
        return frames

    found: list[dict[str, Any]] = []
    for at in moments:
        # Without an index, a seek may land behind the key picture that is needed: that one tells as well.
        before = f"{max(0.0, at - KEYS_APART_S):.3f}%{at:.3f}"
        found += (
            read(f"{at:.3f}%+#{LATER_PACKETS}") or read(before, "-skip_frame", "nokey")[-1:] * LATER_PACKETS
        )
    return Later(
        any(int(frame.get("interlaced_frame", 0)) for frame in found),
        tuple(shape_of(frame, track.crop) for frame in found if frame.get("width")),
    )


def _seen(track: Track, frames: list[dict[str, Any]]) -> Track:
    if not isinstance(track, Video):
        return track
    said = color_of(frames[0])
    color = Color(
        *(b if b != "unknown" else a for a, b in zip(_fields(track.color), _fields(said), strict=True))
    )
    pix_fmt = frames[0].get("pix_fmt", track.pix_fmt)
    return replace(
        track,
        pix_fmt=pix_fmt,
        color=color,
        alpha=track.alpha or pix_fmt.startswith(ALPHA),
        interlaced_frames=any(int(frame.get("interlaced_frame", 0)) for frame in frames),
        peak_nits=track.peak_nits or peak_nits_of(frames[0].get("side_data_list", [])),
        shown_s=tuple(number(frame.get("best_effort_timestamp_time")) for frame in frames),
    )


def _fields(color: Color) -> tuple[str, ...]:
    return color.matrix, color.primaries, color.transfer, color.range

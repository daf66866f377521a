"""Selection: which of a file's tracks are meant when it says nothing but its name. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from worker.media.probe import Audio, Media, Track, Video
from worker.media.timeline import Scan

T = TypeVar("T", bound=Track)

_NOT_THE_PICTURE = frozenset({"attached_pic", "timed_thumbnails", "still_image"})
_ASIDE = frozenset(
    {
        *("comment", "visual_impaired", "hearing_impaired", "descriptions", "karaoke", "clean_effects"),
        *("non_diegetic", "dependent"),
    }
)
"""Flags of tracks that accompany another one."""
_ASIDE_TITLES = ("commentary", "audio description", "descriptive audio")


def videos(found: Media, scan: Scan) -> list[Video]:
    """Return the video tracks that may be meant, the likeliest first; neither cover art nor a track without
    anything in it is one of them."""
    real = [track for track in _filled(found.videos, scan) if not track.flags & _NOT_THE_PICTURE]
    several = any(scan.of(track).packets > 1 for track in real)

    def unlikely(track: Video) -> tuple[object, ...]:
        packets = scan.of(track).packets
        return (
            several and packets <= 1,
            _aside(track),
            "default" not in track.flags,
            -track.width * track.height,
            -packets,
            track.index,
        )

    return sorted(real, key=unlikely)


def audios(found: Media, scan: Scan, video: Video | None) -> list[Audio]:
    """Return the audio tracks that may be meant with this picture, the likeliest first: of its program, the
    default, no commentary. Tracks without anything in them are left out."""

    def unlikely(track: Audio) -> tuple[object, ...]:
        return (
            video is not None and not _together(found, video, track),
            track.codec in ("unknown", "none") or track.channels == 0,
            _aside(track),
            "default" not in track.flags,
            track.index,
        )

    # One of which nothing is known had better be there: in a large file it is looked for up to the end.
    heard = [
        track
        for track in found.audios
        if track.channels > 0 or track.codec in ("unknown", "none") or scan.of(track).packets
    ]
    return sorted(_filled(heard, scan), key=unlikely)


def unseen(found: Media, scan: Scan) -> list[Track]:
    """Return the tracks with pictures in them of which not even the size can be told."""
    seen = {track.index for track in found.videos}
    return [
        track
        for track in found.tracks
        if track.kind == "video" and track.index not in seen and scan.of(track).packets
    ]


def left_out(found: Media, chosen: Sequence[Track | None], *, picture: bool) -> str | None:
    """Return what of the file is not in the result, in words; None if that is nothing. `picture` is whether
    the result has one."""
    taken = {track.index for track in chosen if track is not None}
    rest = []
    for track in found.tracks:
        if track.index in taken or (not picture and track.kind == "video"):
            continue
        cover = track.flags & _NOT_THE_PICTURE
        rest.append(f"the cover picture in track {track.index}" if cover else str(track))
    if found.chapters:
        rest.append(f"{found.chapters} chapter marks")
    return ", ".join(rest) or None


def _filled(tracks: Sequence[T], scan: Scan) -> list[T]:
    return [track for track in tracks if scan.of(track).packets or not scan.complete]


def _aside(track: Track) -> bool:
    title = track.title.lower()
    return bool(track.flags & _ASIDE) or any(words in title for words in _ASIDE_TITLES)


def _together(found: Media, one: Track, other: Track) -> bool:
    programs = [program for program in found.programs if one.index in program]
    return not programs or any(other.index in program for program in programs)

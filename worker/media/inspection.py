"""Inspection: from a source to what of it will be encoded, and what is wrong with it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, TypeVar, cast

from headway.sdk.job import Job
from headway.sdk.stopping import InvalidInput
from worker.media import fields, selection
from worker.media.chunk import with_all_samples
from worker.media.command import SAME_SHAPE, Cut
from worker.media.failure import TOO_LARGE
from worker.media.joined import holds_another
from worker.media.probe import (
    KEYS_APART_S,
    Audio,
    Media,
    Track,
    Video,
)
from worker.media.rare import probe_listed
from worker.media.rate import Rate, measure_rate
from worker.media.rejoin import rejoin
from worker.media.samples import Later, decode_first, decode_later, on_time
from worker.media.sandbox import MAX_PIXELS
from worker.media.source import Source
from worker.media.timeline import JOINED, Scan, Timeline, scan
from worker.media.transport import one_format, scrambled_shares
from worker.media.verify import MOST_LOST, out_of_step

MAX_TRIED = 8
"""Tracks of one kind that are tried until one can be decoded."""
PROMISE_LENGTHS = frozenset(
    {"mov", "matroska", "webm", "avi", "flv", "asf", "wav", "w64", "aiff", "flac", "mxf", "gif"}
)
"""Formats whose headers state a length; of the others ffprobe makes an estimate."""

UNINDEXED = frozenset({"mpegts", "mpeg", "flv", "ogg"})

AT_ONCE_S = 0.01
STARTS_UP_S = 0.1
"""Opus begins so many seconds early at most, AAC half as many."""
AGREED = 0.02
LEAST_S = 0.001
"""A shorter part of a source holds too little sound for an encoder to make anything of it."""

FOLLOWS_S = 0.5
"""A track that begins so soon before another one ends goes on where that one stops."""
NOTICED = 0.02
"""Share of a track."""
UNREAD = 0.1
"""Share of a file behind the last packet that was read: the rest of that packet and tables are less."""

SAMPLED_FROM_S = 2.0
SAMPLES = 3
"""Places in a track of at least that length where its pictures are looked at once more."""

T = TypeVar("T", bound=Track)


@dataclass(frozen=True, slots=True)
class Input:
    """A source, what was found in it, and what of it will be encoded."""

    source: Source
    media: Media
    scan: Scan
    video: Video | None
    audio: Audio | None
    rate: Rate | None
    cut: Cut
    warnings: tuple[str, ...] = ()

    @property
    def sound(self) -> str | None:
        """ffmpeg's name of the audio stream, as "0:1"."""
        return None if self.audio is None else f"{0 if self.source.path else 1}:{self.audio.index}"

    @property
    def sound_is_longer(self) -> bool:
        return self.audio is not None and self.scan.of(self.audio).end_s > self.scan.of(self.video).end_s

    def __str__(self) -> str:
        parts = [self.media.format]
        if self.video is not None:
            rate = "" if self.rate is None else f" {float(self.rate.fps):.5g} fps"
            variable = "" if self.rate is None or self.rate.constant else " (variable)"
            halves = " interlaced" if self.video.interlaced and not self.video.whole else ""
            parts.append(
                f"{self.video.codec} {self.video.width}x{self.video.height}{halves}{rate}{variable}"
            )
        if self.audio is not None:
            channels = self.audio.channels
            parts.append(f"{self.audio.codec} {channels} channel{'s' * (channels > 1)}")
        if self.cut.length_s is not None:
            parts.append(f"{self.cut.length_s:.2f} s")
        return f"{self.source.name}: {', '.join(parts)}"


def look(
    job: Job[Any], source: Source, *, picture: bool, start_s: float | None, duration_s: float | None
) -> Input:
    """Choose the tracks of a source, measure them, and log what is left out and what is wrong. `picture` is
    whether the result has one.

    Raises InvalidInput if there is nothing to encode.
    """
    if source.path is None:
        return _sample(source, start_s, duration_s)
    source, changed = one_format(job, source)
    listed = rejoin(job, with_all_samples(job, probe_listed(job, source)))
    source, media = listed.source, listed.media
    assert source.path is not None  # noqa: S101
    shares = scrambled_shares(source.path) if "mpegts" in media.formats else {}
    media = _with_locks(media, shares)
    scanned = scan(job, source.path, media)
    likely = selection.videos(media, scanned) or _encrypted(media, "video")
    video = _first_decodable(job, source, scanned, likely) if picture else None
    # Sound alone is that of the program whose picture would be taken.
    seen = video or next(iter(likely), None)
    heard = selection.audios(media, scanned, seen) or _encrypted(media, "audio")
    audio = _first_decodable(job, source, scanned, heard)
    warnings = _missing(source, media, scanned)
    if changed is not None:
        warnings.append(changed)
    if "mov" in media.formats and any(track.nameless for track in media.tracks):
        warnings.append(f"{source.name} is damaged: of one of its tracks nothing can be read")
    if listed.damaged and not warnings:
        warnings.append(f"{source.name} is cut off or damaged")
    if scanned.went_back:
        warnings.append(f"the timestamps of {source.name} start anew in the middle: the rest is left out")
    elif scanned.given_up:
        here = f"after {scanned.end_s:.2f} s the number of channels of {source.name} changes"
        warnings.append(f"{here}: the rest is left out")
    elif scanned.unclear:
        warnings.append(out_of_step(source.name))
    elif holds_another(source.path, media.formats):
        warnings.append(f"{source.name} holds more than one recording: only the first is taken")
    if picture and video is None:
        unseen = likely or selection.unseen(media, scanned) or listed.rare_of("video")
        raise InvalidInput(_none_of(source, scanned, "video", unseen))
    if audio is None:
        unheard = heard or listed.rare_of("audio")
        why = _none_of(source, scanned, "sound", unheard)
        if not picture:
            raise InvalidInput(why)
        if unheard:
            warnings.append(f"{why}. The result has no sound")
    if video is not None and video.width * video.height > MAX_PIXELS:
        raise InvalidInput(f"a picture of {video.width}x{video.height}, as in {source.name}, is too large")
    warnings += unread(source, media, scanned, shares, (video, audio))
    cut, silent = _cut(source, media, scanned, video, audio, start_s or 0.0, duration_s)
    if silent:
        nothing = f"{source.name} has no sound in the part that is encoded"
        if not picture:
            raise InvalidInput(nothing)
        job.log(nothing)
        audio = None
    rest = selection.left_out(media, (video, audio), picture=picture)
    if rest is not None:
        job.log(f"left out of {source.name}: {rest}")
    if video is not None and video.dolby_vision == 5:
        warnings.append(f"{source.name} is Dolby Vision profile 5, whose colours cannot be converted here")
    if video is not None and video.tilt:
        angle = f"{video.rotation + video.tilt} degrees"
        job.log(f"{source.name} is to be turned by {angle}: its picture is turned by {video.rotation}")
    if video is not None:
        moments = _moments(scanned.of(video).end_s)
        at = [media.start_s + moment for moment in moments]
        video = on_time(video, media, scanned.of(video))
        later = decode_later(job, source.path, source.name, video, at) if at else Later()
        video = fields.see(job, source, with_later(video, later), moments or [0.0])
        shapes = {shape.shown(video.rotation) for shape in (*later.shapes, video.shape)}
        if len(shapes) > 1:
            job.log(
                f"the pictures of {source.name} change their size: all become {video.width}x{video.height}"
            )
        if not video.keeps_shape and not _alike(shapes):
            warnings.append(
                f"the pictures of {source.name} change their shape, and some are shown stretched"
            )
    for warning in warnings:
        job.log(warning, "warning")
    rate = None if video is None else _rate(scanned, video)
    return Input(source, media, scanned, video, audio, rate, cut, tuple(warnings))


def _sample(source: Source, start_s: float | None, duration_s: float | None) -> Input:
    """A source that is made while it is read: all of it is known."""
    video = Video(0, "video", "rawvideo", width=1280, height=720, fps=30, pix_fmt="yuv420p")
    audio = Audio(0, "audio", "pcm_s16le", channels=1, sample_rate=48000)
    media = Media("lavfi", source.sample_s, 0.0, None, (video, audio))
    pictures = max(1, round(source.sample_s * 30))
    scanned = Scan({0: Timeline(packets=pictures, start_s=0, end_s=source.sample_s)})
    cut, _ = _cut(source, media, scanned, video, audio, start_s or 0.0, duration_s)
    return Input(source, media, scanned, video, audio, Rate(Fraction(30), True), cut)


def _first_decodable(job: Job[Any], source: Source, scanned: Scan, tracks: Sequence[T]) -> T | None:
    assert source.path is not None  # noqa: S101
    for track in tracks[:MAX_TRIED]:
        if _is_encrypted(track, scanned):
            # A decoder makes pictures of it, which are noise.
            job.log(f"{track} of {source.name} is encrypted", "warning")
            continue
        seen = decode_first(job, source.path, source.name, track)
        if seen is not None:
            return cast(T, seen)
        job.log(f"{track} of {source.name} cannot be decoded here", "warning")
    return None


def _moments(length_s: float) -> list[float]:
    """Return when to look at a track once more, from its beginning."""
    if length_s < SAMPLED_FROM_S:
        return []
    return [length_s * n / (SAMPLES + 1) for n in range(1, SAMPLES + 1)]


def with_later(video: Video, later: Later) -> Video:
    """Return the track with what a look at its later pictures adds: fields, and the size that most have."""
    sizes = Counter((video.shape, *later.shapes))
    usual = max(sizes, key=lambda shape: sizes[shape])
    width, height = usual.shown(video.rotation)
    # ffmpeg gives all pictures the pixels of the first.
    alike = len(sizes) > 1 and len({shape.pixel for shape in sizes}) == 1
    return replace(
        video,
        interlaced_frames=video.interlaced_frames or later.interlaced,
        width=width,
        height=height,
        shape=usual,
        keeps_shape=video.keeps_shape or alike,
    )


def _alike(sizes: Collection[tuple[int, int]]) -> bool:
    ratios = [width / height for width, height in sizes]
    return max(ratios) < min(ratios) * (1 + SAME_SHAPE)


def _with_locks(media: Media, shares: dict[int, float]) -> Media:
    """Return what was found, with the tracks marked that are all but wholly scrambled."""
    locked = {pid for pid, share in shares.items() if share > MOST_LOST}
    tracks = (replace(track, encrypted=True) if track.pid in locked else track for track in media.tracks)
    return replace(media, tracks=tuple(tracks))


def _encrypted(media: Media, kind: str) -> list[Any]:
    return [track for track in media.tracks if track.kind == kind and track.encrypted]


def _is_encrypted(track: Track, scanned: Scan) -> bool:
    return track.encrypted or scanned.of(track).encrypted


def _none_of(source: Source, scanned: Scan, what: str, tracks: Sequence[Track]) -> str:
    if not tracks:
        return f"{source.name} has no {what}"
    if all(_is_encrypted(track, scanned) for track in tracks):
        return (
            f"the {what} of {source.name} is encrypted (DRM) and cannot be decoded without its key. "
            f"A copy without copy protection would work"
        )
    if what == "video" and scanned.too_large:
        return f"the video of {source.name} cannot be decoded here: {TOO_LARGE}"
    codecs = ", ".join(sorted({track.codec for track in tracks}))
    return (
        f"the {what} of {source.name} cannot be decoded here: its format ({codecs}) is not known, or it is "
        f"damaged. A copy exported as MP4 with H.264 and AAC would work"
    )


def unread(
    source: Source,
    media: Media,
    scanned: Scan,
    shares: dict[int, float],
    chosen: Sequence[Track | None],
) -> list[str]:
    """Return what there is of the picture and the sound that is not in the chosen tracks, or cannot be read
    there."""
    assert source.path is not None  # noqa: S101
    found = []
    taken = {track.index for track in chosen if track is not None}
    for track in filter(None, chosen):
        line = scanned.of(track)
        for other in media.tracks:
            beside = scanned.of(other)
            if other.kind != track.kind or other.index in taken or beside.packets < 2:
                continue
            if (beside.start_s or 0.0) > line.end_s - FOLLOWS_S:
                found.append(
                    f"{source.name} goes on after {line.end_s:.2f} s in another track: {other} is left out"
                )
            elif beside.end_s < (line.start_s or 0.0) + FOLLOWS_S:
                found.append(
                    f"{source.name} has another track up to {beside.end_s:.2f} s: {other} is left out"
                )
        if shares.get(track.pid or 0, 0.0) > NOTICED:
            found.append(
                f"{source.name} is scrambled (encrypted) in part, which cannot be decoded without its key: "
                f"{shares[track.pid or 0]:.0%} of {track}"
            )
    size = source.path.stat().st_size
    rest = size - scanned.position
    if not found and "mpegts" in media.formats and scanned.complete and rest > size * UNREAD:
        found.append(
            f"the last {rest / size:.0%} of {source.name} are left out: other tracks begin there than at "
            f"the beginning"
        )
    return found


def _missing(source: Source, media: Media, scanned: Scan) -> list[str]:
    """Return what the file promises in its header and does not have.

    Raises InvalidInput if that is nearly all of a file that was cut off.
    """
    promised, there = media.duration_s, scanned.end_s
    cut_off = f"{source.name} is cut off or damaged"
    # Of a file that does not begin at 0, a header may tell the end or the length.
    short = (
        promised is not None
        and bool(media.formats & PROMISE_LENGTHS)
        and scanned.complete
        and there + max(0.0, media.start_s) < promised - max(0.25, promised * 0.02)
    )
    if not short or promised is None:
        return [f"{cut_off}: {there:.2f} s are there"] if scanned.cut else []
    if there and not scanned.cut and not scanned.complaints:
        return [f"{source.name} says that it lasts {promised:.2f} s, but has only {there:.2f} s"]
    cut_off += f": {there:.2f} s of {promised:.2f} s are there"
    if there < promised * (1 - MOST_LOST):
        raise InvalidInput(f"{cut_off}. Export it or upload it again")
    return [cut_off]


def _cut(
    source: Source,
    media: Media,
    scanned: Scan,
    video: Video | None,
    audio: Audio | None,
    start_s: float,
    duration_s: float | None,
) -> tuple[Cut, bool]:
    """Return the part to encode, and whether it is without the sound that there is elsewhere."""
    timelines = [scanned.of(track) for track in (video, audio) if track is not None]
    # Where timestamps begin anywhere, ffmpeg lets time begin with what is encoded.
    zero = min(line.start_s or 0.0 for line in timelines) if media.formats & JOINED else 0.0
    ends = [line.end_s - zero for line in timelines]
    end: float | None = max(ends)
    if not scanned.complete:
        end = _tabled_s(media, video)
    if start_s and end is not None and start_s >= end:
        raise InvalidInput(f"start_s {start_s:g} is past the end of {source.name}, after {end:.2f} s")
    length = None if end is None else end - start_s
    if duration_s is not None:
        length = duration_s if length is None else min(length, duration_s)
    if length is not None and (start_s or duration_s) and round(length, 6) < LEAST_S:
        raise InvalidInput(
            f"the part of {source.name} that start_s and duration_s leave is shorter than 1 ms"
        )
    # Without an index the picture that a seek finds may be a later one.
    lead = min(start_s, KEYS_APART_S) if media.formats & UNINDEXED else 0.0
    # A seek ends at a picture, whichever track is encoded: none is possible before the first one.
    firsts = [scanned.of(track).start_s for track in media.videos]
    if any(at is not None and at - zero > start_s for at in firsts):
        lead = start_s
    held = video is not None and scanned.complete and 0 < ends[0] <= start_s
    if held:
        lead = start_s - max(0.0, ends[0] - KEYS_APART_S)
    cut = Cut(start_s, length, lead, held)
    if audio is None or source.path is None or not scanned.complete:
        return cut, False
    sound = scanned.of(audio)
    begins = (sound.start_s or 0.0) - zero - start_s
    outside = length is not None and begins > length - LEAST_S
    outside |= bool(start_s) and sound.end_s - zero < start_s + LEAST_S
    # What comes before the start is cut off, and what an encoder starts up with is not decoded.
    near = -STARTS_UP_S < (max(begins, 0.0) if start_s else begins) < AT_ONCE_S
    return replace(cut, sound_from_zero=near), outside


def _tabled_s(media: Media, video: Video | None) -> float | None:
    """Return what the header says, if a table of every picture says so too: headers are often wrong."""
    if video is None or not (video.frames and video.fps and video.duration_s):
        return None
    tabled_s = video.frames / video.fps
    agree = "mov" in media.formats and abs(tabled_s - video.duration_s) < AGREED * tabled_s
    return media.duration_s if agree else None


def _rate(scanned: Scan, video: Video) -> Rate | None:
    """Return the measured rate of the pictures. Packets of interlaced video may be half pictures."""
    measured = measure_rate(scanned.of(video).times)
    if measured is None or not video.interlaced or not video.fps:
        return measured
    halves = abs(float(measured.fps) - 2 * video.fps) < 0.05 * video.fps
    return Rate(measured.fps / 2, measured.constant) if halves else measured

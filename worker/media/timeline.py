"""Timeline: where the packets of a file really lie in time, by reading it.

Headers are written by programs that could not know better (a browser's recorder, a camera that lost its
power) or did not care. So lengths and rates are taken from the timestamps of what is really in the file, as
far as that can be read in SCAN_S; only beyond that the header is asked.
"""

from __future__ import annotations

import os
import re
import select
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from headway.sdk.job import Job
from worker.media import ffmpeg
from worker.media.ffmpeg import number
from worker.media.pauses import APART_S, BACK_S, JUMP_S, Pauses
from worker.media.probe import Media, Track
from worker.media.program import run_program
from worker.media.rate import intervals
from worker.media.said import Said
from worker.media.sandbox import sandbox_for
from worker.media.torn import is_torn

SCAN_S = 10.0
"""At most this many seconds are spent on reading a file for its timestamps."""
MAX_TIMES = 20_000
"""Timestamps that are kept per track: the rate of so many pictures is the rate of all."""
BELIEVED_S = 1e6
"""Eleven days. A timestamp beyond that is damaged, and ffmpeg does not heed it either."""
JOINED = frozenset({"mpegts", "mpeg", "ogg"})
"""Formats whose timestamps may start anew in the middle: two recordings one after the other."""
SAMPLES = frozenset({"wav", "w64", "aiff", "caf"})
"""Formats without packets: their last one is as long as what is left."""
_ENTRIES = (
    "packet=stream_index,pts_time,dts_time,duration_time,size,pos,flags:packet_side_data=side_data_type"
)
_TOO_LARGE = re.compile(r"Picture size (?!0x0)\d+x\d+ (?:is invalid|exceeds)")
_CUT = ("partial file", "prematurely", "runcated")
_GIVEN_UP = "Channel change is not supported"
_NEAR_THE_END = 4
"""Packets. What is torn further ahead is damage, of which the decoder tells."""
_FALSE = 3
"""Packets said to last so many times what they do last have a header that is wrong about it."""


@dataclass(slots=True)
class Timeline:
    """Where the packets of one track lie in time: seconds from the file's own zero."""

    packets: int = 0
    bytes: int = 0
    start_s: float | None = None
    end_s: float = 0.0
    """The end of the last packet, as far as it was read."""
    times: list[float] = field(default_factory=list)
    lengths: list[float] = field(default_factory=list)
    last_s: float = 0.0
    last_has_length: bool = False
    encrypted: bool = False

    def add(self, at: float, length: float | None, size: int) -> None:
        self.packets += 1
        self.bytes += size
        self.start_s = at if self.start_s is None else min(self.start_s, at)
        if at >= self.last_s or self.packets == 1:
            self.last_s, self.last_has_length = at, bool(length)
        self.end_s = max(self.end_s, at + (length or 0.0))
        if len(self.times) < MAX_TIMES:
            self.times.append(at)
            self.lengths.append(length or 0.0)

    @property
    def overlaps_s(self) -> float:
        """How much longer the packets (up to MAX_TIMES) last than the time from the first to the last."""
        if not self.times:
            return 0.0
        return sum(self.lengths[:-1]) - (max(self.times) - min(self.times))

    def usual_length_s(self) -> float | None:
        """Return how long most packets last, by when the next one comes; None for a single one."""
        steps = intervals(self.times)
        return steps[len(steps) // 2] if steps else None


@dataclass(slots=True)
class Scan:
    """What reading a file from its beginning found."""

    tracks: dict[int, Timeline] = field(default_factory=dict)
    complete: bool = True
    """Whether the end was reached."""
    cut: bool = False
    """Whether the file ends before its own tables say that it does, or within a packet."""
    complaints: bool = False
    """Whether there was anything wrong with how it is put together."""
    too_large: bool = False
    """Whether its header asks for pictures larger than what is decoded here."""
    position: int = 0
    """Bytes, as far as it was read."""
    went_back: bool = False
    """Whether timestamps start anew in a format where ffmpeg makes nothing of that."""
    given_up: bool = False
    """Whether ffmpeg does not read on, since the number of channels changes."""
    since_torn: int | None = None
    """Packets since the last one of which a part is missing."""
    jump_s: float = JUMP_S
    """What ffmpeg has to take for a new start: a jump ahead by more than this."""
    unclear: bool = False
    """Whether some new starts are not told from pauses by that."""

    def of(self, track: Track | None) -> Timeline:
        return Timeline() if track is None else self.tracks.get(track.index, Timeline())

    @property
    def end_s(self) -> float:
        return max((timeline.end_s for timeline in self.tracks.values()), default=0.0)


class Clock:
    """Makes one line of timestamps that start anew in the middle, as ffmpeg does.

    A jump ahead by more than `jump_s` is a new start. Tracks in `aside` (subtitles: they are far apart) go
    with the others.
    """

    def __init__(self, joined: bool, jump_s: float = JUMP_S, aside: Collection[int] = ()) -> None:
        self.pauses = Pauses()
        self._joined = joined
        self._jump_s = jump_s
        self._aside = aside
        self._offset = 0.0
        self._last: dict[int, float] = {}
        self._next: dict[int, float] = {}
        self._raw: dict[int, float] = {}
        self.went_back = False
        self.torn_apart = False
        """Whether a packet went along with a new start that is not its own track's."""

    def shift(self, index: int, dts: float | None, length: float | None) -> float:
        """Return what to add to the timestamps of this packet."""
        if dts is None or index in self._aside:
            return self._offset
        self.pauses.add(index, dts, length or 0.0)
        at = dts + self._offset
        expected = self._next.get(index, at)
        last = self._last.get(index, at)
        if not self._joined:
            self.went_back |= at < last - APART_S
        elif at < last - BACK_S or at - expected > self._jump_s:
            self._offset += expected - at
            at = expected
        elif index in self._raw and -BACK_S <= (step := dts - self._raw[index]) <= self._jump_s:
            self.torn_apart |= abs(step - (at - last)) > 2 * BACK_S
        self._raw[index], self._last[index] = dts, at
        # Elsewhere what a header says of the lengths may be false.
        self._next[index] = at + (length or 0.0 if self._joined else 0.0)
        return self._offset


def scan(
    job: Job[Any],
    path: Path,
    found: Media,
    *,
    allowed: Sequence[str] = ffmpeg.SAFE,
    limit_s: float = SCAN_S,
) -> Scan:
    """Read the file's packets for their timestamps, for `limit_s` seconds at most; twice if one of its
    tracks pauses for so long that its timestamps seem to start anew, or if they do: the last packet of a
    track may then come behind the first of another one's new start, and has to be taken for what it is."""
    joined = bool(found.formats & JOINED)
    aside = [track.index for track in found.tracks if track.kind not in ("video", "audio")]
    clock = Clock(joined, aside=aside)
    result = _read(job, path, found, clock, allowed, limit_s)
    pause_s, new_start_s = clock.pauses.measure()
    apart_s = clock.pauses.apart_s()
    if joined and (pause_s or apart_s is not None):
        jump_s = (pause_s or clock.pauses.gap_s) + (APART_S if apart_s is None else apart_s)
        clock = Clock(joined, jump_s, aside)
        result = _read(job, path, found, clock, allowed, limit_s)
        result.jump_s, result.unclear = jump_s, jump_s >= new_start_s or clock.torn_apart
    return result


def _read(
    job: Job[Any], path: Path, found: Media, clock: Clock, allowed: Sequence[str], limit_s: float
) -> Scan:
    called, cwd = ffmpeg.place(job, path, allowed)
    command = [
        *(
            ffmpeg.locate("ffprobe"),
            "-hide_banner",
            "-loglevel",
            ffmpeg.LOG_LEVEL,
            "-of",
            "compact=p=0:nk=1",
        ),
        *("-show_entries", _ENTRIES),
        *allowed,
        *("-i", f"file:{called}"),
    ]
    result = Scan()
    said = Said(found.said)
    deadline = time.monotonic() + limit_s
    rest = b""
    with run_program(job, command, said, sandbox=sandbox_for(command, cwd), cwd=cwd) as process:
        assert process.stdout is not None  # noqa: S101
        out = process.stdout.fileno()
        while True:
            if not select.select([out], [], [], max(0.0, deadline - time.monotonic()))[0]:
                result.complete = False
                break
            data = os.read(out, 1 << 16)
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                _packet(result, clock, found.start_s, line.decode("ascii", "replace").split("|"))
            if not data:
                result.complete = process.wait() >= 0
                break
            if time.monotonic() > deadline:
                result.complete = False
                break
        process.stdout.close()
    result.complaints = said.complaints > 0
    result.too_large = any(_TOO_LARGE.search(line) for line in said.lines)
    result.given_up = any(_GIVEN_UP in line for line in said.lines)
    result.went_back = clock.went_back
    # A decoder may say so of a part of a picture, of any track.
    result.cut = result.complete and (
        any(words in text for text in said.by_text for words in _CUT if text.startswith(found.mark))
        or (
            result.since_torn is not None
            and result.since_torn < _NEAR_THE_END
            and not found.formats & SAMPLES
        )
        or is_torn(path, found.formats)
    )
    end_last_packets(result, found.duration_s)
    return result


def _packet(result: Scan, clock: Clock, zero: float, fields: list[str]) -> None:
    if len(fields) < 7 or not fields[0].isdigit():
        return
    pts, dts, length = number(fields[1]), number(fields[2]), number(fields[3])
    size, position = number(fields[4]), number(fields[5])
    if position is not None and position > 0:
        result.position = max(result.position, int(position + (size or 0)))
    if "C" in fields[6]:
        result.since_torn = 0
    elif result.since_torn is not None:
        result.since_torn += 1
    # "D" is what the file itself says is not to be shown: after a cut, up to the last key picture.
    if "D" in fields[6]:
        return
    at = dts if pts is None else pts
    if at is not None and abs(at - zero) > BELIEVED_S:
        return
    shift = clock.shift(int(fields[0]), pts if dts is None else dts, length)
    timeline = result.tracks.setdefault(int(fields[0]), Timeline())
    if at is None:
        at = timeline.end_s + zero - shift
    timeline.add(at + shift - zero, length, int(size or 0))
    timeline.encrypted |= "Encryption info" in fields[7:]


def end_last_packets(result: Scan, promised_s: float | None = None) -> None:
    """Give a track's last packet the usual length if it has none, or if those of the others are false; but
    no more than up to the end that the header promises, if that is within it."""
    for timeline in result.tracks.values():
        usual = timeline.usual_length_s()
        if usual is None:
            continue
        if not timeline.last_has_length:
            end_s = timeline.last_s + usual
            if promised_s is not None and timeline.last_s < promised_s < end_s:
                end_s = promised_s
            timeline.end_s = max(timeline.end_s, end_s)
        elif sorted(timeline.lengths)[len(timeline.lengths) // 2] > _FALSE * usual:
            timeline.end_s = timeline.last_s + usual

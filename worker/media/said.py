"""What ffmpeg and ffprobe say on stderr: how much of it is about damage, and the lines worth keeping."""

from __future__ import annotations

import re
from collections import Counter, deque
from collections.abc import Mapping, Sequence

KEPT_LINES = 20

_ADDRESS = re.compile(r"\[([^\]]*?) @ 0x[0-9a-f]+\] ")
_LEVEL = re.compile(r"\[(?:error|fatal|panic)\] ")
_WRITING = re.compile(r"\[(?:libx26\d|libsvtav1|libopus|null|out#|[vas]ost#)")
_WHERE = re.compile(r" @ 0x[0-9a-f]+")
_MAX_KINDS = 1000
"""Different complaints that are counted apart."""
_OURS = "not on whitelist"
"""What is not allowed is not damaged."""
_VIDEO_DECODER = re.compile(r"\[vist#\d+:\d+")
_AUDIO_DECODER = re.compile(r"\[aist#\d+:\d+")
_WARNING = "[warning]"
_SHIFTED = re.compile(r"timestamp discontinuity .*new offset= ?(?P<micros>-?\d+)")
_SAME_S = 1.0


class Said:
    """What a program said on stderr: the first and the last lines, and how much of it was about damage.

    `before` are complaints that are not counted again, as often as they came.
    """

    def __init__(self, before: Mapping[str, int] | None = None) -> None:
        self._before = Counter(before)
        self.by_text: Counter[str] = Counter()
        """Complaints, with who says so."""
        self._first: list[str] = []
        self._last: deque[str] = deque(maxlen=KEPT_LINES)
        self.complaints = 0
        """Errors in what was read. What an encoder or a muxer says is none."""
        self.lost_pictures = 0
        """Packets of pictures that could not be decoded."""
        self.lost_sounds = 0
        self.pause_s = 0.0
        """By how much timestamps were shifted to and fro at most: a track pauses, and tracks side by side
        seemed to begin anew. Told with JUMPS_TOLD."""
        self._shifts_s = [0.0]

    def add(self, line: str) -> None:
        if _WARNING in line:
            if shifted := _SHIFTED.search(line):
                self._shift(int(shifted["micros"]) / 1e6)
            return
        if _LEVEL.search(line) is not None and _OURS not in line and _WRITING.match(line) is None:
            self._complain(_WHERE.sub("", line))
        if "submitting packet to decoder" in line or "while decoding" in line.lower():
            self.lost_pictures += _VIDEO_DECODER.search(line) is not None
            self.lost_sounds += _AUDIO_DECODER.search(line) is not None
        text = _LEVEL.sub("", line)
        if len(self._first) < KEPT_LINES:
            self._first.append(text)
        else:
            self._last.append(text)

    def _complain(self, text: str) -> None:
        if self._before[text] > 0:
            self._before[text] -= 1
            return
        self.complaints += 1
        if len(self.by_text) < _MAX_KINDS or text in self.by_text:
            self.by_text[text] += 1

    def _shift(self, by_s: float) -> None:
        if any(abs(by_s - before_s) < _SAME_S for before_s in self._shifts_s[:-1]):
            self.pause_s = max(self.pause_s, abs(by_s - self._shifts_s[-1]))
        self._shifts_s = [*self._shifts_s[-KEPT_LINES:], by_s]

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

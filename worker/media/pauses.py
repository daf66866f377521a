"""Pauses: which jumps of a track's timestamps are none, since another track goes on meanwhile. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

JUMP_S, BACK_S = 10.0, 0.1
"""What ffmpeg takes for timestamps that start anew: a jump ahead by more than one or back by more than the
other."""
APART_S = 1.0
"""Two tracks of a recording may begin or end so far from each other."""


@dataclass(slots=True)
class Run:
    """Packets of a track without a jump between them, in seconds."""

    age: int
    """How often the timestamps of the track had gone back before."""
    start_s: float
    end_s: float
    last_s: float
    """When its last packet begins."""


class Pauses:
    """Takes the packets of a file in its order, with the timestamps that are in it."""

    def __init__(self) -> None:
        self._runs: dict[int, list[Run]] = {}
        self._firsts: list[tuple[float, float, Run]] = []
        """Of each track but the first: where it begins, how far that is from what was read last of another
        one, and the latter's run."""
        self.gap_s = 0.0
        """The longest time between two packets of a track that is no jump."""

    def add(self, index: int, at: float, length: float) -> None:
        runs = self._runs.setdefault(index, [])
        if not runs:
            others = [track[-1] for other, track in self._runs.items() if other != index]
            self._firsts += [(at, abs(at - run.end_s), run) for run in others]
            runs.append(Run(0, at, at + length, at))
        elif at < runs[-1].last_s - BACK_S:
            runs.append(Run(runs[-1].age + 1, at, at + length, at))
        elif at > runs[-1].end_s + JUMP_S:
            runs.append(Run(runs[-1].age, at, at + length, at))
        else:
            run = runs[-1]
            self.gap_s = max(self.gap_s, at - run.last_s)
            run.end_s, run.last_s = max(run.end_s, at + length), at

    def measure(self) -> tuple[float, float]:
        """Return the length of the longest pause that ffmpeg takes for a new start, 0 if there is none, and
        the shortest jump ahead that is one, infinite if there is none."""
        pause_s, jump_s = 0.0, math.inf
        for at, away, run in self._firsts:
            # Of a slow track in a transport stream a packet comes only when the next one begins.
            if away > JUMP_S and run.start_s - APART_S <= at <= run.end_s + APART_S:
                pause_s = max(pause_s, away)
        for index, runs in self._runs.items():
            for before, after in pairwise(runs):
                gap_s = after.start_s - before.end_s
                if before.age != after.age:
                    continue
                if self._covered_s(index, before, after) > gap_s / 2:
                    pause_s = max(pause_s, gap_s)
                else:
                    jump_s = min(jump_s, gap_s)
        return pause_s, jump_s

    def apart_s(self) -> float | None:
        """Return how far apart the tracks of a recording may begin or end, which is less than it lasts, if
        others follow it; None if the timestamps never go back."""
        steps = [step for runs in self._runs.values() for step in pairwise(runs)]
        lengths = [before.end_s - before.start_s for before, after in steps if before.age != after.age]
        return min(APART_S, min(lengths) / 2) if lengths else None

    def _covered_s(self, index: int, before: Run, after: Run) -> float:
        """Return how much another track has of the time between two runs of a track."""
        return max(
            (
                sum(
                    max(0.0, min(run.end_s, after.start_s) - max(run.start_s, before.end_s))
                    for run in runs
                    if run.age == before.age
                )
                for other, runs in self._runs.items()
                if other != index
            ),
            default=0.0,
        )

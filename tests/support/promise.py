"""What a stream promises: exactly what the store has after the reader's cursor, in order, or a reset.

Only progress may be left out: by readers that were slow, by feeds, and if the job has ended; and only if
newer progress of the same job follows (on a feed also its end).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from headway.contract.events import ZERO, EventId
from tests.support.memory_store import MemoryStore
from tests.support.sse import Seen, seen

Given = list[tuple[str, str]]
"""Ids and types."""


@dataclass
class Promise:
    """What one client was promised. `kind` is `job`, `jobs` or `feed`; a feed has no list of `jobs`."""

    kind: str
    cursor: EventId | None
    group: str | None = None
    jobs: tuple[str, ...] = ()
    may_reset: bool = False
    lossy: bool = False
    """Superseded progress may be left out."""
    lost: set[EventId] = field(default_factory=set)
    """Events of a list that Redis did not pass on though the connection lived: it may lack them until its
    reset."""
    trimmed: set[EventId] = field(default_factory=set)
    """Events that the store did not keep."""

    def breach(self, store: MemoryStore, got: Sequence[Seen]) -> str | None:
        """Returns what a client that has caught up was given wrongly, or None."""
        self._forgotten = store.forgotten
        self._history = [
            (job_id, event)
            for job_id, event in store.history
            if (store.in_feed(job_id, self.group) if self.kind == "feed" else job_id in self.jobs)
        ]
        pieces: list[Given] = [[]]
        for given in seen([event for event in got if event.event != "shutdown"]):
            if given[1] == "reset":
                pieces.append([])
            pieces[-1].append(given)
        if not pieces[0] and len(pieces) > 1:
            del pieces[0]
        moments = [ZERO, *(event.id for _, event in store.history)]
        for piece in pieces:
            whole = piece is pieces[-1]
            is_reset = bool(piece) and piece[0][1] == "reset"
            if is_reset and not self.may_reset:
                return f"a reset, though {self.cursor} can be resumed from"
            at_once = self.cursor is not None and not is_reset
            starts = [self.cursor or ZERO] if at_once else moments
            if not any(self._fits(piece, at, at_once, is_reset, whole) for at in starts):
                events = [(str(event.id), event.type, job_id[-2:]) for job_id, event in self._history]
                return f"{self} got {piece} of {events}"
        return None

    def _fits(self, piece: Given, at: EventId, at_once: bool, is_reset: bool, whole: bool) -> bool:
        """Whether the piece is the state at that moment, unless it begins at once, and all that came."""
        state = [] if at_once else self._state(at, "reset" if is_reset else "snapshot")
        if len(piece) < len(state):
            return not whole and piece == state[: len(piece)]
        if any(
            given != expected and not (given[1] == expected[1] == "reset" and self.kind == "feed")
            for given, expected in zip(piece, state, strict=False)
        ):
            return False
        rest = piece[len(state) :]
        for n, (_, event) in enumerate(self._history):
            if event.id <= at:
                continue
            if rest and rest[0] == (str(event.id), event.type):
                rest = rest[1:]
            elif not rest and not whole:
                return True
            elif not self._may_lack(n) and (whole or event.id not in self.lost):
                return False
        return not rest

    def _state(self, at: EventId, name: str) -> Given:
        """What tells the state of the stream's jobs at a moment."""
        lasts = {job_id: event for job_id, event in self._history if event.id <= at}
        if not lasts and self.kind != "feed":
            return [("", "nobody can know it yet")]
        newest = sorted(lasts.values(), key=lambda event: event.id)
        if self.kind == "job" and newest[0].type == "end":
            return [(str(newest[0].prev), name), (str(newest[0].id), "end")]
        if name == "reset":
            return [(str(newest[-1].id if newest else ZERO), name)]
        return [
            (str(event.id), "end" if event.type == "end" else name)
            for event in newest
            if event.type != "end" or self.kind == "jobs"
        ]

    def _may_lack(self, n: int) -> bool:
        job_id, event = self._history[n]
        if event.id in self._forgotten:
            return True
        if event.id in self.trimmed and (self.cursor == ZERO or event.type == "progress"):
            return True
        superseded = ("progress", "end") if self.kind == "feed" else ("progress",)
        return (
            event.type == "progress"
            and (self.lossy or self.kind == "feed")
            and any(j == job_id and later.type in superseded for j, later in self._history[n + 1 :])
        )

"""Events: their ids, their types, as they are stored and as they are published."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple


class BadEventId(ValueError):
    """A text is not an event id."""


_EVENT_ID = re.compile(r"([0-9]{1,20})-([0-9]{1,20})", re.ASCII)


class EventId(NamedTuple):
    """`<ms>-<n>` from the one clock of a partition; ids of all its jobs compare."""

    ms: int
    n: int

    @classmethod
    def parse(cls, text: str) -> EventId:
        """Parse an id; `0` stands for the time before the first event. Raises BadEventId."""
        if text == "0":
            return ZERO
        match = _EVENT_ID.fullmatch(text)
        if match is None:
            raise BadEventId(f"not an event id: {text[:64]!r}")
        return cls(int(match[1]), int(match[2]))

    @classmethod
    def of(cls, raw: bytes) -> EventId:
        """Decode an id that the store wrote."""
        ms, _, n = raw.partition(b"-")
        return cls(int(ms), int(n))

    @property
    def start(self) -> str:
        """The id to ask Redis for the events after: this one, or HIGHEST if it is beyond that."""
        return str(EventId(*map(min, self, HIGHEST)))

    @property
    def lineage(self) -> int:
        """The number of the lineage that it belongs to (lua/clock.lua)."""
        return self.n // IDS_PER_MS

    def __str__(self) -> str:
        return f"{self.ms}-{self.n}"


ZERO = EventId(0, 0)
IDS_PER_MS = 4096
"""How many ids a lineage has in a millisecond (lua/clock.lua). An n is the count within the ms, led by
the lineage's number."""
HIGHEST = EventId(2**64 - 1, 2**64 - 2)
"""The highest id after which Redis can be asked for more: the next one is the last there is."""


class EventType(StrEnum):
    """Every type of event that a stream may carry (docs/protocol.md)."""

    SNAPSHOT = "snapshot"
    STATE = "state"
    PROGRESS = "progress"
    LOG = "log"
    MESSAGE = "message"
    ARTIFACT = "artifact"
    GROUP = "group"
    GROUP_END = "group-end"
    END = "end"
    RESET = "reset"
    HEARTBEAT = "heartbeat"
    SHUTDOWN = "shutdown"


@dataclass(frozen=True, slots=True)
class Event:
    """One stored event. `prev` is the id of the event before it in the same stream."""

    id: EventId
    prev: EventId
    type: str
    data: bytes
    kept: EventId | None = None
    """The newest event before it that is kept, if those in between, up to `prev`, are not: they were
    progress of a job that has ended since."""

    @property
    def job(self) -> bytes:
        """The id of the job that it is about, with which the data of all but a group's begin."""
        return self.data.split(b'"', 4)[3]

    @property
    def since(self) -> EventId:
        """The earliest cursor after which this is the next event."""
        return self.prev if self.kept is None else self.kept

    @classmethod
    def of(cls, entry: list[Any]) -> Event:
        """Decode a stream entry as a script returns it."""
        raw_id, pairs = entry
        return cls.decoded(raw_id, dict(zip(pairs[::2], pairs[1::2], strict=True)))

    @classmethod
    def decoded(cls, raw_id: bytes, fields: dict[bytes, bytes]) -> Event:
        """Decode a stream entry as redis-py returns it."""
        kept = fields.get(b"k")
        return cls(
            EventId.of(raw_id),
            EventId.of(fields[b"p"]),
            fields[b"e"].decode(),
            fields[b"d"],
            None if kept is None else EventId.of(kept),
        )


class Published(NamedTuple):
    """An event as it goes over a channel: what came before it there, and its finished SSE frame."""

    prev: EventId
    id: EventId
    type: bytes
    frame: bytes

    @classmethod
    def of(cls, raw: bytes) -> Published:
        """Decode a message of lua/prelude.lua's emit: `<prev> <type>\\nid: <id>\\n…`."""
        head, _, frame = raw.partition(b"\n")
        prev, _, event_type = head.partition(b" ")
        return cls(EventId.of(prev), EventId.of(frame[4 : frame.index(b"\n")]), event_type, frame)

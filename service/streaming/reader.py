"""A reader of an event stream: one client connection, and the place where it is."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from enum import Enum
from typing import Protocol

from headway.contract.events import ZERO, EventId
from service.streaming.catchup import CatchUp, Page
from service.streaming.heartbeat import Heartbeat
from service.streaming.hub import Hub
from service.streaming.poller import Poller
from service.streaming.stream_limits import Holder


class Place(Enum):
    """Where a reader is."""

    LIVE = "live"
    """In its topic's `live`: it has everything, and what comes is written to it at once."""
    SETTLED = "settled"
    """It has everything too, but watches several topics, or has a cursor newer than what the hub has heard.
    It is asked after each batch."""
    BLOCKED = "blocked"
    """Its buffer is full. It costs nothing until it can take more; then it is behind."""
    BEHIND = "behind"
    """It reads the store, a page at a time. A new reader begins here."""
    GONE = "gone"
    """Its socket is closed."""


_MOVES = {
    Place.LIVE: {Place.BLOCKED, Place.BEHIND, Place.GONE},
    Place.SETTLED: {Place.LIVE, Place.BLOCKED, Place.BEHIND, Place.GONE},
    Place.BLOCKED: {Place.BEHIND, Place.GONE},
    Place.BEHIND: {Place.SETTLED, Place.BLOCKED, Place.GONE},
    Place.GONE: set(),
}


class Owner(Protocol):
    """What readers move about in (sockets.py)."""

    hub: Hub
    poller: Poller
    unsettled: set[Reader]
    """Settled readers that there may be something for."""

    def queue(self, reader: Reader) -> None:
        """Have a reader that is behind catch up."""
        ...

    def dequeue(self, reader: Reader) -> None:
        """It is not behind any more."""
        ...

    def forget(self, reader: Reader) -> None:
        """It has gone: close its socket."""
        ...


class Reader:
    """One client connection.

    `cursor` is the id of the last event it was given. Of one of several topics it may have less than up to
    there, if Redis lost a message: then another topic led the cursor past it. `seen` tells.

    `start` reads what it gets first, if its cursor is not enough to tell. `pending` is the rest of a chunk
    that its buffer took a part of, and `final` says that nothing follows that. A `slow` reader was blocked
    since it last had everything, and is not given superseded progress.
    """

    __slots__ = (
        "_seen",
        "catchup",
        "cursor",
        "fd",
        "final",
        "generation",
        "heartbeat",
        "holder",
        "moves",
        "owner",
        "pending",
        "place",
        "slow",
        "start",
        "told_behind",
    )

    def __init__(
        self,
        owner: Owner,
        fd: int,
        catchup: CatchUp,
        heartbeat: Heartbeat,
        holder: Holder,
        cursor: EventId,
        start: Callable[[], Page] | None,
    ) -> None:
        self.owner = owner
        self.fd = fd
        self.catchup = catchup
        self.heartbeat = heartbeat
        self.holder = holder
        self.cursor = cursor
        self._seen: tuple[EventId, ...] | None = None
        self.start = start
        self.generation = -1
        self.place = Place.BEHIND
        self.moves = 0
        """Counts moves. A page that was read before the last one is not for this reader any more."""
        self.pending: memoryview | None = None
        self.final = self.slow = False
        self.told_behind = False
        """Whether it was told that it is behind because the store is unreachable."""

    def __hash__(self) -> int:
        # Not its address: the order in a set must not differ from run to run.
        return self.fd

    @property
    def topics(self) -> tuple[str, ...]:
        return self.catchup.topics

    @property
    def seen(self) -> tuple[EventId, ...]:
        """The ids up to which it has everything of each of its topics."""
        return self._seen or (self.cursor,) * len(self.topics)

    def has_read(self, cursor: EventId) -> None:
        """It has everything up to there, from the store."""
        self.cursor = cursor
        self._seen = None

    def has_missed(self, befores: Sequence[EventId]) -> bool:
        """Returns whether it was not given an event before its cursor. `befores` are the last ids up to the
        cursor of each of its topics, as the store has them."""
        return self._seen is not None and any(map(operator.gt, befores, self._seen))

    def has_heard(self, cursor: EventId) -> None:
        """It has everything that its topics have heard, and the cursor is the last of it."""
        if len(self.topics) > 1:
            lasts = [self.owner.hub.topic(name).last or ZERO for name in self.topics]
            self._seen = tuple(map(max, self.seen, lasts))
        self.cursor = cursor

    def notify(self) -> None:
        if self.place is Place.SETTLED:
            self.owner.unsettled.add(self)

    def move_to(self, place: Place) -> None:
        """Leave the place where it is and enter another. Raises RuntimeError if there is no such way."""
        if place not in _MOVES[self.place]:
            raise RuntimeError(f"a reader that is {self.place.value} cannot be {place.value} next")
        left, self.place = self.place, place
        self.moves += 1
        owner = self.owner
        if left is Place.LIVE:
            topic = owner.hub.topic(self.topics[0])
            del topic.live[self.fd]
            topic.watchers.add(self)
            assert topic.written is not None  # noqa: S101
            self.cursor = topic.written
        elif left is Place.SETTLED:
            owner.unsettled.discard(self)
        elif left is Place.BLOCKED:
            self.pending = None
            owner.poller.watch_writable(self.fd, False)
        else:
            owner.dequeue(self)
        if place is Place.LIVE:
            topic = owner.hub.topic(self.topics[0])
            topic.watchers.discard(self)
            topic.live[self.fd] = self
            topic.written = topic.last
        elif place is Place.BLOCKED:
            self.slow = True
            owner.poller.watch_writable(self.fd, True)
        elif place is Place.BEHIND:
            owner.queue(self)
        elif place is Place.GONE:
            owner.forget(self)

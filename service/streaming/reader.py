"""A reader of an event stream: one client connection, and the place where it is."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Protocol

from headway.contract.events import EventId
from service.streaming.catchup import CatchUp, Page
from service.streaming.heartbeat import Heartbeat
from service.streaming.hub import Hub
from service.streaming.poller import Poller


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

    `start` reads what it gets first, if its cursor is not enough to tell. `pending` is the rest of a chunk
    that its buffer took a part of, and `final` says that nothing follows that. A `slow` reader was blocked
    since it last had everything, and is not given superseded progress.
    """

    __slots__ = (
        "caller",
        "catchup",
        "cursor",
        "fd",
        "final",
        "generation",
        "heartbeat",
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
        caller: str,
        cursor: EventId,
        start: Callable[[], Page] | None,
    ) -> None:
        self.owner = owner
        self.fd = fd
        self.catchup = catchup
        self.heartbeat = heartbeat
        self.caller = caller
        self.cursor = cursor
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

"""A topic: one Redis stream that someone here watches, and its latest messages."""

from __future__ import annotations

from collections import deque
from typing import Protocol

from headway.contract.events import EventId, Published

RING = 512
"""Messages that a topic keeps at most …"""
RING_MS = 5_000
"""… and for how long: a ring is for readers that are almost there, the store for all others."""


class Watcher(Protocol):
    """Whoever watches topics. Its cursor is the id up to which it has everything."""

    @property
    def topics(self) -> tuple[str, ...]: ...

    @property
    def cursor(self) -> EventId: ...

    generation: int
    """The hub's generation in which it last caught up."""

    def notify(self) -> None:
        """One of its topics has something new, is subscribed now, or was lost. Called with the hub's
        lock held: it must return at once."""
        ...


class Topic:
    """The ring holds the messages after `floor` up to `tail`, with none missing between; both are
    None as long as nothing is known.

    `live` are the sockets whose reader stands exactly at `tail` (sockets.py): they are written to,
    and not asked. `watchers` are all others.
    """

    __slots__ = ("_ring", "floor", "fresh", "live", "ready", "tail", "watchers")

    def __init__(self) -> None:
        self.watchers: set[Watcher] = set()
        self.live: dict[int, Watcher] = {}
        self.ready = False
        self.forget()

    def forget(self) -> None:
        """The connection was lost: whatever comes next, something may be missing before it."""
        self._ring: deque[Published] | None = None
        self.floor: EventId | None = None
        self.tail: EventId | None = None
        self.fresh: list[Published] = []

    def stand_at(self, cursor: EventId) -> bool:
        """Whether the topic's last id is this one; if nothing is known yet, it is from now on."""
        if self.tail is None:
            self.floor = self.tail = cursor
        return self.tail == cursor

    @property
    def stood(self) -> EventId:
        """Where the live readers stand, while what is fresh has not been written to them."""
        if self.fresh:
            return self.fresh[0].prev
        assert self.tail is not None  # noqa: S101  nobody is live on a topic that knows nothing
        return self.tail

    def gap_before(self, message: Published) -> bool:
        """Whether something between the last message and this one never came."""
        return self.tail is not None and message.prev > self.tail

    def add(self, message: Published) -> None:
        """Take a message; if there is a gap before it, the ring begins anew."""
        if self.tail is not None and message.id <= self.tail:
            return
        if self._ring is None or self.gap_before(message):
            self.floor = message.prev if self.tail is None else max(self.tail, message.prev)
            self._ring = deque()
        ring = self._ring
        ring.append(message)
        self.tail = message.id
        oldest = message.id.ms - RING_MS
        while len(ring) > RING or ring[0].id.ms < oldest:
            self.floor = ring.popleft().id
        if self.live:
            self.fresh.append(message)

    def after(self, cursor: EventId) -> list[Published] | None:
        """The messages after a cursor, newest first; None if the ring does not reach back to it."""
        if self.tail is None or self.tail <= cursor:
            return []
        if self.floor is None or self.floor > cursor:
            return None
        found = []
        for message in reversed(self._ring or ()):
            if message.id <= cursor:
                break
            found.append(message)
        return found

"""A topic: one Redis stream that someone here watches, and its latest messages."""

from __future__ import annotations

from collections import deque
from typing import Protocol

from headway.contract.events import EventId, Published

RING = 512
"""Maximum messages kept per topic."""
RING_MS = 5_000
"""Maximum age of a kept message, in ms before the newest; readers further behind read the store."""


class Watcher(Protocol):
    """Something that watches topics."""

    @property
    def topics(self) -> tuple[str, ...]: ...

    generation: int
    """The generation of its link in which it last caught up."""

    def notify(self) -> None:
        """One of its topics has something new, was subscribed or was lost. Called with the hub's lock
        held, so it must return at once. Harmless however often it is called."""
        ...


class Link(Protocol):
    """What hears of a topic (link.py)."""

    generation: int

    @property
    def connected(self) -> bool: ...

    def remove(self, name: str) -> None: ...


class Topic:
    """What this process knows of one stream, and who watches it.

    `last` is the id of the newest message known. The ring holds every message after `oldest`, up to `last`.
    Both are None until something is known.

    `live` readers, by descriptor, have been written everything up to `written` and get each new message at
    once (sockets.py). `watchers` are all others; they are notified.
    """

    __slots__ = (
        "_ring",
        "asked",
        "last",
        "link",
        "live",
        "oldest",
        "ready",
        "unwritten",
        "watchers",
        "written",
    )

    def __init__(self) -> None:
        self.watchers: set[Watcher] = set()
        self.live: dict[int, Watcher] = {}
        self.link: Link | None = None
        """Where it is heard; None while nobody knows which server has it."""
        self.lose()

    def lose(self) -> None:
        """Forget everything: without a subscription, anything may be missing before the next message."""
        self.asked = False
        """Whether SSUBSCRIBE was sent for it …"""
        self.ready = False
        """… and confirmed."""
        self._ring: deque[Published] | None = None
        self.oldest: EventId | None = None
        self.last: EventId | None = None
        self.written: EventId | None = None
        self.unwritten: list[Published] = []

    def anchor(self, last: EventId) -> None:
        """Take the stream's last id from the store, unless one is known. What the caller owes: the store
        was read after the topic had become ready."""
        if self.last is None:
            self.oldest = self.last = last

    def skip_to(self, last: EventId) -> None:
        """Note that the store holds messages up to `last` that were never heard here."""
        self._ring = None
        self.oldest = self.last = last

    def gap_before(self, message: Published) -> bool:
        """Returns whether something between the last message and this one never came."""
        return self.last is not None and message.prev > self.last

    def forks_before(self, message: Published) -> bool:
        """Returns whether the store may have lost what came last, and went on without it."""
        last = self.last
        return last is not None and message.prev != last and message.id.lineage != last.lineage

    def add(self, message: Published) -> None:
        """Keep a message; a gap before it empties the ring first. Does nothing if it is not new."""
        if self.last is not None and message.id <= self.last:
            return
        if self._ring is None or self.gap_before(message):
            self.oldest = message.prev if self.last is None else max(self.last, message.prev)
            self._ring = deque()
        ring = self._ring
        ring.append(message)
        self.last = message.id
        too_old = message.id.ms - RING_MS
        while len(ring) > RING or ring[0].id.ms < too_old:
            self.oldest = ring.popleft().id
        if self.live:
            self.unwritten.append(message)

    def after(self, cursor: EventId) -> list[Published] | None:
        """Returns the messages after a cursor, newest first; None if the ring does not reach back to it."""
        if self.last is None or self.last <= cursor:
            return []
        if self.oldest is None or self.oldest > cursor:
            return None
        found = []
        for message in reversed(self._ring or ()):
            if message.id <= cursor:
                break
            found.append(message)
        return found

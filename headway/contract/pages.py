"""What a read of the store returns: jobs and events, consistent at one moment."""

from __future__ import annotations

import json
from dataclasses import dataclass

from headway.contract.events import Event, EventId
from headway.contract.keys import JobRef
from headway.contract.records import document

PAGE_BYTES = 1 << 20
"""Bytes of events that end a page: the store does nothing else while it reads them, and a slow reader may
hold them for long."""
UNBOUNDED = 1 << 53
"""More bytes than there are; a Lua number has it exactly."""


@dataclass(frozen=True, slots=True)
class JobPage:
    """A job and events after a cursor, consistent. `clock` was the last id of all at that moment.

    `fields` are the job's hash: JSON texts by the names of the document's fields, and fields of the store's
    own, whose names begin with _.
    """

    clock: EventId
    fields: dict[bytes, bytes]
    events: list[Event]
    more: bool = False
    """Whether there may be other events after these."""

    @property
    def id(self) -> str:
        return self.fields[b"id"].strip(b'"').decode()

    @property
    def owner(self) -> str:
        return str(json.loads(self.fields[b"owner"]))

    @property
    def group(self) -> str | None:
        group: str | None = json.loads(self.fields[b"group"])
        return group

    @property
    def ref(self) -> JobRef:
        queue, once = (self.fields.get(name, b"").decode() for name in (b"_queue", b"_once"))
        parent = json.loads(self.fields.get(b"parent", b"null"))
        return JobRef(self.id, self.owner, queue, self.group, once, parent)

    @property
    def document(self) -> bytes:
        return document(self.fields)

    @property
    def last(self) -> EventId:
        return EventId.of(self.fields[b"last_event_id"].strip(b'"'))

    @property
    def ended(self) -> bool:
        return self.fields.get(b"finished_at", b"null") != b"null"


@dataclass(frozen=True, slots=True)
class FeedPage:
    """What a feed keeps after a cursor, consistent."""

    clock: EventId
    now_ms: int
    last: EventId
    stored: EventId
    """The last id that the feed has ever kept, as far as it knows its past."""
    begun: list[str]
    """Ids of the feed's jobs that run or wait for their next attempt."""
    events: list[Event]
    more: bool
    """Whether there may be other events after these."""
    group: Event | None = None
    """The last event about the group itself, on the feed of one."""


@dataclass(frozen=True, slots=True)
class FeedSnapshot:
    """The live jobs of a feed in the order of their last ids, each as it was at a moment of its own. Before
    any of them was read, `last` was the feed's last id and `clock` the last id of all."""

    clock: EventId
    last: EventId
    jobs: list[JobPage]
    group: Event | None = None
    """The last event about the group itself, on the feed of one."""


def fields_of(pairs: list[bytes]) -> dict[bytes, bytes]:
    """A hash as Lua returns it: names and values in turn."""
    return dict(zip(pairs[::2], pairs[1::2], strict=True))

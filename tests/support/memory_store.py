"""A store in memory, stepped by hand: what JobStore reads, and what lua/prelude.lua writes and publishes.

tests/integration/test_memory_store.py holds it against the real one.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

from headway.contract.events import ZERO, Event, EventId
from headway.contract.keys import Keys
from headway.contract.pages import UNBOUNDED, FeedPage, FeedSnapshot, JobPage
from headway.contract.store import Wanted

OWNER = "ann"
RETENTION_MS = 60_000


class Wire:
    """The hub's connection to Redis. What Redis sends waits in `replies` until a test hands it on."""

    def __init__(self) -> None:
        self.channels: set[str] = set()
        self.replies: deque[list[Any]] = deque()
        self.commands: list[tuple[str, ...]] = []

    def send_command(self, command: str, *names: str) -> None:
        self.commands.append((command, *names))
        for name in names:
            if command == "SSUBSCRIBE":
                self.channels.add(name)
            else:
                self.channels.discard(name)
            self.replies.append([command.lower().encode(), name.encode(), len(self.channels)])

    def disconnect(self) -> None:
        self.channels.clear()

    def publish(self, name: str, prev: EventId, event: str, frame: bytes) -> None:
        if name in self.channels:
            message = b"%s %s\n%s" % (str(prev).encode(), event.encode(), frame)
            self.replies.append([b"smessage", name.encode(), message])


@dataclass
class _Stream:
    """A job's events, or a feed with its two last ids."""

    any: EventId = ZERO
    stored: EventId = ZERO
    events: list[Event] = field(default_factory=list)


@dataclass
class _Job:
    group: str | None
    stream: _Stream = field(default_factory=_Stream)
    progress_id: EventId | None = None
    begun: bool = False
    ended: bool = False


class _OneServer:
    """The wire is the only one."""

    def __init__(self) -> None:
        self._pool = SimpleNamespace(connection_kwargs={"home": SimpleNamespace(era=0)})

    def pool_of(self, name: str) -> object:
        return self._pool

    def pools(self) -> list[object]:
        return [self._pool]


class MemoryStore:
    """`reads` counts round trips. `during_read` is called once, at the end of the next one: what it does
    happens while the answer is on its way."""

    retention_ms = RETENTION_MS

    def __init__(self, now_ms: int = 1_000_000) -> None:
        self.keys = Keys("memory:")
        self.feeds = self
        self.servers = _OneServer()
        self.wire = Wire()
        self.now_ms = now_ms
        self.clock = ZERO
        self.reads = 0
        self.during_read: Callable[[], None] | None = None
        self.history: list[tuple[str, Event]] = []
        """Each job id and event that ever was."""
        self.forgotten: set[EventId] = set()
        """Progress that ended jobs have not kept."""
        self._jobs: dict[str, _Job] = {}
        self._feeds: dict[str | None, _Stream] = {}

    # -- writing -----------------------------------------------------------------------------------

    def create(self, group: str | None = None, job_id: str | None = None, data: bytes | None = None) -> str:
        job_id = job_id or f"0-{len(self._jobs):022d}"
        self._jobs[job_id] = _Job(group)
        self.emit(job_id, "state", data=data)
        return job_id

    def emit(self, job_id: str, event: str, at: EventId | None = None, data: bytes | None = None) -> Event:
        """Write an event and publish it, as lua/prelude.lua does."""
        job = self._jobs[job_id]
        if at is None:
            ms = max(self.now_ms, self.clock.ms)
            at = EventId(ms, self.clock.n + 1 if ms == self.clock.ms else 0)
        self.clock = at
        text = data or json.dumps({"job": job_id, "at": str(at)}, separators=(",", ":")).encode()
        frame = b"id: %s\nevent: %s\ndata: %s\n\n" % (str(at).encode(), event.encode(), text)
        written = Event(at, job.stream.any, event, text)
        self.wire.publish(self.keys.events(job_id), job.stream.any, event, frame)
        job.stream.events.append(written)
        job.stream.any = at
        job.begun = job.begun or event != "state"
        if event == "progress":
            job.progress_id = at
        elif event == "end":
            job.ended = True
            self._forget_progress(job)
        self.history.append((job_id, written))
        for group in (None, job.group) if job.group is not None else (None,):
            feed = self._feeds.setdefault(group, _Stream())
            self.wire.publish(self.keys.feed(OWNER, group), feed.any, event, frame)
            feed.any = at
            if event != "progress":
                feed.events.append(Event(at, feed.stored, event, text))
                feed.stored = at
        return written

    def _forget_progress(self, job: _Job) -> None:
        """Of an ended job's progress only the newest is kept."""
        kept: list[Event] = []
        gap: EventId | None = None
        for event in job.stream.events:
            if event.type == "progress" and event.id != job.progress_id:
                self.forgotten.add(event.id)
                gap = gap or (kept[-1].id if kept else event.prev)
            else:
                kept.append(event if gap is None else replace(event, kept=gap))
                gap = None
        job.stream.events = kept

    def in_feed(self, job_id: str, group: str | None) -> bool:
        return group is None or self._jobs[job_id].group == group

    def ended(self, job_id: str) -> bool:
        return self._jobs[job_id].ended

    def trim(self, job_id: str, kept: int) -> list[EventId]:
        """Keep the newest events of a job; returns the others' ids."""
        stream = self._jobs[job_id].stream
        trimmed = stream.events[:-kept]
        stream.events = stream.events[-kept:]
        return [event.id for event in trimmed]

    def trim_feed(self, group: str | None, kept: int) -> list[EventId]:
        feed = self._feeds.get(group, _Stream())
        trimmed = feed.events[:-kept] if kept else feed.events
        feed.events = feed.events[-kept:] if kept else []
        return [event.id for event in trimmed]

    def expire_feed(self, group: str | None) -> list[EventId]:
        """It was quiet for the whole retention."""
        trimmed = self.trim_feed(group, 0)
        self.now_ms += RETENTION_MS + 1
        self._feeds.pop(group, None)
        return trimmed

    # -- reading -----------------------------------------------------------------------------------

    def _read(self) -> None:
        self.reads += 1
        during, self.during_read = self.during_read, None
        if during is not None:
            during()

    def read_jobs(
        self, wanted: Sequence[Wanted], limit: int, most_bytes: int = UNBOUNDED
    ) -> list[JobPage | None]:
        """Its pages are bounded by `limit` alone."""
        found = [self._page(job_id, cursor, limit) for job_id, cursor, *_ in wanted]
        self._read()
        return found

    read_each = read_jobs

    def _page(self, job_id: str, cursor: EventId | None, limit: int) -> JobPage | None:
        job = self._jobs.get(job_id)
        if job is None:
            return None
        events = [] if cursor is None else [e for e in job.stream.events if e.id > cursor][:limit]
        fields = {
            b"id": b'"%s"' % job_id.encode(),
            b"owner": b'"%s"' % OWNER.encode(),
            b"group": json.dumps(job.group).encode(),
            b"last_event_id": b'"%s"' % str(job.stream.any).encode(),
            b"finished_at": b'"then"' if job.ended else b"null",
        }
        return JobPage(self.clock, fields, events, cursor is not None and len(events) == limit)

    def last_events(self, job_ids: Sequence[str]) -> list[Event | None]:
        found = [self._jobs[job_id].stream.events[-1:] for job_id in job_ids]
        self._read()
        return [events[0] if events else None for events in found]

    def last_ids(self, topics: Sequence[str]) -> list[EventId]:
        known = {self.keys.events(job_id): job.stream.any for job_id, job in self._jobs.items()}
        known |= {self.keys.feed(OWNER, group): feed.any for group, feed in self._feeds.items()}
        return [known.get(topic, ZERO) for topic in topics]

    def read(
        self, owner: str, group: str | None, cursor: EventId, limit: int, most_bytes: int = UNBOUNDED
    ) -> FeedPage:
        feed = self._feeds.get(group, _Stream())
        begun = [job_id for job_id, job in self._of(group) if job.begun and not job.ended]
        events = [e for e in feed.events if e.id > cursor][:limit]
        more = len(events) == limit
        page = FeedPage(self.clock, self.now_ms, feed.any, feed.stored, begun, events, more)
        self._read()
        return page

    def latest_progress(self, job_ids: Sequence[str], after: EventId = ZERO) -> list[Event]:
        known = [self._jobs[job_id].progress_id for job_id in job_ids]
        newest = {progress_id for progress_id in known if progress_id is not None and progress_id > after}
        events = [e for job_id in job_ids for e in self._jobs[job_id].stream.events if e.id in newest]
        self._read()
        return events

    def snapshot(self, owner: str, group: str | None) -> FeedSnapshot:
        live = [self._page(job_id, None, 0) for job_id, job in self._of(group) if not job.ended]
        pages = sorted((page for page in live if page is not None), key=lambda page: page.last)
        snapshot = FeedSnapshot(self.clock, self._feeds.get(group, _Stream()).any, pages)
        self._read()
        return snapshot

    def _of(self, group: str | None) -> list[tuple[str, _Job]]:
        return [(i, job) for i, job in self._jobs.items() if group is None or job.group == group]


class InlineReader:
    """A StoreReader that reads in the caller."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store
        self.keys = store.keys

    def job(self, job_id: str, cursor: EventId | None, owner: str | None = None) -> JobPage | None:
        return self._store.read_jobs([(job_id, cursor, owner)], 500)[0]

    def shared(self, key: object, make: Callable[[Any], Any]) -> Any:
        return make(self._store)

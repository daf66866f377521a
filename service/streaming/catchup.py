"""Catching up: what a reader is given from the store, for one job, a list of jobs, or a feed.

Each kind answers two questions. `start()`: what does a reader get that knows nothing yet? `after(cursor)`:
what does one get that has seen everything up to there? If that cannot be answered truthfully (the
store no longer holds what is missing, the cursor lies ahead of the clock, or is no event of this
stream), the answer is `reset` with the whole state.

All of them raise JobGone for a job that does not exist, and RedisError.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import redis

from headway.contract.events import ZERO, Event, EventId, EventType
from headway.contract.pages import PAGE_BYTES, FeedPage, FeedSnapshot, JobPage
from headway.contract.store import JobStore
from service.streaming import sse
from service.streaming.store_reader import PAGE, StoreReader


class JobGone(LookupError):
    """There is no such job (any more)."""


@dataclass(slots=True)
class Page:
    """A piece of catching up: a state, or events, or both. Readers that asked the same share it."""

    cursor: EventId
    """Where the reader stands after it."""
    state: bytes = b""
    events: Sequence[Event] = ()
    complete: bool = True
    """Whether the store held no more."""
    closed: bool = False
    """Whether nothing will ever follow."""
    lasts: tuple[EventId, ...] = ()
    """The last id of each of the stream's topics when the page was read, if it is complete."""
    befores: tuple[EventId, ...] = ()
    """The last id up to the cursor that was asked for, of each topic of a list."""
    reset: str | None = None
    """Why the reader's cursor could not be resumed from."""
    _frames: bytes | None = field(default=None, repr=False)

    @property
    def frames(self) -> bytes:
        """The bytes to write."""
        if self._frames is None:
            self._frames = self.state + b"".join(map(sse.stored, self.events))
        return self._frames

    def newest_progress(self) -> Page:
        """Returns the page for a slow reader: of each job's progress only the newest."""
        newest = {e.job: e.id for e in self.events if e.type == EventType.PROGRESS}
        kept = [e for e in self.events if e.type != EventType.PROGRESS or newest[e.job] == e.id]
        return self if len(kept) == len(self.events) else replace(self, events=kept, _frames=None)


class Viewer(Protocol):
    """The client that a stream is for. Readers of the same viewer share what they read."""

    @property
    def sees_only(self) -> str | None:
        """The only owner whose jobs may be the viewer's; None: anybody's may."""
        ...

    def sees(self, page: JobPage) -> bool:
        """Whether the job is one of the viewer's. A job that is not must look like one that is absent."""
        ...

    def valid(self) -> bool:
        """Whether the viewer may still read; if not, the stream is closed within a minute."""
        ...


class CatchUp(Protocol):
    """What a stream reads when it is behind. `topics` are the channels it watches when it is not."""

    @property
    def viewer(self) -> Viewer: ...

    @property
    def topics(self) -> tuple[str, ...]: ...

    @property
    def ends(self) -> bool:
        """Whether an `end` event is the end of the stream."""
        ...

    def start(self) -> Page: ...

    def after(self, cursor: EventId) -> Page: ...

    def reset(self, reason: str) -> Page: ...


def cursor_fault(page: JobPage, cursor: EventId) -> str | None:
    """Returns why a cursor cannot be resumed from in one job's stream, or None if it can.

    It can if it is an event of this job and nothing after it was trimmed away. Then, and only then,
    the next event names it as its predecessor, or there is no next one and it is the last. Progress that
    a job has not kept after its end is not known one by one: every id in its place is taken for it.
    """
    if cursor > page.clock:
        return "cursor_ahead"
    if cursor == ZERO:
        return None
    if _follows(page, cursor) or (not page.events and page.ended and cursor > page.last):
        return None
    return "cursor_trimmed" if _since(page) > cursor else "cursor_unknown"


class JobCatchUp:
    """One job: every event, and `end` is the last."""

    __slots__ = ("_id", "_reader", "topics", "viewer")
    ends = True

    def __init__(self, reader: StoreReader, viewer: Viewer, job_id: str) -> None:
        self._reader = reader
        self.viewer = viewer
        self._id = job_id
        self.topics: tuple[str, ...] = (reader.keys.events(job_id),)

    def start(self) -> Page:
        return self._state(EventType.SNAPSHOT, None)

    def reset(self, reason: str) -> Page:
        return self._state(EventType.RESET, reason)

    def after(self, cursor: EventId) -> Page:
        page = self._page(cursor)
        fault = cursor_fault(page, cursor)
        if fault is not None:
            return self.reset(fault)
        if not page.events:
            return Page(cursor, closed=page.ended, lasts=(page.last,))
        return Page(
            page.events[-1].id,
            events=page.events,
            complete=not page.more,
            closed=page.events[-1].type == EventType.END,
            lasts=(page.last,),
        )

    def _page(self, cursor: EventId | None) -> JobPage:
        page = self._reader.job(self._id, cursor, self.viewer.sees_only)
        if page is None or not self.viewer.sees(page):
            raise JobGone(self._id)
        return page

    def _state(self, event: EventType, reason: str | None) -> Page:
        page = self._page(None)
        data = _state_data(page, reason)
        if not page.ended:
            frame = sse.frame(event, data, page.last)
            return Page(page.last, frame, lasts=(page.last,), reset=reason)
        end = self._reader.shared(("end", self._id), lambda store: store.last_events([self._id])[0])
        if end is None:
            raise JobGone(self._id)
        # The state stands before the end, so that a reader cut off between the two still gets the end.
        return Page(end.id, sse.frame(event, data, end.prev), [end], closed=True, reset=reason)


def _state_data(page: JobPage, reason: str | None) -> bytes:
    if reason is None:
        return page.document
    return b'{"reason":"%s","job":%s}' % (reason.encode(), page.document)


def _states_data(pages: Sequence[JobPage], reason: str) -> bytes:
    documents = b",".join(page.document for page in pages)
    return b'{"reason":"%s","jobs":[%s]}' % (reason.encode(), documents)


class JobListCatchUp:
    """A list of jobs on one connection: every event of each, in the order of ids; it stays open."""

    ends = False

    def __init__(self, reader: StoreReader, viewer: Viewer, job_ids: Sequence[str]) -> None:
        self._reader = reader
        self.viewer = viewer
        self._ids = tuple(dict.fromkeys(job_ids))
        self.topics = tuple(reader.keys.events(job_id) for job_id in self._ids)

    def start(self) -> Page:
        """A snapshot of each that lives, the end of each that has ended, by their last ids."""
        return self._shared(None, self._read_start)

    def reset(self, reason: str) -> Page:
        return self._shared(reason, lambda store: self._read_reset(store, reason))

    def after(self, cursor: EventId) -> Page:
        return self._shared(cursor, lambda store: self._read_after(store, cursor))

    def _shared(self, what: EventId | str | None, make: Callable[[JobStore], Page]) -> Page:
        return self._reader.shared(("jobs", self.viewer, self._ids, what), make)

    def _read_start(self, store: JobStore) -> Page:
        pages = self._pages(store, None, 0)
        ended = [page.id for page in pages if page.ended]
        frames = {end.id: sse.stored(end) for end in store.last_events(ended) if end}
        for page in pages:
            if not page.ended:
                frames[page.last] = sse.frame(EventType.SNAPSHOT, page.document, page.last)
        lasts = _lasts(pages)
        return Page(max(lasts), b"".join(frames[i] for i in sorted(frames)), lasts=lasts)

    def _read_reset(self, store: JobStore, reason: str) -> Page:
        pages = self._pages(store, None, 0)
        lasts = _lasts(pages)
        data = _states_data(pages, reason)
        return Page(max(lasts), sse.frame(EventType.RESET, data, max(lasts)), lasts=lasts, reset=reason)

    def _read_after(self, store: JobStore, cursor: EventId) -> Page:
        limit = max(20, 4 * PAGE // len(self._ids))
        pages = self._pages(store, cursor, limit)
        if any(cursor > page.clock for page in pages):
            return self._read_reset(store, "cursor_ahead")
        # For the jobs it is no event of, it is a moment: nothing after it may have been trimmed.
        if any(page.events and _since(page) > cursor > ZERO for page in pages):
            return self._read_reset(store, "cursor_trimmed")
        if cursor != ZERO and not any(_follows(page, cursor) for page in pages):
            return self._read_reset(store, "cursor_unknown")
        # What was read is complete up to where the first full page stops.
        full = [page.events[-1].id for page in pages if page.more]
        horizon = min(full, default=None)
        events = sorted(
            (e for page in pages for e in page.events if horizon is None or e.id <= horizon),
            key=lambda event: event.id,
        )
        return Page(
            events[-1].id if events else cursor,
            events=events,
            complete=horizon is None,
            lasts=_lasts(pages),
            befores=tuple(map(_since, pages)),
        )

    def _pages(self, store: JobStore, cursor: EventId | None, limit: int) -> list[JobPage]:
        wanted = [(job_id, cursor, self.viewer.sees_only) for job_id in self._ids]
        found = store.read_jobs(wanted, limit, 4 * PAGE_BYTES // len(wanted))
        for job_id, page in zip(self._ids, found, strict=True):
            if page is None or not self.viewer.sees(page):
                raise JobGone(job_id)
        return [page for page in found if page is not None]


def _lasts(pages: Sequence[JobPage]) -> tuple[EventId, ...]:
    return tuple(page.last for page in pages)


def _since(page: JobPage) -> EventId:
    """The last kept id up to the page's cursor, or that of the newest event trimmed."""
    return page.events[0].since if page.events else page.last


def _follows(page: JobPage, cursor: EventId) -> bool:
    """Whether the page is what came next after the cursor."""
    return _since(page) <= cursor <= (page.events[0].prev if page.events else page.last)


class FeedCatchUp:
    """All jobs of an owner, or of one group: what the feed keeps, and the newest progress of each
    job that has begun, in place of all that came before it.

    A cursor is a moment here, since superseded progress is not kept and so cannot be told from an id of
    another stream. A reader that has caught up therefore stands at the clock's last id, which is never
    older than anything the feed's topic has heard of: the feed's own last id expires with the feed.
    """

    ends = False

    def __init__(self, reader: StoreReader, viewer: Viewer, owner: str, group: str | None) -> None:
        self._reader = reader
        self.viewer = viewer
        self._owner = owner
        self._group = group
        self.topics = (reader.keys.feed(owner, group),)

    def start(self) -> Page:
        return self._shared(None, self._read_start)

    def reset(self, reason: str) -> Page:
        return self._shared(reason, lambda store: self._read_reset(store, reason))

    def after(self, cursor: EventId) -> Page:
        return self._shared(cursor, lambda store: self._read_after(store, cursor))

    def _shared(self, what: EventId | str | None, make: Callable[[JobStore], Page]) -> Page:
        return self._reader.shared(("feed", self._owner, self._group, what), make)

    def _read_start(self, store: JobStore) -> Page:
        snapshot = store.feeds.snapshot(self._owner, self._group)
        frames = {job.last: sse.frame(EventType.SNAPSHOT, job.document, job.last) for job in snapshot.jobs}
        if snapshot.group is not None:
            frames[snapshot.group.id] = sse.stored(snapshot.group)
        return self._standing(store, snapshot, frames, None)

    def _read_reset(self, store: JobStore, reason: str) -> Page:
        snapshot = store.feeds.snapshot(self._owner, self._group)
        data = _states_data(snapshot.jobs, reason)
        frames = {snapshot.last: sse.frame(EventType.RESET, data, snapshot.last)}
        return self._standing(store, snapshot, frames, reason)

    def _standing(
        self, store: JobStore, snapshot: FeedSnapshot, frames: dict[EventId, bytes], reason: str | None
    ) -> Page:
        """The frames that tell the state, and what has happened while it was read, each by its id. What a
        job's document has already is not told again."""
        told = {job.id.encode(): job.last for job in snapshot.jobs}
        cursor, complete = snapshot.clock, False
        while not complete:
            page = store.feeds.read(self._owner, self._group, cursor, PAGE, PAGE_BYTES)
            if cursor > page.clock or (page.events and page.events[0].since > cursor):
                raise redis.ConnectionError("the store has lost what the state was read from")
            complete = not page.more
            events = [*page.events]
            if complete and page.last > snapshot.last:
                events += self._newest(store, page, snapshot.clock)
            for event in events:
                about_job = event.type not in (EventType.GROUP, EventType.GROUP_END)
                if not about_job or event.id > told.get(event.job, ZERO):
                    frames[event.id] = sse.stored(event)
            cursor = page.events[-1].id if page.events else cursor
        # If the newest event was of a job that has ended, without this a reader that comes back would know
        # an older moment, or none at all and miss what came and went meanwhile.
        frames.setdefault(page.last, sse.cursor(page.last))
        state = b"".join(frames[at] for at in sorted(frames))
        return Page(page.clock, state, lasts=(page.last,), reset=reason)

    def _newest(self, store: JobStore, page: FeedPage, cursor: EventId) -> list[Event]:
        """What the feed does not keep: of each job the newest progress, and the last that was told of the
        group, after the cursor and up to the page's moment."""
        latest = store.feeds.latest_progress(page.begun, cursor)
        if page.group is not None and page.group.type == EventType.GROUP:
            latest.append(page.group)
        return [event for event in latest if cursor < event.id <= page.clock]

    def _read_after(self, store: JobStore, cursor: EventId) -> Page:
        page = store.feeds.read(self._owner, self._group, cursor, PAGE, PAGE_BYTES)
        if cursor > page.clock:
            return self._read_reset(store, "cursor_ahead")
        before = page.events[0].since if page.events else page.stored
        if cursor != ZERO:
            trimmed = before > cursor
            # A feed that kept nothing for the whole retention is gone, and does not know its past, also
            # if it has had progress since.
            forgotten = before == ZERO and cursor.ms < page.now_ms - store.retention_ms
            if trimmed or forgotten:
                return self._read_reset(store, "cursor_trimmed")
        events = page.events
        if page.more:
            return Page(events[-1].id, events=events, complete=False)
        # Progress newer than what was read here comes live: before it there may be events not yet read.
        events = sorted([*events, *self._newest(store, page, cursor)], key=lambda e: e.id)
        return Page(page.clock, events=events, lasts=(page.last,))

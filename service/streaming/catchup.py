"""Catching up: what a reader is given from the store, for one job, a list of jobs, or a feed.

Each kind answers two questions. `start()`: what does a reader get who knows nothing yet? `after(cursor)`:
what does one get who has seen everything up to there? If that cannot be answered truthfully (the
store no longer holds what is missing, the cursor lies ahead of the clock, or is no event of this
stream), the answer is `reset` with the whole state. Both raise JobGone for a job that does not exist.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from headway.contract.events import ZERO, Event, EventId, EventType
from headway.contract.pages import JobPage
from headway.contract.store import JobStore
from service import metrics
from service.streaming import sse
from service.streaming.store_reader import PAGE, StoreReader


class JobGone(LookupError):
    """There is no such job (any more)."""


@dataclass(frozen=True, slots=True)
class Page:
    """A piece of catching up: a state, or events, or both. `cursor` is where the reader stands after
    it; `complete` says that the store held no more, `closed` that nothing will ever follow."""

    cursor: EventId
    state: bytes = b""
    events: Sequence[Event] = ()
    complete: bool = True
    closed: bool = False

    @property
    def frames(self) -> bytes:
        """The bytes to write."""
        return self.state + b"".join(map(sse.stored, self.events))

    def newest_progress(self) -> Page:
        """The same for a reader that was slow: of each job's progress only the newest."""
        newest = {e.data.split(b",", 1)[0]: e.id for e in self.events if e.type == EventType.PROGRESS}
        kept = [
            e
            for e in self.events
            if e.type != EventType.PROGRESS or newest[e.data.split(b",", 1)[0]] == e.id
        ]
        return replace(self, events=kept)


class CatchUp(Protocol):
    """What a stream reads when it is behind. `topics` are the channels it watches when it is not."""

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
    """Why a cursor cannot be resumed from in one job's stream, or None if it can.

    It can if it is an event of this job and nothing after it was trimmed away. Then, and only then,
    the next event names it as its predecessor, or there is no next one and it is the last.
    """
    if cursor > page.clock:
        return "cursor_ahead"
    if cursor == ZERO:
        return None
    before = page.events[0].prev if page.events else page.last
    if before == cursor or (not page.events and page.ended and cursor > page.last):
        return None
    return "cursor_trimmed" if before > cursor else "cursor_unknown"


class JobCatchUp:
    """One job: every event, and `end` is the last."""

    __slots__ = ("_id", "_reader", "topics")
    ends = True

    def __init__(self, reader: StoreReader, job_id: str) -> None:
        self._reader = reader
        self._id = job_id
        self.topics: tuple[str, ...] = (reader.store.keys.events(job_id),)

    def start(self) -> Page:
        return self._state(EventType.SNAPSHOT, None)

    def reset(self, reason: str) -> Page:
        metrics.STREAMS_RESET.labels(reason).inc()
        return self._state(EventType.RESET, reason)

    def after(self, cursor: EventId) -> Page:
        page = self._reader.job(self._id, cursor)
        if page is None:
            raise JobGone(self._id)
        fault = cursor_fault(page, cursor)
        if fault is not None:
            return self.reset(fault)
        if not page.events:
            return Page(cursor, closed=page.ended)
        return Page(
            page.events[-1].id,
            events=page.events,
            complete=len(page.events) < PAGE,
            closed=page.events[-1].type == EventType.END,
        )

    def _state(self, event: EventType, reason: str | None) -> Page:
        page = self._reader.job(self._id, None)
        if page is None:
            raise JobGone(self._id)
        data = _state_data(page, reason)
        if not page.ended:
            return Page(page.last, sse.frame(event, data, page.last))
        end = self._reader.store.last_events([self._id])[0]
        if end is None:
            raise JobGone(self._id)
        # The state stands before the end, so that a reader cut off between the two still gets the end.
        return Page(end.id, sse.frame(event, data, end.prev), [end], closed=True)


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

    def __init__(self, store: JobStore, job_ids: Sequence[str]) -> None:
        self._store = store
        self._ids = list(dict.fromkeys(job_ids))
        self.topics = tuple(store.keys.events(job_id) for job_id in self._ids)

    def start(self) -> Page:
        """A snapshot of each that lives, the end of each that has ended, by their last ids."""
        pages = self._pages()
        ended = [page.id for page in pages if page.ended]
        frames = {end.id: sse.stored(end) for end in self._store.last_events(ended) if end}
        for page in pages:
            if not page.ended:
                frames[page.last] = sse.frame(EventType.SNAPSHOT, page.document, page.last)
        return Page(max(frames, default=ZERO), b"".join(frames[i] for i in sorted(frames)))

    def reset(self, reason: str) -> Page:
        metrics.STREAMS_RESET.labels(reason).inc()
        pages = self._pages()
        last = max(page.last for page in pages)
        return Page(last, sse.frame(EventType.RESET, _states_data(pages, reason), last))

    def _pages(self) -> list[JobPage]:
        found = self._store.read_jobs([(job_id, None) for job_id in self._ids], 0)
        return self._all(found)

    def _all(self, found: Sequence[JobPage | None]) -> list[JobPage]:
        for job_id, page in zip(self._ids, found, strict=True):
            if page is None:
                raise JobGone(job_id)
        return [page for page in found if page is not None]

    def after(self, cursor: EventId) -> Page:
        limit = max(20, 4 * PAGE // len(self._ids))
        pages = self._all(self._store.read_jobs([(job_id, cursor) for job_id in self._ids], limit))
        faults = [cursor_fault(page, cursor) for page in pages]
        if "cursor_ahead" in faults:
            return self.reset("cursor_ahead")
        # For the jobs it is no event of, it is a moment: nothing after it may have been trimmed.
        if any(page.events and page.events[0].prev > cursor > ZERO for page in pages):
            return self.reset("cursor_trimmed")
        if not any(_is_event_of(page, cursor) for page in pages):
            return self.reset("cursor_unknown")
        # What was read is complete up to where the first full page stops.
        full = [page.events[-1].id for page in pages if len(page.events) == limit]
        horizon = min(full, default=None)
        events = sorted(
            (e for page in pages for e in page.events if horizon is None or e.id <= horizon),
            key=lambda event: event.id,
        )
        return Page(
            events[-1].id if events else cursor,
            events=events,
            complete=horizon is None,
        )


def _is_event_of(page: JobPage, cursor: EventId) -> bool:
    return cursor == ZERO or cursor == (page.events[0].prev if page.events else page.last)


class FeedCatchUp:
    """All jobs of an owner, or of one group: what the feed keeps, and the newest progress of each
    job that has begun, in place of all that came before it. A cursor is a moment here: progress that was
    superseded is not kept, so it cannot be told from an id of another stream."""

    ends = False

    def __init__(self, store: JobStore, owner: str, group: str | None) -> None:
        self._store = store
        self._owner = owner
        self._group = group
        self.topics = (store.keys.feed(owner, group),)

    def start(self) -> Page:
        snapshot = self._store.feeds.snapshot(self._owner, self._group)
        last, pages = snapshot.last, snapshot.jobs
        frames = [sse.frame(EventType.SNAPSHOT, page.document, page.last) for page in pages]
        if not pages or pages[-1].last != last:
            # The newest event was of a job that has ended. Without this, a reader that comes back
            # would know an older moment, or none at all and miss what came and went meanwhile.
            frames.append(sse.cursor(last))
        return Page(last, b"".join(frames))

    def reset(self, reason: str) -> Page:
        metrics.STREAMS_RESET.labels(reason).inc()
        snapshot = self._store.feeds.snapshot(self._owner, self._group)
        data = _states_data(snapshot.jobs, reason)
        return Page(snapshot.last, sse.frame(EventType.RESET, data, snapshot.last))

    def after(self, cursor: EventId) -> Page:
        page = self._store.feeds.read(self._owner, self._group, cursor, PAGE)
        if cursor > page.clock:
            return self.reset("cursor_ahead")
        before = page.events[0].prev if page.events else page.last
        if cursor != ZERO:
            trimmed = bool(page.events) and before > cursor
            # A feed that was quiet for the whole retention is gone, and does not know its past.
            forgotten = before == ZERO and cursor.ms < page.now_ms - self._store.retention_ms
            if trimmed or forgotten:
                return self.reset("cursor_trimmed")
        events = page.events
        if len(events) == PAGE:
            return Page(events[-1].id, events=events, complete=False)
        latest = self._store.feeds.latest_progress(page.begun)
        # Progress newer than what was read here comes live: before it there may be events not yet read.
        events = sorted([*events, *(e for e in latest if cursor < e.id <= page.clock)], key=lambda e: e.id)
        return Page(max(cursor, page.last), events=events)

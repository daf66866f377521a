"""One client's stream: what was asked for, how it opens, and how it is iterated.

The portable path is here: an EventStream is an ordinary iterable. Where it can be, its socket is handed
over to the hub instead (service/api/socket_handover.py, service/streaming/sockets.py).
"""

from __future__ import annotations

import random
import socket
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass

import redis

from headway.contract.events import ZERO, BadEventId, EventId
from service import metrics
from service.streaming import sse
from service.streaming.catchup import CatchUp, JobGone, Page
from service.streaming.heartbeat import COMMENT, Heartbeat, Seen
from service.streaming.hub import Hub
from service.streaming.primitives import new_event, time_limit
from service.streaming.sockets import Sockets
from service.streaming.stream_limits import StreamLimits

RETRY_MS = (1000, 2000)
"""A client that lost its stream waits between these before it comes back: not all at the same moment."""
FULL_RETRY_MS = (5_000, 15_000)
"""The same for one that found no room."""
OPEN_S = 0.5
"""How long a request waits for the store before it opens as behind: the first bytes must not depend
on Redis. If the hub has no connection either, there is nothing to wait for."""
STORE_RETRY_S = 0.5


class BadRequest(ValueError):
    """A parameter of the stream is not what it may be; the message says what it may be."""


class StreamLimitReached(Exception):
    """The process or the caller has as many streams as it may have. `retry` is what to answer."""

    def __init__(self) -> None:
        super().__init__()
        self.retry = sse.retry(random.randint(*FULL_RETRY_MS)) + b"\n"  # noqa: S311


@dataclass(frozen=True, slots=True)
class StreamRequest:
    """What a reader asks for, however the request came in; '' is what was not given."""

    caller: str
    header: str
    """Last-Event-ID."""
    last_event_id: str
    """The same on the query, for those who cannot send the header."""
    heartbeat: str

    def cursor(self) -> tuple[EventId | None, str | None]:
        """The reader's cursor, and why it is none. A browser sends the header by itself and could do
        nothing about a refusal, so rubbish there is answered by `reset`; on the query it is the caller's
        mistake. Raises BadRequest."""
        if self.header:
            try:
                return EventId.parse(self.header), None
            except BadEventId:
                return None, "cursor_invalid"
        if not self.last_event_id:
            return None, None
        return event_id(self.last_event_id, "last_event_id"), None


def event_id(text: str, parameter: str) -> EventId:
    """An id that a caller gave. Raises BadRequest."""
    try:
        return EventId.parse(text)
    except BadEventId as error:
        raise BadRequest(f"{parameter} is {error}: give `<ms>-<n>` as an event had it, or `0`") from None


def open_stream(
    hub: Hub, limits: StreamLimits, heartbeat_s: float, catchup: CatchUp, ask: StreamRequest
) -> EventStream | None:
    """A stream that knows what it gives first, or that is behind because the store is away; None if
    nothing will ever follow the cursor. Raises StreamLimitReached, BadRequest, JobGone."""
    cursor, fault = ask.cursor()
    if ask.heartbeat not in ("", "comment", "event"):
        raise BadRequest("heartbeat is `comment` or `event`")
    if not limits.admit(ask.caller):
        raise StreamLimitReached
    stream = EventStream(
        hub,
        limits,
        ask.caller,
        catchup,
        heartbeat_s,
        Seen(heartbeat_s) if ask.heartbeat == "event" else COMMENT,
    )
    try:
        stream.begin(cursor, fault)
        first = None
        if hub.connected:
            with time_limit(OPEN_S):
                first = stream.open()
        if first is not None and first.closed and not first.frames:
            stream.close()
            return None
    except redis.RedisError:
        pass  # it opens as behind, and catches up when the store is back
    except BaseException:
        stream.close()
        raise
    return stream


class EventStream:
    """One client's stream, as an iterable of chunks of bytes: the portable path, for any WSGI server.

    `open` may be called first, to know what the answer will be. `close` must be called in the end,
    iterated or not; WSGI servers do.
    """

    def __init__(
        self,
        hub: Hub,
        limits: StreamLimits,
        caller: str,
        catchup: CatchUp,
        heartbeat_s: float,
        heartbeat: Heartbeat,
    ) -> None:
        """The caller was admitted; its place is given back by `close`."""
        self._limits: StreamLimits | None = limits
        self._caller = caller
        self.topics = catchup.topics
        self.cursor = ZERO
        self.generation = -1
        self._woken = new_event()
        self._hub = hub
        self._catchup = catchup
        self._heartbeat_s = heartbeat_s
        self._heartbeat = heartbeat
        self._start: Callable[[], Page] | None = None
        self._first: Page | None = None
        self._resumed = False
        self._written = time.monotonic()
        hub.join(self)

    def begin(self, cursor: EventId | None, fault: str | None) -> None:
        """Where the reader stands: at a cursor, or with nothing, or with something useless."""
        self._resumed = cursor is not None or fault is not None
        if fault is not None:
            self._start = lambda: self._catchup.reset(fault)
        elif cursor is None:
            self._start = self._catchup.start
        else:
            self.cursor = cursor

    def open(self) -> Page:
        """The first piece. Raises JobGone, and RedisError while the store or the hub is away."""
        self._first = self._catch_up(OPEN_S)
        return self._first

    def _count(self) -> None:
        metrics.STREAMS_OPENED.inc()
        if self._resumed:
            metrics.STREAMS_RESUMED.inc()

    def close(self) -> None:
        self._hub.leave(self)
        if self._limits is not None:
            self._limits.release(self._caller)
            self._limits = None

    def notify(self) -> None:
        self._woken.set()

    def hand_over(self, sockets: Sockets, sock: socket.socket, head: bytes) -> None:
        """Have the hub write to the socket, instead of being iterated. Raises OSError if it is gone."""
        self._count()
        sockets.adopt(
            sock,
            head + sse.retry(random.randint(*RETRY_MS)),  # noqa: S311
            self._catchup,
            self._heartbeat,
            self._caller,
            self._start,
            self.cursor,
            self._first,
            self.generation,
        )
        self._limits = None

    def _catch_up(self, timeout_s: float) -> Page:
        deadline = time.monotonic() + timeout_s
        while (generation := self._hub.ready(self)) is None:
            if not self._woken.wait(max(0.0, deadline - time.monotonic())):
                raise redis.ConnectionError("the hub is not connected")
            self._woken.clear()
        page = self._start() if self._start is not None else self._catchup.after(self.cursor)
        self._start = None
        self.cursor = page.cursor
        # Live in the generation that was ready before the read: if the connection was lost since,
        # this is an old one, and the hub says behind.
        self.generation = generation if page.complete else -1
        return page

    def __iter__(self) -> Iterator[bytes]:
        """Chunks to write. It ends after `end` of a single job, and when the process drains."""
        self._count()
        yield sse.retry(random.randint(*RETRY_MS))  # noqa: S311
        page = self._first
        told = False
        try:
            while not self._hub.draining:
                if page is None:
                    try:
                        page = self._catch_up(STORE_RETRY_S)
                    except redis.RedisError:
                        if not told:
                            told = True
                            yield self._write(self._heartbeat.word(behind=True))
                        self._woken.clear()
                        yield from self._wait(STORE_RETRY_S, behind=True)
                        continue
                if page.frames:
                    yield self._write(page.frames)
                if page.closed:
                    return
                if page.complete:
                    told = False
                    closed = yield from self._live()
                    if closed:
                        return
                page = None
        except JobGone:
            return
        delay = self._hub.goodbye_delay()
        time.sleep(delay)
        yield sse.shutdown(random.randint(*RETRY_MS) + round(delay * 1000))  # noqa: S311

    def _live(self) -> Generator[bytes, None, bool]:
        """Hand on what comes until the stream is behind, or closed (True)."""
        vouched = False
        while not self._hub.draining:
            self._woken.clear()
            messages = self._hub.collect(self)
            if messages is None:
                return False
            if not messages:
                if vouched:
                    yield from self._wait(self._heartbeat_s, behind=False)
                else:
                    vouched = True
                    yield self._heartbeat.word(behind=False)
                continue
            self.cursor = messages[-1].id
            metrics.EVENTS_DELIVERED.inc(len(messages))
            yield self._write(b"".join(message.frame for message in messages))
            if self._catchup.ends and messages[-1].type == b"end":
                return True
        return False

    def _wait(self, timeout_s: float, *, behind: bool) -> Iterator[bytes]:
        """Until somebody wakes us, at most so long; a heartbeat if it is time for one."""
        beat_in = self._written + self._heartbeat_s - time.monotonic()
        if not self._woken.wait(max(0.0, min(timeout_s, beat_in))) and beat_in <= timeout_s:
            yield self._write(self._heartbeat.beat(behind=behind))

    def _write(self, chunk: bytes) -> bytes:
        self._written = time.monotonic()
        return chunk

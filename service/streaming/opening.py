"""How a stream opens: what was asked for, and what to answer before its first byte."""

from __future__ import annotations

import logging
import random
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import redis

from headway.contract.events import ZERO, BadEventId, EventId
from service.streaming import sse
from service.streaming.catchup import CatchUp, Page
from service.streaming.heartbeat import COMMENT, Heartbeat, VisibleHeartbeat
from service.streaming.primitives import new_event, time_limit
from service.streaming.sockets import Sockets
from service.streaming.stream_limits import Holder

log = logging.getLogger(__name__)

RETRY_MS = (1000, 2000)
"""Bounds of the delay after which a client that lost its stream reconnects: not all at the same moment."""
FULL_RETRY_MS = (5_000, 15_000)
"""The same for a client that found no room."""
OPEN_S = 0.5
"""How long a request waits for the store before its stream opens as behind: the first bytes must not depend
on Redis."""
SILENT_BEATS = 4
"""An iterated stream ends when it has heard nothing for as many heartbeats: the client is better off with
another connection."""


class BadRequest(ValueError):
    """A parameter of the stream is not what it may be; the message says what it may be."""


class StreamLimitReached(Exception):
    """The stream limit of this process or client is reached. `retry` is the SSE body to answer with."""

    def __init__(self) -> None:
        super().__init__()
        self.retry = sse.retry(random.randint(*FULL_RETRY_MS)) + b"\n"  # noqa: S311


@dataclass(frozen=True, slots=True)
class StreamRequest:
    """What a client asks for; an empty text is what it did not give."""

    holder: Holder
    header: str
    """Last-Event-ID."""
    last_event_id: str
    """The same on the query, for clients that cannot send the header."""
    heartbeat: str

    def cursor(self) -> tuple[EventId | None, str | None]:
        """Returns the reader's cursor, and why there is none. A browser sends the header by itself and
        could do nothing about a refusal, so rubbish there is answered by `reset`; on the query it is the
        caller's mistake. Raises BadRequest."""
        if self.header:
            try:
                return EventId.parse(self.header), None
            except BadEventId:
                return None, "cursor_invalid"
        if not self.last_event_id:
            return None, None
        return event_id(self.last_event_id, "last_event_id"), None


def event_id(text: str, parameter: str) -> EventId:
    """Returns an id that a caller gave. Raises BadRequest."""
    try:
        return EventId.parse(text)
    except BadEventId as error:
        raise BadRequest(f"{parameter} is {error}: give `<ms>-<n>` as an event had it, or `0`") from None


def open_stream(sockets: Sockets, catchup: CatchUp, request: StreamRequest) -> EventStream | None:
    """Returns a stream that knows its first page, or that is behind because the store is away; None if
    nothing will ever follow the cursor. Raises StreamLimitReached, BadRequest, JobGone."""
    cursor, fault = request.cursor()
    if request.heartbeat not in ("", "comment", "event"):
        raise BadRequest("heartbeat is `comment` or `event`")
    if not sockets.limits.admit(request.holder):
        raise StreamLimitReached
    sockets.start()
    heartbeat = VisibleHeartbeat(sockets.heartbeat_s) if request.heartbeat == "event" else COMMENT
    stream = EventStream(sockets, request.holder, catchup, heartbeat, cursor, fault)
    try:
        first = None
        # If the hub has no connection either, there is nothing to wait for.
        if sockets.hub.connected:
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
    """One client's stream until it has a socket. Hand that over, or iterate the stream, as WSGI servers do.

    `close` must be called in the end, whatever was done before.
    """

    def __init__(
        self,
        sockets: Sockets,
        holder: Holder,
        catchup: CatchUp,
        heartbeat: Heartbeat,
        cursor: EventId | None,
        fault: str | None,
    ) -> None:
        """The caller was admitted; its place in the limits is given back by `close`."""
        self.topics = catchup.topics
        self.cursor = cursor or ZERO
        self.generation = -1
        self._sockets = sockets
        self._holder = holder
        self._catchup = catchup
        self._heartbeat = heartbeat
        self._resumed = cursor is not None or fault is not None
        self._start: Callable[[], Page] | None = None
        if fault is not None:
            self._start = lambda: catchup.reset(fault)
        elif cursor is None:
            self._start = catchup.start
        self._first: Page | None = None
        self._ready = new_event()
        self._ours: socket.socket | None = None
        self._handed_over = False
        sockets.hub.join(self)

    def open(self) -> Page:
        """Read the first page. Raises JobGone, and RedisError while the store or the hub is away."""
        deadline = time.monotonic() + OPEN_S
        while (generation := self._sockets.hub.ready(self)) is None:
            if not self._ready.wait(max(0.0, deadline - time.monotonic())):
                raise redis.ConnectionError("the hub has not subscribed yet")
            self._ready.clear()
        self._first = self._start() if self._start is not None else self._catchup.after(self.cursor)
        # The generation from before the read: if the connection was lost since, the reader is behind.
        self.generation = generation
        return self._first

    def notify(self) -> None:
        self._ready.set()

    def hand_over(self, sock: socket.socket, head: bytes = b"") -> None:
        """Have the hub write to the socket, beginning with `head`. Raises OSError if it is closed."""
        self._sockets.opened += 1
        self._sockets.resumed += self._resumed
        self._sockets.adopt(
            sock,
            head + sse.retry(random.randint(*RETRY_MS)),  # noqa: S311
            self._catchup,
            self._heartbeat,
            self._holder,
            self.cursor,
            self._start,
            self._first,
            self.generation,
        )
        self._handed_over = True
        self._sockets.hub.leave(self)

    def __iter__(self) -> Iterator[bytes]:
        """Chunks to write: what the hub writes to the other end of a pair of sockets."""
        self._ours, theirs = socket.socketpair()
        with theirs:
            self.hand_over(theirs)
        self._ours.settimeout(max(30.0, SILENT_BEATS * self._sockets.heartbeat_s))
        try:
            while chunk := self._ours.recv(65536):
                yield chunk
        except OSError as error:
            log.debug("an iterated stream ends: %s", error)

    def close(self) -> None:
        """Give back what the stream holds. Harmless the second time."""
        self._sockets.hub.leave(self)
        if self._ours is not None:
            self._ours.close()
        if not self._handed_over:
            self._handed_over = True
            self._sockets.limits.release(self._holder)

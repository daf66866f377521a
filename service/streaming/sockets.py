"""The sockets of event streams, owned by the hub: no greenlet, no stack and no queue a reader.

Only under gevent on Linux (`supported`); elsewhere streams are iterated (service/api/events.py). A reader
is in one of these places, and the hub's lock guards them all:

- live: in its topic's `live`, standing at the topic's last id. What comes is written to it at once.
- waiting: it has everything too, but watches several topics, or knows more than the hub has heard yet.
  It is asked after each batch (`settle`).
- blocked: its buffer is full. It costs nothing until it can take more; then it is behind.
- behind: it catches up from the store, a page at a time, by one of CATCH_UPS greenlets.

Nothing here may switch greenlets while it holds the lock: writes do not block, and what would is done
by the catch-ups.
"""

from __future__ import annotations

import errno
import logging
import os
import random
import select
import socket
import sys
import time
from collections import deque
from collections.abc import Callable
from typing import cast

import gevent
import gevent.monkey
import gevent.socket
import redis
from gevent.event import Event

from headway.contract.events import EventId, Published
from service import metrics
from service.streaming import sse
from service.streaming.catchup import CatchUp, JobGone, Page
from service.streaming.heartbeat import Heartbeat
from service.streaming.hub import Hub
from service.streaming.stream_limits import StreamLimits
from service.streaming.topic import Topic

log = logging.getLogger(__name__)

CATCH_UPS = 64
"""Readers that catch up at the same time."""
SEND_BUFFER = 64 * 1024
"""Bytes that the kernel keeps for a reader (it doubles them): the price of one that stops reading."""
USER_TIMEOUT_MS = 300_000
"""How long written bytes may stay untaken before a reader counts as unplugged. A reader that only
stopped reading counts just the same, so it is not short: it comes back by itself, but late."""
BEAT_TICKS = 150
"""Heartbeats are spread over so many moments of an interval."""
PARK_S = 0.1
"""How long a reader waits that cannot catch up because Redis is away."""

_GONE = -1


def supported() -> bool:
    """Whether sockets can be owned here; else streams are iterated."""
    return sys.platform == "linux" and gevent.monkey.is_module_patched("socket")


class SocketStream:
    """One reader. `start` is what it gets first, if its cursor is not enough to tell."""

    __slots__ = (
        "behind",
        "blocked",
        "caller",
        "catchup",
        "closing",
        "cursor",
        "fd",
        "generation",
        "heartbeat",
        "owner",
        "pending",
        "slow",
        "start",
        "told",
    )

    def __init__(
        self, owner: Sockets, fd: int, catchup: CatchUp, heartbeat: Heartbeat, caller: str
    ) -> None:
        self.caller = caller
        self.owner = owner
        self.fd = fd
        self.catchup = catchup
        self.heartbeat = heartbeat
        self.cursor = EventId(0, 0)
        self.generation = -1
        self.start: Callable[[], Page] | None = None
        self.pending: memoryview | None = None
        self.blocked = self.behind = self.slow = self.closing = False
        self.told = False
        """Whether it knows that it is behind, and that nothing can be done about it now."""

    @property
    def topics(self) -> tuple[str, ...]:
        return self.catchup.topics

    def notify(self) -> None:
        if not self.blocked and not self.behind:
            self.owner.unsettled.append(self)


class Sockets:
    """All event streams of this process that were handed over. `start` it in the process that serves."""

    def __init__(self, hub: Hub, limits: StreamLimits, heartbeat_s: float) -> None:
        self._hub = hub
        self._limits = limits
        self._heartbeat_s = heartbeat_s
        self._streams: dict[int, SocketStream] = {}
        self._behind: deque[SocketStream] = deque()
        self._work = Event()
        self.unsettled: list[SocketStream] = []
        self.delivered = 0

    @property
    def behind(self) -> int:
        """How many readers wait to catch up (without those whose buffer is full)."""
        return len(self._behind)

    def start(self) -> None:
        # gevent takes select.epoll away, as it blocks; watched by gevent's loop it does not.
        self._epoll: select.epoll = gevent.monkey.get_original("select", "epoll")()
        self._hub.writer = self
        gevent.spawn(self._watch)
        gevent.spawn(self._beat)
        for _ in range(CATCH_UPS):
            gevent.spawn(self._catch_up)

    # -- coming and going --------------------------------------------------------------------------

    def adopt(
        self,
        sock: socket.socket,
        head: bytes,
        catchup: CatchUp,
        heartbeat: Heartbeat,
        caller: str,
        start: Callable[[], Page] | None,
        cursor: EventId,
        first: Page | None,
        generation: int,
    ) -> None:
        """Take over a connection whose response begins with `head`, and its place in the limits. The
        caller's own descriptor may be closed afterwards; `first` was read in `generation`, or is still
        to be read. Raises OSError if the connection has gone."""
        _tune(sock)
        fd = os.dup(sock.fileno())
        try:
            os.set_blocking(fd, False)
            stream = SocketStream(self, fd, catchup, heartbeat, caller)
            self._epoll.register(fd, select.EPOLLRDHUP)
        except OSError:
            os.close(fd)
            raise
        with self._hub.lock:
            self._streams[fd] = stream
            self._hub.join(stream)
            stream.cursor = cursor
            if first is None:
                stream.start = start
                if self._write(stream, head):
                    self._fall_behind(stream)
            else:
                stream.generation = generation
                self._give(stream, first, head)
            self.settle_all()

    def _close(self, stream: SocketStream) -> None:
        """Harmless the second time."""
        if self._streams.get(stream.fd) is not stream:
            return
        del self._streams[stream.fd]
        self._limits.release(stream.caller)
        self._hub.leave(stream, stream.fd)
        stream.generation = -1
        stream.closing = True
        stream.pending = None
        self._epoll.unregister(stream.fd)
        os.close(stream.fd)

    def drain(self, window_s: float) -> None:
        """Say goodbye to all, spread over the window; returns when all have gone."""
        streams = list(self._streams.values())
        random.shuffle(streams)
        began = time.monotonic()
        for i, stream in enumerate(streams):
            ahead = began + window_s * i / len(streams) - time.monotonic()
            if ahead > 0.005:
                gevent.sleep(ahead)
            self._say_goodbye(stream)
        for stream in list(self._streams.values()):  # who came while we were at it
            self._say_goodbye(stream)

    def _say_goodbye(self, stream: SocketStream) -> None:
        with self._hub.lock:
            if not stream.blocked and self._streams.get(stream.fd) is stream:
                _send(stream.fd, sse.shutdown(random.randint(500, 3000)))  # noqa: S311
            self._close(stream)

    # -- writing -----------------------------------------------------------------------------------

    def write(self, topic: Topic, messages: list[Published]) -> None:
        """One write for each live reader of the topic. The loop is the whole of the fan-out: what it
        does for a reader beyond the system call is what Headway costs."""
        chunk = messages[0].frame if len(messages) == 1 else b"".join([m.frame for m in messages])
        size = len(chunk)
        write = os.write
        odd: list[tuple[int, int]] = []
        for fd in topic.live:
            try:
                sent = write(fd, chunk)
            except BlockingIOError:
                sent = 0
            except OSError:
                sent = _GONE
            if sent != size:
                odd.append((fd, sent))
        self.delivered += len(messages) * (len(topic.live) - len(odd))
        metrics.APPEND_TO_WRITE.observe(max(0.0, time.time() - messages[0].id.ms / 1000))
        for fd, sent in odd:
            stream = cast(SocketStream, topic.live.pop(fd))
            topic.watchers.add(stream)
            if sent == _GONE:
                self._close(stream)
            elif sent == 0:
                stream.cursor = messages[0].prev
                self._block(stream)
            else:
                stream.cursor = messages[-1].id
                self._block(stream, memoryview(chunk)[sent:], closing=_ends(stream, messages))
        if topic.live and messages[-1].type == b"end":
            for stream in cast(list[SocketStream], list(topic.live.values())):
                if stream.catchup.ends:
                    self._close(stream)

    def _write(self, stream: SocketStream, chunk: bytes, *, closing: bool = False) -> bool:
        """Whether all of it was taken; what was not is sent before anything else, when it can be."""
        sent = _send(stream.fd, chunk)
        if sent == len(chunk):
            return True
        if sent == _GONE:
            self._close(stream)
            return False
        if len(stream.topics) == 1:
            topic = self._hub.topic(stream.topics[0])
            if topic.live.pop(stream.fd, None) is not None:
                stream.cursor = topic.stood
                topic.watchers.add(stream)
        self._block(stream, memoryview(chunk)[sent:], closing=closing)
        return False

    def _block(
        self, stream: SocketStream, pending: memoryview | None = None, *, closing: bool = False
    ) -> None:
        stream.blocked = stream.slow = True
        stream.pending = pending
        stream.closing = closing
        self._epoll.modify(stream.fd, select.EPOLLRDHUP | select.EPOLLOUT)

    def _unblock(self, stream: SocketStream) -> None:
        """Its buffer has room again: what was cut off first, then what it missed."""
        if stream.pending is not None:
            sent = _send(stream.fd, stream.pending)
            if sent == _GONE:
                self._close(stream)
                return
            if sent < len(stream.pending):
                stream.pending = stream.pending[sent:]
                return
            stream.pending = None
        if stream.closing:
            self._close(stream)
            return
        stream.blocked = False
        self._epoll.modify(stream.fd, select.EPOLLRDHUP)
        self._fall_behind(stream)

    # -- live, waiting, behind ---------------------------------------------------------------------

    def fall_behind(self, topic: Topic) -> None:
        """All live readers of a topic: there is a gap, or the connection was lost."""
        stood = topic.stood
        topic.fresh = []
        for stream in cast(list[SocketStream], list(topic.live.values())):
            stream.cursor = stood
            topic.watchers.add(stream)
            self._fall_behind(stream)
        topic.live.clear()

    def _fall_behind(self, stream: SocketStream) -> None:
        if not stream.behind and not stream.closing:
            stream.behind = True
            self._behind.append(stream)
            self._work.set()

    def settle_all(self) -> None:
        """Give those that wait what there is for them now."""
        while self.unsettled:
            stream = self.unsettled.pop()
            if not stream.blocked and not stream.behind and self._streams.get(stream.fd) is stream:
                self._settle(stream)

    def _settle(self, stream: SocketStream) -> None:
        messages = self._hub.collect(stream)
        if messages is None:
            self._fall_behind(stream)
            return
        if messages:
            stream.cursor = messages[-1].id
            closing = _ends(stream, messages)
            if not self._write(stream, b"".join([m.frame for m in messages]), closing=closing):
                return
            self.delivered += len(messages)
            if closing:
                self._close(stream)
                return
        if len(stream.topics) == 1:
            topic = self._hub.topic(stream.topics[0])
            if topic.stand_at(stream.cursor):
                topic.watchers.discard(stream)
                topic.live[stream.fd] = stream

    def _give(self, stream: SocketStream, page: Page, head: bytes = b"") -> None:
        """A page from the store, and what follows from it."""
        stream.cursor = page.cursor
        frames = (page.newest_progress() if stream.slow else page).frames
        if (head or frames) and not self._write(stream, head + frames, closing=page.closed):
            return
        if page.closed:
            self._close(stream)
        elif page.complete:
            stream.slow = False
            self._settle(stream)
            self._vouch(stream)
        else:
            self._fall_behind(stream)

    def _vouch(self, stream: SocketStream) -> None:
        """Say that it has caught up, after what came while it did, if it still has."""
        if self._streams.get(stream.fd) is stream and not stream.blocked and not stream.behind:
            stream.told = False
            word = stream.heartbeat.word(behind=False)
            if word:
                self._write(stream, word)

    def _catch_up(self) -> None:
        while True:
            if not self._behind:
                self._work.clear()
                self._work.wait()
                continue
            stream = self._behind.popleft()
            if self._streams.get(stream.fd) is stream:
                self._advance(stream)

    def _advance(self, stream: SocketStream) -> None:
        generation = self._hub.ready(stream)
        try:
            if generation is None:
                raise redis.ConnectionError("not subscribed yet")
            page = stream.start() if stream.start is not None else stream.catchup.after(stream.cursor)
        except redis.RedisError:
            self._say_behind(stream)
            gevent.sleep(PARK_S)
            self._behind.append(stream)
            return
        except JobGone:
            with self._hub.lock:
                self._close(stream)
            return
        except Exception:
            # The reader comes back with its cursor; the greenlet is for all of them.
            log.exception("a reader could not catch up")
            with self._hub.lock:
                self._close(stream)
            return
        with self._hub.lock:
            if self._streams.get(stream.fd) is not stream:
                return
            stream.behind = False
            stream.start = None
            # If the connection was lost since, this is an old generation, and it is behind again.
            stream.generation = generation
            self._give(stream, page)
            self.settle_all()

    def _say_behind(self, stream: SocketStream) -> None:
        with self._hub.lock:
            if not stream.told and not stream.blocked and self._streams.get(stream.fd) is stream:
                stream.told = True
                self._write(stream, stream.heartbeat.word(behind=True))

    # -- the loops ---------------------------------------------------------------------------------

    def _watch(self) -> None:
        """Who has gone, and who can take more. The kernel tells at once; a failed write would later."""
        while True:
            gevent.socket.wait_read(self._epoll.fileno())
            with self._hub.lock:
                for fd, mask in self._epoll.poll(0, 1024):
                    stream = self._streams.get(fd)
                    if stream is None:
                        continue
                    if mask & ~select.EPOLLOUT:
                        self._close(stream)
                    elif stream.blocked:
                        self._unblock(stream)
                self.settle_all()

    def _beat(self) -> None:
        """One timer for all heartbeats, each reader at its own moment of the interval."""
        tick = 0
        while True:
            gevent.sleep(self._heartbeat_s / BEAT_TICKS)
            tick = (tick + 1) % BEAT_TICKS
            with self._hub.lock:
                for fd in [fd for fd in self._streams if fd % BEAT_TICKS == tick]:
                    stream = self._streams[fd]
                    # A blocked reader has bytes enough.
                    if not stream.blocked:
                        self._write(stream, stream.heartbeat.beat(behind=stream.behind))


def _ends(stream: SocketStream, messages: list[Published]) -> bool:
    return stream.catchup.ends and messages[-1].type == b"end"


def _send(fd: int, chunk: bytes | memoryview) -> int:
    try:
        return os.write(fd, chunk)
    except BlockingIOError:
        return 0
    except OSError as error:
        if error.errno not in (errno.EPIPE, errno.ECONNRESET, errno.ETIMEDOUT):
            log.debug("a reader's socket failed: %s", error)
        return _GONE


def _tune(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if sock.family != socket.AF_UNIX:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, USER_TIMEOUT_MS)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)

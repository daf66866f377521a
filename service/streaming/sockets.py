"""The sockets of event streams, owned by the hub: no greenlet, stack or queue per reader.

A reader is always in exactly one place (reader.py), which only `Reader.move_to` changes. The hub's lock
guards all of it. Nothing here may block, or switch greenlets, while it holds the lock: writes do not
block, and what would is done by the catch-ups.
"""

from __future__ import annotations

import errno
import logging
import os
import random
import socket
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import cast

import redis

from headway.contract.events import EventId, Published
from headway.loops import forever
from service import metrics
from service.streaming import sse
from service.streaming.catchup import CatchUp, JobGone, Page
from service.streaming.heartbeat import Heartbeat
from service.streaming.hub import Hub
from service.streaming.poller import Poller
from service.streaming.primitives import cooperative, new_event
from service.streaming.reader import Place, Reader
from service.streaming.stream_limits import Holder, StreamLimits
from service.streaming.topic import Topic

log = logging.getLogger(__name__)

CATCH_UPS = 64
"""Readers that catch up at the same time. StoreReader bounds what they take of the store."""
CATCH_UP_THREADS = 8
"""The same where there are no greenlets."""
BEAT_SLOTS = 150
"""Number of time slots over which one interval's heartbeats are spread."""
BEAT_PAUSE_S = 0.05
"""Shortest pause between two looks at which heartbeats are due."""
PARK_S = 0.1
"""How long a reader waits that cannot catch up now: Redis is away, or the last attempt got it nowhere."""

VALIDITY_S = 20.0
"""Seconds between two looks at which viewers may still read."""

_GONE = -1


class Sockets:
    """All event streams of this process."""

    def __init__(
        self,
        hub: Hub,
        limits: StreamLimits,
        heartbeat_s: float,
        poller: Poller,
        write: Callable[[int, bytes | memoryview], int] = os.write,
    ) -> None:
        self.hub = hub
        self.poller = poller
        self.limits = limits
        self.heartbeat_s = heartbeat_s
        self._write_fd = write
        self._readers: dict[int, Reader] = {}
        self._behind: OrderedDict[Reader, None] = OrderedDict()
        """Readers that wait for their next page."""
        self._parked: list[tuple[Reader, int]] = []
        """Readers that wait for a better moment, each with its `moves` then."""
        self.unsettled: set[Reader] = set()
        self._behind_filled = new_event()
        self._parked_filled = new_event()
        self._beat_slot: int | None = None
        self._draining = False
        self._lock = threading.Lock()
        self._started = False
        self.opened = self.resumed = self.delivered = 0
        """For the metrics; a counter of theirs takes longer than much of what is counted."""

    @property
    def catching_up(self) -> int:
        """How many readers wait to catch up, without those whose buffer is full."""
        return len(self._behind) + len(self._parked)

    def start(self) -> None:
        """Start the hub and the loops. Does nothing the second time."""
        with self._lock:
            if self._started:
                return
            self._started = True
        self.hub.writer = self
        self.hub.start()
        forever("sockets", self.watch, pause_s=0)
        forever("heartbeats", self._beat, pause_s=max(BEAT_PAUSE_S, self.heartbeat_s / BEAT_SLOTS))
        forever("parked readers", self._unpark, pause_s=0)
        forever("validity of viewers", self.dismiss_invalid, pause_s=VALIDITY_S)
        for _ in range(CATCH_UPS if cooperative() else CATCH_UP_THREADS):
            forever("catch-up", self._catch_up, pause_s=0)

    # -- coming and going --------------------------------------------------------------------------

    def adopt(
        self,
        sock: socket.socket,
        head: bytes,
        catchup: CatchUp,
        heartbeat: Heartbeat,
        holder: Holder,
        cursor: EventId,
        start: Callable[[], Page] | None,
        first: Page | None,
        generation: int,
    ) -> None:
        """Take over a connection whose response begins with `head`, and its place in the limits. The
        caller's own descriptor may be closed afterwards. `first` was read in `generation`; None if it is
        still to be read. Raises OSError if the connection has gone."""
        with self.hub.lock:
            fd = self.poller.add(sock)
            reader = Reader(self, fd, catchup, heartbeat, holder, cursor, start)
            self._readers[fd] = reader
            self.hub.join(reader)
            if self._draining:
                self._send(fd, head + _goodbye())
                reader.move_to(Place.GONE)
            elif first is not None:
                reader.start = None
                reader.generation = generation
                self._give(reader, first, head)
            elif self._write(reader, head):
                self.queue(reader)
            self.settle_all()

    def forget(self, reader: Reader) -> None:
        del self._readers[reader.fd]
        self.hub.leave(reader)
        self.poller.remove(reader.fd)
        self.limits.release(reader.holder)

    def dismiss_invalid(self) -> None:
        """Say goodbye to the readers whose credential has expired or was revoked."""
        with self.hub.lock:
            readers = list(self._readers.values())
            invalid = {viewer for viewer in {r.catchup.viewer for r in readers} if not viewer.valid()}
            for reader in readers:
                if reader.catchup.viewer in invalid:
                    self._dismiss(reader)

    def _dismiss(self, reader: Reader) -> None:
        if reader.place is not Place.BLOCKED:
            self._send(reader.fd, _goodbye())
        reader.move_to(Place.GONE)

    def drain(self, window_s: float) -> None:
        """Say goodbye to all readers, spread over the window. Returns when all have gone."""
        with self.hub.lock:
            self._draining = True
            readers = list(self._readers.values())
        random.shuffle(readers)
        began = time.monotonic()
        for i, reader in enumerate(readers):
            ahead = began + window_s * i / len(readers) - time.monotonic()
            if ahead > 0.005:
                time.sleep(ahead)
            with self.hub.lock:
                if reader.place is not Place.GONE:
                    self._dismiss(reader)

    # -- writing -----------------------------------------------------------------------------------

    def write(self, topic: Topic, messages: list[Published]) -> None:
        """One write for each live reader of the topic. The loop is the whole of the fan-out: what it
        does for a reader beyond the system call is what Headway costs."""
        chunk = messages[0].frame if len(messages) == 1 else b"".join([m.frame for m in messages])
        size = len(chunk)
        write = self._write_fd
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
            reader = cast(Reader, topic.live[fd])
            if sent == _GONE:
                reader.move_to(Place.GONE)
                continue
            reader.move_to(Place.BLOCKED)
            if sent:
                reader.cursor = messages[-1].id
                reader.pending = memoryview(chunk)[sent:]
                reader.final = _ends(reader, messages)
        topic.written = messages[-1].id
        if topic.live and messages[-1].type == b"end":
            for reader in cast(list[Reader], list(topic.live.values())):
                if reader.catchup.ends:
                    reader.move_to(Place.GONE)

    def _write(self, reader: Reader, chunk: bytes, *, final: bool = False) -> bool:
        """Returns whether all of it was taken. If not, the reader is blocked, and the rest is sent before
        anything else."""
        sent = self._send(reader.fd, chunk)
        if sent == len(chunk):
            return True
        if sent == _GONE:
            reader.move_to(Place.GONE)
        else:
            reader.move_to(Place.BLOCKED)
            reader.pending = memoryview(chunk)[sent:]
            reader.final = final
        return False

    def _send(self, fd: int, chunk: bytes | memoryview) -> int:
        try:
            return self._write_fd(fd, chunk)
        except BlockingIOError:
            return 0
        except OSError as error:
            if error.errno not in (errno.EPIPE, errno.ECONNRESET, errno.ETIMEDOUT):
                log.debug("a reader's socket failed: %s", error)
            return _GONE

    def unblock(self, reader: Reader) -> None:
        """Its buffer has room again: send what was cut off, then let it catch up."""
        if reader.pending is not None:
            sent = self._send(reader.fd, reader.pending)
            if sent == _GONE:
                reader.move_to(Place.GONE)
                return
            if sent < len(reader.pending):
                reader.pending = reader.pending[sent:]
                return
        reader.move_to(Place.GONE if reader.final else Place.BEHIND)

    # -- live, settled, behind ---------------------------------------------------------------------

    def fall_behind(self, topic: Topic) -> None:
        """All live readers of a topic: there is a gap, or the connection was lost."""
        topic.unwritten = []
        for reader in cast(list[Reader], list(topic.live.values())):
            reader.move_to(Place.BEHIND)

    def settle_all(self) -> None:
        """Give settled readers what there is for them now."""
        while self.unsettled:
            self._settle(self.unsettled.pop())

    def _settle(self, reader: Reader) -> None:
        messages = self.hub.collect(reader, reader.seen)
        if messages is None:
            reader.move_to(Place.BEHIND)
            return
        if messages:
            reader.has_heard(messages[-1].id)
            final = _ends(reader, messages)
            if not self._write(reader, b"".join([m.frame for m in messages]), final=final):
                return
            self.delivered += len(messages)
            if final:
                reader.move_to(Place.GONE)
                return
        # A cursor that is newer than the topic's last id must not be live: what comes next may be older.
        if len(reader.topics) == 1 and self.hub.topic(reader.topics[0]).last == reader.cursor:
            reader.move_to(Place.LIVE)

    def _give(self, reader: Reader, page: Page, head: bytes = b"") -> None:
        """Write a page from the store to a reader that is behind."""
        if page.reset is not None:
            metrics.STREAMS_RESET.labels(page.reset).inc()
        moved = page.cursor != reader.cursor or bool(page.state)
        reader.has_read(page.cursor)
        frames = (page.newest_progress() if reader.slow else page).frames
        if (head or frames) and not self._write(reader, head + frames, final=page.closed):
            return
        if page.closed:
            reader.move_to(Place.GONE)
        elif page.complete:
            reader.slow = False
            self.hub.anchor(reader, page.lasts)
            reader.move_to(Place.SETTLED)
            self._settle(reader)
            self._announce_live(reader)
            if reader.place is Place.BEHIND and not moved:
                # The hub and the store disagree. Reading again at once could go on for ever.
                self._park(reader)
        else:
            self.queue(reader)

    def _announce_live(self, reader: Reader) -> None:
        """Announce that it has caught up, after what arrived meanwhile, unless it fell behind again."""
        if reader.place is Place.LIVE or reader.place is Place.SETTLED:
            reader.told_behind = False
            event = reader.heartbeat.freshness_event(behind=False)
            if event:
                self._write(reader, event)

    def _announce_behind(self, reader: Reader) -> None:
        if not reader.told_behind:
            reader.told_behind = True
            event = reader.heartbeat.freshness_event(behind=True)
            if event:
                self._write(reader, event)

    # -- catching up -------------------------------------------------------------------------------

    def queue(self, reader: Reader) -> None:
        self._behind[reader] = None
        self._behind_filled.set()

    def dequeue(self, reader: Reader) -> None:
        self._behind.pop(reader, None)

    def _park(self, reader: Reader) -> None:
        self.dequeue(reader)
        self._parked.append((reader, reader.moves))
        self._parked_filled.set()

    def _unpark(self) -> float:
        self._parked_filled.wait()
        time.sleep(PARK_S)
        self.unpark()
        return 0

    def unpark(self) -> None:
        """Queue the parked readers that could go on: not those to whose server there is no connection."""
        with self.hub.lock:
            if not self.hub.connected:
                return
            parked, self._parked = self._parked, []
            self._parked_filled.clear()
            for reader, moves in parked:
                if reader.moves != moves:
                    continue
                if self.hub.reachable(reader):
                    self.queue(reader)
                else:
                    self._parked.append((reader, moves))
            if self._parked:
                self._parked_filled.set()

    def _catch_up(self) -> float:
        self._behind_filled.wait()
        self.catch_up()
        return 0

    def catch_up(self) -> None:
        """Read a page for the reader that has waited longest. Does nothing if none waits."""
        with self.hub.lock:
            if not self._behind:
                self._behind_filled.clear()
                return
            reader, _ = self._behind.popitem(last=False)
            moves = reader.moves
        page = None
        gone = False
        generation = self.hub.ready(reader)
        try:
            if generation is not None:
                page = reader.start() if reader.start is not None else _after(reader)
        except redis.RedisError:
            pass
        except JobGone:
            gone = True
        except Exception:
            # The reader comes back with its cursor; this loop is for all of them.
            log.exception("a reader could not catch up")
            gone = True
        with self.hub.lock:
            if reader.moves != moves:
                return  # it was blocked by a heartbeat meanwhile, or has gone
            if gone:
                reader.move_to(Place.GONE)
            elif page is None or generation is None:
                self._announce_behind(reader)
                if reader.place is Place.BEHIND:
                    self._park(reader)
            else:
                reader.start = None
                # If the connection was lost since, this is an old generation, and it falls behind again.
                reader.generation = generation
                self._give(reader, page)
            self.settle_all()

    # -- the loops ---------------------------------------------------------------------------------

    def watch(self) -> None:
        """The kernel tells at once which readers have gone; a failed write would later."""
        self.poller.wait()
        with self.hub.lock:
            for fd, closed in self.poller.ready():
                reader = self._readers.get(fd)
                if reader is None:
                    continue
                if closed:
                    reader.move_to(Place.GONE)
                elif reader.place is Place.BLOCKED:
                    self.unblock(reader)
            self.settle_all()

    def _beat(self) -> None:
        self.beat(time.monotonic())

    def beat(self, now: float) -> None:
        """Send the heartbeats that have become due since the last call, each reader's at its own moment of
        the interval."""
        slot = int(now * BEAT_SLOTS / self.heartbeat_s)
        last, self._beat_slot = self._beat_slot, slot
        if last is None or last == slot:
            return
        due = {n % BEAT_SLOTS for n in range(max(last, slot - BEAT_SLOTS) + 1, slot + 1)}
        with self.hub.lock:
            for fd in [fd for fd in self._readers if fd % BEAT_SLOTS in due]:
                reader = self._readers[fd]
                # A blocked reader has bytes enough.
                if reader.place is not Place.BLOCKED:
                    self._write(reader, reader.heartbeat.beat(behind=reader.place is Place.BEHIND))


def _after(reader: Reader) -> Page:
    """Returns what comes after its cursor, unless an event before the cursor has never reached it."""
    page = reader.catchup.after(reader.cursor)
    if reader.has_missed(page.befores):
        return reader.catchup.reset("events_missed")
    return page


def _ends(reader: Reader, messages: list[Published]) -> bool:
    return reader.catchup.ends and messages[-1].type == b"end"


def _goodbye() -> bytes:
    return sse.shutdown(random.randint(500, 3000))  # noqa: S311

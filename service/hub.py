"""The hub: one per process. It holds the one pub/sub connection, the topics, and who watches them.

A topic is one Redis stream that someone here watches. The hub keeps a short ring of its latest
messages. A stream (one client connection) has a cursor and takes from the rings what lies beyond it:
there is no queue per reader. It is **live** while the rings reach back to its cursor, else **behind**,
and then it reads the store (service/streams.py). Everything hard is "mark it behind": a gap in the
chain of `prev`, a ring that is too short for a slow reader, a lost connection (all streams at once, by
the generation).

The primitives are those of `threading`: greenlets under gunicorn's gevent worker, where they are
patched, and threads anywhere else.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.connection import AbstractConnection
from redis.retry import Retry

from service.contract.events import EventId, Published

log = logging.getLogger(__name__)

RING = 512
"""Messages kept for each topic."""
BATCH = 1000
"""Messages taken from the socket before their readers are woken."""
SILENCE_S = 5.0
"""A connection silent for so long is asked for a sign of life; silent for as long again, it is dead."""
RECONNECT_S = (0.05, 1.0)
"""The first and the longest pause before the hub connects again (jittered)."""


class Watcher:
    """What the hub knows of one client connection: its topics, its cursor, how to wake it."""

    __slots__ = ("cursor", "generation", "topics", "wake")

    def __init__(self, topics: Sequence[str]) -> None:
        self.topics = topics
        self.cursor = EventId(0, 0)
        self.generation = -1
        self.wake = threading.Event()


class Topic:
    """A Redis stream that someone watches. The ring holds the messages after `floor` up to `tail`,
    with none missing between; both are None until the first message."""

    __slots__ = ("floor", "ready", "ring", "tail", "watchers")

    def __init__(self) -> None:
        self.watchers: set[Watcher] = set()
        self.ready = threading.Event()
        self.forget()

    def forget(self) -> None:
        self.ring: deque[Published] = deque()
        self.floor: EventId | None = None
        self.tail: EventId | None = None

    def add(self, message: Published) -> None:
        if self.tail is not None and message.id <= self.tail:
            return
        if message.prev != self.tail:
            # The first message, or a gap: the ring vouches for nothing before it.
            self.ring.clear()
            self.floor = message.prev
        self.ring.append(message)
        self.tail = message.id
        if len(self.ring) > RING:
            self.floor = self.ring.popleft().id


class Hub:
    """Topics, watchers and the connection to Redis that feeds them. Start it once in each process."""

    def __init__(self, client: redis.Redis) -> None:
        pool = client.connection_pool
        settings = dict(pool.connection_kwargs)
        # It waits for messages as long as it takes; SILENCE_S finds a dead connection.
        settings.update(socket_timeout=None, retry=Retry(NoBackoff(), 0), health_check_interval=0)
        self._connection_class = pool.connection_class
        self._connection_settings = settings
        self._connection: AbstractConnection | None = None
        self._topics: dict[str, Topic] = {}
        self._lock = threading.RLock()
        self._started = False
        self._draining_until: float | None = None
        self.generation = 0
        self.reconnections = 0

    @property
    def connected(self) -> bool:
        return self._connection is not None

    @property
    def draining(self) -> bool:
        return self._draining_until is not None

    def start(self) -> None:
        """Connect in the background; does nothing the second time."""
        with self._lock:
            if self._started:
                return
            self._started = True
        threading.Thread(target=self._run, name="hub", daemon=True).start()

    def drain(self, window_s: float) -> None:
        """Tell every stream to say goodbye, spread over the window."""
        with self._lock:
            self._draining_until = time.monotonic() + window_s
            for topic in self._topics.values():
                for watcher in topic.watchers:
                    watcher.wake.set()

    def goodbye_delay(self) -> float:
        """How long a stream waits before it closes while draining, so that not all do it at once."""
        if self._draining_until is None:
            return 0
        return random.uniform(0, max(0.0, self._draining_until - time.monotonic()))  # noqa: S311

    # -- watchers ----------------------------------------------------------------------------------

    def join(self, watcher: Watcher) -> None:
        """Subscribe to what the watcher needs that nobody here watches yet."""
        new = []
        with self._lock:
            for name in watcher.topics:
                topic = self._topics.get(name)
                if topic is None:
                    topic = self._topics[name] = Topic()
                    new.append(name)
                topic.watchers.add(watcher)
            self._send("SUBSCRIBE", new)

    def leave(self, watcher: Watcher) -> None:
        """The opposite; harmless for a watcher that never joined or has left."""
        old = []
        with self._lock:
            for name in watcher.topics:
                topic = self._topics.get(name)
                if topic is None:
                    continue
                topic.watchers.discard(watcher)
                if not topic.watchers:
                    del self._topics[name]
                    old.append(name)
            self._send("UNSUBSCRIBE", old)

    def wait_ready(self, watcher: Watcher, timeout_s: float) -> int | None:
        """Wait until all the watcher's topics are subscribed, so that whatever the store does not
        show after this will be heard. The generation in which that holds, or None."""
        deadline = time.monotonic() + timeout_s
        with self._lock:
            generation = self.generation
            topics = [self._topics[name] for name in watcher.topics if name in self._topics]
        for topic in topics:
            if not topic.ready.wait(max(0.0, deadline - time.monotonic())):
                return None
        return generation if generation == self.generation else None

    def collect(self, watcher: Watcher) -> list[Published] | None:
        """The messages after the watcher's cursor, in order; None if it is behind."""
        with self._lock:
            if watcher.generation != self.generation:
                return None
            cursor = watcher.cursor
            found: list[Published] = []
            for name in watcher.topics:
                topic = self._topics[name]
                if topic.tail is None or topic.floor is None or topic.tail <= cursor:
                    continue
                if topic.floor > cursor:
                    return None
                for message in reversed(topic.ring):
                    if message.id <= cursor:
                        break
                    found.append(message)
        found.sort(key=lambda message: message.id)
        return found

    # -- the connection ----------------------------------------------------------------------------

    def _send(self, command: str, names: Sequence[str]) -> None:
        """Called with the lock held. A failure shows in the reading thread, which reconnects."""
        if self._connection is None or not names:
            return
        try:
            for i in range(0, len(names), 500):
                self._connection.send_command(command, *names[i : i + 500])
        except (redis.RedisError, OSError) as error:
            log.warning("the hub could not send %s: %s", command, error)
            self._connection.disconnect()

    def _run(self) -> None:
        pause = RECONNECT_S[0]
        while True:
            connection = self._connection_class(**self._connection_settings)
            try:
                connection.connect()
                with self._lock:
                    self._connection = connection
                    self._send("SUBSCRIBE", list(self._topics))
                pause = RECONNECT_S[0]
                log.info("the hub is connected")
                self._read(connection)
            except (redis.RedisError, OSError) as error:
                log.warning("the hub lost its connection to Redis: %s", error)
            finally:
                connection.disconnect()
                self._lost()
            time.sleep(pause * random.uniform(0.5, 1))  # noqa: S311
            pause = min(pause * 2, RECONNECT_S[1])

    def _lost(self) -> None:
        """All streams are behind now, whatever they were."""
        with self._lock:
            self._connection = None
            self.generation += 1
            self.reconnections += 1
            for topic in self._topics.values():
                topic.ready.clear()
                topic.forget()
                for watcher in topic.watchers:
                    watcher.wake.set()

    def _read(self, connection: AbstractConnection) -> None:
        asked = False
        while True:
            if not connection.can_read(timeout=SILENCE_S):
                if asked:
                    raise redis.ConnectionError("it has been silent for too long")
                with self._lock:
                    connection.send_command("PING")
                asked = True
                continue
            asked = False
            woken: set[Watcher] = set()
            for _ in range(BATCH):
                reply: Any = connection.read_response(timeout=SILENCE_S)
                if isinstance(reply, list):
                    self._take(reply, woken)
                if not connection.can_read(timeout=0):
                    break
            for watcher in woken:
                watcher.wake.set()

    def _take(self, reply: list[Any], woken: set[Watcher]) -> None:
        kind, name = reply[0], reply[1].decode()
        with self._lock:
            topic = self._topics.get(name)
            if topic is None:
                return
            if kind == b"message":
                topic.add(Published.of(reply[2]))
                woken |= topic.watchers
            elif kind == b"subscribe":
                topic.ready.set()

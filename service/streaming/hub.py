"""The hub: one per process. It holds the one pub/sub connection, the topics, and who watches them.

A stream (one client connection) has a cursor and no queue. It is **live** while it stands at its
topics' last id, or the topics' rings reach back to its cursor; else it is **behind** and reads the
store. Everything hard is "mark it behind": a gap in the chain of `prev`, a full socket, a ring that is
too short, a lost connection (all streams at once, by the generation).

The primitives are those of `threading`: greenlets under gunicorn's gevent worker, where they are
patched, and threads anywhere else.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Sequence
from typing import Any, Protocol

import redis
from redis.backoff import NoBackoff
from redis.connection import AbstractConnection
from redis.retry import Retry

from headway.contract.events import ZERO, EventId, Published
from headway.contract.store import JobStore
from service import metrics
from service.streaming.primitives import new_event
from service.streaming.pubsub_parser import PubSubParser
from service.streaming.topic import Topic, Watcher

log = logging.getLogger(__name__)

READ_BYTES = 64 * 1024
"""Taken from the socket at once, and then handed on."""
SILENCE_S = 2.0
"""A connection silent for so long is asked for a sign of life; silent for as long again, it is dead."""
AUDIT_S = 10.0
"""Between two audits: each compares the topics' last ids with the store's."""
AUDIT_GRACE_S = 1.0
"""How long a message may be under way before it counts as lost."""
AUDIT_BATCH = 100
AUDIT_PAUSE_S = 0.02
"""Between two batches: what readers wait for comes first."""
RECONNECT_S = (0.05, 1.0)
"""The first and the longest pause before the hub connects again (jittered)."""


class LiveWriter(Protocol):
    """Who writes to the live sockets of a topic. Called with the hub's lock held."""

    def write(self, topic: Topic, messages: list[Published]) -> None: ...

    def fall_behind(self, topic: Topic) -> None: ...

    def settle_all(self) -> None: ...


class Hub:
    """Topics, watchers and the connection to Redis that feeds them. Start it once in each process."""

    def __init__(self, store: JobStore) -> None:
        self._store = store
        pool = store.redis.connection_pool
        settings = dict(pool.connection_kwargs)
        settings.update(
            parser_class=self._make_parser,
            socket_read_size=READ_BYTES,
            socket_timeout=SILENCE_S,
            retry=Retry(NoBackoff(), 0),
            health_check_interval=0,
        )
        self._connection_class = pool.connection_class
        self._connection_settings = settings
        self._connection: AbstractConnection | None = None
        self._topics: dict[str, Topic] = {}
        self._unsent: set[str] = set()
        self._joined = new_event()
        self._draining_until: float | None = None
        self._started = False
        self.lock = threading.RLock()
        self.writer: LiveWriter | None = None
        self.generation = 0

    def _make_parser(self, **settings: Any) -> PubSubParser:
        self._replies = PubSubParser(**settings)  # type: ignore[no-untyped-call]
        return self._replies

    @property
    def connected(self) -> bool:
        return self._connection is not None

    @property
    def draining(self) -> bool:
        return self._draining_until is not None

    def start(self) -> None:
        """Connect in the background; does nothing the second time."""
        with self.lock:
            if self._started:
                return
            self._started = True
        threading.Thread(target=self._run, name="hub", daemon=True).start()
        threading.Thread(target=self._subscribe, name="subscribe", daemon=True).start()
        threading.Thread(target=self._audit_forever, name="audit", daemon=True).start()

    def drain(self, window_s: float) -> None:
        """Tell every stream to say goodbye, spread over the window."""
        with self.lock:
            self._draining_until = time.monotonic() + window_s
            for topic in self._topics.values():
                for watcher in topic.watchers:
                    watcher.notify()

    def goodbye_delay(self) -> float:
        """How long a stream waits before it closes while draining, so that not all do it at once."""
        if self._draining_until is None:
            return 0
        return random.uniform(0, max(0.0, self._draining_until - time.monotonic()))  # noqa: S311

    # -- watchers ----------------------------------------------------------------------------------

    def join(self, watcher: Watcher) -> None:
        """Subscribe to what the watcher needs that nobody here watches yet."""
        with self.lock:
            for name in watcher.topics:
                topic = self._topics.get(name)
                if topic is None:
                    topic = self._topics[name] = Topic()
                    self._unsent.add(name)
                    self._joined.set()
                topic.watchers.add(watcher)

    def leave(self, watcher: Watcher, fd: int = -1) -> None:
        """The opposite; harmless for a watcher that never joined or has left."""
        old = []
        with self.lock:
            for name in watcher.topics:
                topic = self._topics.get(name)
                if topic is None:
                    continue
                topic.watchers.discard(watcher)
                if topic.live.get(fd) is watcher:
                    del topic.live[fd]
                if not topic.watchers and not topic.live:
                    del self._topics[name]
                    if name in self._unsent:
                        self._unsent.discard(name)
                    else:
                        old.append(name)
            self._send("UNSUBSCRIBE", old)

    def _subscribe(self) -> None:
        """Send what was joined: readers that come together share one command."""
        while True:
            self._joined.wait()
            with self.lock:
                self._joined.clear()
                names = list(self._unsent)
                self._unsent.clear()
                self._send("SUBSCRIBE", names)

    def topic(self, name: str) -> Topic:
        """A topic that somebody watches."""
        return self._topics[name]

    def ready(self, watcher: Watcher) -> int | None:
        """The generation in which all the watcher's topics are subscribed, so that whatever the store
        does not show after this will be heard; None while they are not."""
        for name in watcher.topics:
            topic = self._topics.get(name)
            if topic is None or not topic.ready:
                return None
        return self.generation

    def collect(self, watcher: Watcher) -> list[Published] | None:
        """The messages after the watcher's cursor, in order; None if it is behind."""
        with self.lock:
            if watcher.generation != self.generation:
                return None
            found: list[Published] = []
            for name in watcher.topics:
                newest_first = self._topics[name].after(watcher.cursor)
                if newest_first is None:
                    return None
                found += newest_first
        found.sort(key=lambda message: message.id)
        return found

    # -- the audit ---------------------------------------------------------------------------------

    def _audit_forever(self) -> None:
        while True:
            time.sleep(AUDIT_S * random.uniform(0.8, 1.2))  # noqa: S311
            try:
                self.audit()
            except redis.RedisError as error:
                log.debug("the audit could not read the store: %s", error)
            except Exception:
                log.exception("the audit met something unexpected")

    def audit(self) -> None:
        """Find the topics whose last message never came, though the connection seems well. Nothing
        else would: their readers look live, and the next message may be the `end`, or none."""
        with self.lock:
            names = [name for name, topic in self._topics.items() if topic.tail is not None]
        for i in range(0, len(names), AUDIT_BATCH):
            time.sleep(AUDIT_PAUSE_S)
            late = self._late(dict.fromkeys(names[i : i + AUDIT_BATCH], ZERO))
            if late:
                time.sleep(AUDIT_GRACE_S)
                for name in self._late(late):
                    log.warning("nothing was heard of the newest event of %s: reading the store", name)
                    metrics.HUB_DISTRUSTED.inc()
                    self._distrust(name)

    def _late(self, expected: dict[str, EventId]) -> dict[str, EventId]:
        """The topics that lag behind what is expected of them, or behind the store where that is ZERO."""
        unknown = [name for name, last in expected.items() if last == ZERO]
        found = {**expected, **dict(zip(unknown, self._store.feeds.last_ids(unknown), strict=True))}
        late = {}
        with self.lock:
            for name, last in found.items():
                topic = self._topics.get(name)
                if topic is not None and topic.tail is not None and topic.tail < last:
                    late[name] = last
        return late

    def _distrust(self, name: str) -> None:
        """Have all readers of a topic catch up from the store."""
        with self.lock:
            topic = self._topics.get(name)
            if topic is None:
                return
            if self.writer is not None and topic.live:
                self.writer.fall_behind(topic)
            topic.forget()
            for watcher in topic.watchers:
                watcher.generation = -1
                watcher.notify()
            if self.writer is not None:
                self.writer.settle_all()

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
                with self.lock:
                    self._connection = connection
                    self._unsent.clear()
                    self._send("SUBSCRIBE", list(self._topics))
                pause = RECONNECT_S[0]
                log.info("the hub is connected")
                self._read(connection)
            except (redis.RedisError, OSError) as error:
                log.warning("the hub has no connection to Redis: %s", error)
            except Exception:
                # Nobody is served without this loop: begin anew, with all readers behind.
                log.exception("the hub met something unexpected")
            finally:
                connection.disconnect()
                self._lost()
            time.sleep(pause * random.uniform(0.5, 1))  # noqa: S311
            pause = min(pause * 2, RECONNECT_S[1])

    def _lost(self) -> None:
        """All streams are behind now, whatever they were."""
        with self.lock:
            if self._connection is not None:
                metrics.HUB_RECONNECTIONS.inc()
            self._connection = None
            self.generation += 1
            for topic in self._topics.values():
                if self.writer is not None and topic.live:
                    self.writer.fall_behind(topic)
                topic.ready = False
                topic.forget()
                for watcher in topic.watchers:
                    watcher.notify()
            if self.writer is not None:
                self.writer.settle_all()

    def _read(self, connection: AbstractConnection) -> None:
        asked = False
        while True:
            replies = self._replies.batch()
            if replies:
                asked = False
                with self.lock:
                    self._hand_on({topic for topic in map(self._take, replies) if topic is not None})
            elif asked:
                raise redis.ConnectionError("it has been silent for too long")
            else:
                with self.lock:
                    connection.send_command("PING")
                asked = True
            # Messages may come without a pause: others must have their turn.
            time.sleep(0)

    def _take(self, reply: Any) -> Topic | None:
        """Note a message or a confirmation; the topic that has something for its watchers now."""
        if not isinstance(reply, list):
            return None  # the answer to PING while there are no subscriptions
        topic = self._topics.get(reply[1].decode())
        if topic is None:
            return None
        if reply[0] == b"message":
            message = Published.of(reply[2])
            if topic.live and self.writer is not None and topic.gap_before(message):
                self.writer.fall_behind(topic)
            topic.add(message)
        elif reply[0] == b"subscribe":
            topic.ready = True
        return topic

    def _hand_on(self, touched: set[Topic]) -> None:
        for topic in touched:
            if topic.fresh:
                messages, topic.fresh = topic.fresh, []
                if topic.live and self.writer is not None:
                    self.writer.write(topic, messages)
            for watcher in topic.watchers:
                watcher.notify()
        if self.writer is not None:
            self.writer.settle_all()

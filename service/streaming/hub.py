"""The hub: one per process. It holds the one pub/sub connection, the topics, and their watchers.

A stream (one client connection) has a cursor and no queue. It is live while it stands at its topics' last
id, or the topics' rings reach back to its cursor; else it is behind and reads the store. Everything hard
is "mark it behind": a gap in the chain of `prev`, a full socket, a ring that is too short, a lost
connection (all streams at once, by the generation).

The primitives are those of `threading`: greenlets under gunicorn's gevent worker, where they are
patched, and threads anywhere else. Nothing blocks while it holds `Hub.lock`.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from typing import Any, Protocol

import redis
from redis.backoff import NoBackoff
from redis.connection import AbstractConnection
from redis.retry import Retry

from headway.contract.events import EventId, Published
from headway.contract.servers import NotPrimary, ToPrimary
from headway.contract.store import JobStore
from headway.loops import forever
from service import metrics
from service.streaming.primitives import new_event
from service.streaming.pubsub_parser import PubSubParser
from service.streaming.topic import Topic, Watcher

log = logging.getLogger(__name__)

READ_BYTES = 64 * 1024
"""Maximum bytes read from the connection before they are handed on."""
SILENCE_S = 2.0
"""A connection silent for this long is pinged; silent for as long again, it is dead."""
CHECK_S = 2.0
"""Between two looks whether this is still the primary."""
AUDIT_S = 10.0
"""Between two audits, each of which compares the topics' last ids with the store's."""
AUDIT_GRACE_S = 1.0
"""How long a message may be on its way before it counts as lost."""
AUDIT_BATCH = 100
AUDIT_PAUSE_S = 0.02
"""Between two batches of an audit, so that readers come first."""
RECONNECT_S = (0.05, 1.0)
"""The first and the longest pause before the hub connects again."""
CHANNELS_PER_COMMAND = 500


class LiveWriter(Protocol):
    """Writes to the live readers of a topic. Called with the hub's lock held."""

    def write(self, topic: Topic, messages: list[Published]) -> None: ...

    def fall_behind(self, topic: Topic) -> None: ...

    def settle_all(self) -> None: ...


class Hub:
    """Topics, watchers and the connection to Redis that feeds them."""

    def __init__(self, store: JobStore) -> None:
        self._store = store
        self._connection: AbstractConnection | None = None
        self._server = ""
        self._reconnect_pause_s = RECONNECT_S[0]
        self._topics: dict[str, Topic] = {}
        self._to_subscribe: set[str] = set()
        self._to_unsubscribe: set[str] = set()
        self._unconfirmed: dict[str, int] = {}
        """Channels whose SUBSCRIBE was sent and not confirmed, and how many times."""
        self._outbox_filled = new_event()
        self._sending = threading.Lock()
        self._started = False
        self.lock = threading.RLock()
        self.writer: LiveWriter | None = None
        self.generation = 0
        self.draining = False

    @property
    def connected(self) -> bool:
        return self._connection is not None

    def start(self) -> None:
        """Connect in the background. Does nothing the second time."""
        with self.lock:
            if self._started:
                return
            self._started = True
        forever("hub", self._stay_connected, pause_s=RECONNECT_S[1])
        forever("hub outbox", self._send_outbox, pause_s=RECONNECT_S[0])
        forever("hub audit", self._audit_later, pause_s=AUDIT_S)
        forever("hub check", self._leave_later, pause_s=CHECK_S)

    def drain(self) -> None:
        """Note that the process stops, and wake every watcher."""
        with self.lock:
            self.draining = True
            for topic in self._topics.values():
                for watcher in topic.watchers:
                    watcher.notify()

    # -- watchers ----------------------------------------------------------------------------------

    def join(self, watcher: Watcher) -> None:
        """Subscribe to those of the watcher's topics that nobody here watches yet."""
        with self.lock:
            for name in watcher.topics:
                topic = self._topics.get(name)
                if topic is None:
                    topic = self._topics[name] = Topic()
                    if name in self._to_unsubscribe:
                        # It is still subscribed, unless its confirmation is still to come.
                        self._to_unsubscribe.discard(name)
                        topic.asked = True
                        topic.ready = name not in self._unconfirmed
                    else:
                        self._to_subscribe.add(name)
                        self._outbox_filled.set()
                topic.watchers.add(watcher)

    def leave(self, watcher: Watcher) -> None:
        """The opposite. Harmless for a watcher that never joined or has left."""
        with self.lock:
            for name in watcher.topics:
                topic = self._topics.get(name)
                if topic is None:
                    continue
                topic.watchers.discard(watcher)
                if topic.watchers or topic.live:
                    continue
                del self._topics[name]
                if topic.asked:
                    self._to_unsubscribe.add(name)
                    self._outbox_filled.set()
                else:
                    self._to_subscribe.discard(name)

    def topic(self, name: str) -> Topic:
        """Returns a topic that somebody watches."""
        return self._topics[name]

    def ready(self, watcher: Watcher) -> int | None:
        """Returns the generation in which all the watcher's topics are subscribed, so that anything the
        store does not show from now on will be heard; None while they are not."""
        for name in watcher.topics:
            topic = self._topics.get(name)
            if topic is None or not topic.ready:
                return None
        return self.generation

    def anchor(self, watcher: Watcher, lasts: Sequence[EventId]) -> None:
        """Tell the watcher's topics their last ids, as the store gave them in the watcher's generation.
        A topic that knows where it stands needs no message to have live readers, and can be audited."""
        if watcher.generation == self.generation:
            for name, last in zip(watcher.topics, lasts, strict=True):
                self._topics[name].anchor(last)

    def collect(self, watcher: Watcher, seen: Sequence[EventId]) -> list[Published] | None:
        """Returns the messages that a watcher has not seen, in order, given the ids up to which it has
        everything of each of its topics; None if it is behind."""
        with self.lock:
            if watcher.generation != self.generation:
                return None
            found: list[Published] = []
            for name, last_seen in zip(watcher.topics, seen, strict=True):
                newest_first = self._topics[name].after(last_seen)
                if newest_first is None:
                    return None
                found += newest_first
        found.sort(key=lambda message: message.id)
        return found

    # -- the audit ---------------------------------------------------------------------------------

    def _audit_later(self) -> None:
        if self.connected:
            self.audit()

    def _leave_later(self) -> None:
        if self.connected:
            self.leave_former_primary()

    def leave_former_primary(self) -> None:
        """Connect again if the address leads to another server by now, or this one has become a replica, as
        after a failover: the connection may stay open, and nothing may ever be heard there. Raises
        RedisError."""
        fresh, _ = self._new_connection()
        try:
            fresh.connect()
            left = fresh.run_id != self._server
        except NotPrimary as error:
            # Another replica says nothing of the server where this one listens.
            left = error.run_id == self._server
        finally:
            fresh.disconnect()  # type: ignore[no-untyped-call]
        connection = self._connection
        if connection is not None and left:
            log.warning("another server of Redis is the primary now: the hub connects again")
            connection.disconnect()  # the listening thread notices

    def audit(self) -> None:
        """Find the topics whose last message never came, though the connection seems well. Nothing else
        would: their readers look live, and the next message may be the `end`, or none.

        Raises RedisError."""
        with self.lock:
            names = [name for name, topic in self._topics.items() if topic.last is not None]
        for i in range(0, len(names), AUDIT_BATCH):
            time.sleep(AUDIT_PAUSE_S)
            batch = names[i : i + AUDIT_BATCH]
            late = self.late(dict(zip(batch, self._store.feeds.last_ids(batch), strict=True)))
            if late:
                time.sleep(AUDIT_GRACE_S)
                self.distrust(self.late(late))

    def late(self, stored: dict[str, EventId]) -> dict[str, EventId]:
        """Returns those of the topics that have not heard of the last id that the store has."""
        with self.lock:
            return {
                name: last
                for name, last in stored.items()
                if (topic := self._topics.get(name)) is not None
                and topic.last is not None
                and topic.last < last
            }

    def distrust(self, late: dict[str, EventId]) -> None:
        """Have all readers of these topics catch up from the store, which has an event of that id."""
        with self.lock:
            for name in late:
                topic = self._topics.get(name)
                if topic is None:
                    continue
                log.warning("nothing was heard of the newest event of %s: reading the store", name)
                metrics.HUB_DISTRUSTED.inc()
                if self.writer is not None and topic.live:
                    self.writer.fall_behind(topic)
                topic.skip_to(late[name])
                for watcher in topic.watchers:
                    watcher.notify()
            if self.writer is not None:
                self.writer.settle_all()

    # -- the connection ----------------------------------------------------------------------------

    def _stay_connected(self) -> float:
        """Connect and listen until the connection is lost; returns how long to pause then."""
        connection, parser = self._new_connection()
        try:
            connection.connect()
            self._server = connection.run_id
            self.connect(connection)
            self._reconnect_pause_s = RECONNECT_S[0]
            log.info("the hub is connected")
            self._listen(connection, parser)
        except (redis.RedisError, OSError) as error:
            log.warning("the hub has no connection to Redis: %s", error)
        finally:
            connection.disconnect()  # type: ignore[no-untyped-call]
            self.lose()
        pause = self._reconnect_pause_s
        self._reconnect_pause_s = min(pause * 2, RECONNECT_S[1])
        return pause

    def _new_connection(self) -> tuple[ToPrimary, PubSubParser]:
        """A connection like those of the store, but one that only listens."""
        pool = self._store.redis.connection_pool
        parsers: list[PubSubParser] = []

        def parser(**settings: Any) -> PubSubParser:
            parsers.append(PubSubParser(**settings))  # type: ignore[no-untyped-call]
            return parsers[-1]

        connection = pool.connection_class(
            **{
                **pool.connection_kwargs,
                "parser_class": parser,
                "socket_read_size": READ_BYTES,
                "socket_timeout": SILENCE_S,
                "retry": Retry(NoBackoff(), 0),
                "health_check_interval": 0,
            }
        )
        return connection, parsers[-1]

    def _listen(self, connection: AbstractConnection, parser: PubSubParser) -> None:
        pinged = False
        while True:
            replies = parser.batch()
            if replies:
                pinged = False
                self.receive(replies)
            elif pinged:
                raise redis.ConnectionError("it has been silent for too long")
            else:
                with self._sending:
                    connection.send_command("PING")
                pinged = True
            # Messages may come without a pause: others must have their turn.
            time.sleep(0)

    def _send_outbox(self) -> float:
        self._outbox_filled.wait()
        self.send_outbox()
        return 0

    def send_outbox(self) -> None:
        """Send what SUBSCRIBEs and UNSUBSCRIBEs are due; readers that come together share one command."""
        with self.lock:
            self._outbox_filled.clear()
            connection = self._connection
            if connection is None:
                return
            commands = (("UNSUBSCRIBE", [*self._to_unsubscribe]), ("SUBSCRIBE", [*self._to_subscribe]))
            for name in self._to_subscribe:
                self._topics[name].asked = True
                self._unconfirmed[name] = self._unconfirmed.get(name, 0) + 1
            self._to_subscribe.clear()
            self._to_unsubscribe.clear()
        try:
            # Without the hub's lock: a send blocks when a Redis that was paused does not read.
            with self._sending:
                for command, names in commands:
                    for i in range(0, len(names), CHANNELS_PER_COMMAND):
                        connection.send_command(command, *names[i : i + CHANNELS_PER_COMMAND])
        except (redis.RedisError, OSError) as error:
            log.warning("the hub could not send its subscriptions: %s", error)
            connection.disconnect()  # the listening thread notices, and connects again

    def connect(self, connection: AbstractConnection) -> None:
        """Use a new connection: everything is subscribed again."""
        with self.lock:
            self._connection = connection
            self._to_subscribe = set(self._topics)
            self._outbox_filled.set()

    def lose(self) -> None:
        """The connection was lost: all streams are behind now."""
        with self.lock:
            if self._connection is not None:
                metrics.HUB_RECONNECTIONS.inc()
            self._connection = None
            self.generation += 1
            self._unconfirmed.clear()
            self._to_unsubscribe.clear()
            for topic in self._topics.values():
                if self.writer is not None and topic.live:
                    self.writer.fall_behind(topic)
                topic.lose()
                for watcher in topic.watchers:
                    watcher.notify()
            if self.writer is not None:
                self.writer.settle_all()

    def receive(self, replies: Sequence[Any]) -> None:
        """Hand on messages and confirmations, in the order in which Redis sent them."""
        with self.lock:
            touched = dict.fromkeys(topic for reply in replies if (topic := self._take(reply)) is not None)
            for topic in touched:
                if topic.unwritten:
                    messages, topic.unwritten = topic.unwritten, []
                    if topic.live and self.writer is not None:
                        self.writer.write(topic, messages)
                for watcher in topic.watchers:
                    watcher.notify()
            if self.writer is not None:
                self.writer.settle_all()

    def _take(self, reply: Any) -> Topic | None:
        """Note a message or a confirmation; returns the topic that has something for its watchers now."""
        if not isinstance(reply, list):
            return None  # the answer to PING while there are no subscriptions
        name = reply[1].decode()
        topic = self._topics.get(name)
        if reply[0] == b"subscribe":
            return self._confirm(name, topic)
        if topic is None or reply[0] != b"message":
            return None
        message = Published.of(reply[2])
        if topic.live and self.writer is not None and topic.gap_before(message):
            self.writer.fall_behind(topic)
        topic.add(message)
        return topic

    def _confirm(self, name: str, topic: Topic | None) -> Topic | None:
        """Only the confirmation of the last SUBSCRIBE counts: before it there may be an UNSUBSCRIBE."""
        left = self._unconfirmed.pop(name, 1) - 1
        if left:
            self._unconfirmed[name] = left
        elif topic is not None and topic.asked:
            topic.ready = True
            return topic
        return None

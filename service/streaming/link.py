"""A link: the hub's one connection to one server, and the topics that are heard there.

When it is lost, all readers of its topics are behind, and those of other servers notice nothing. SSUBSCRIBE
and SPUBLISH are used with one server too: there they do what SUBSCRIBE and PUBLISH do.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any, Protocol

import redis
from redis.backoff import NoBackoff
from redis.connection import AbstractConnection
from redis.retry import Retry

from headway.contract.connections import NotPrimary, ToPrimary, renew
from headway.contract.events import Published
from headway.contract.layout import slot_of
from headway.loops import forever
from service import metrics
from service.streaming.primitives import new_event
from service.streaming.pubsub_parser import PubSubParser
from service.streaming.topic import Topic

log = logging.getLogger(__name__)

READ_BYTES = 64 * 1024
"""Maximum bytes read from the connection before they are handed on."""
SILENCE_S = 2.0
"""A connection silent for this long is pinged; silent for as long again, it is dead."""
RECONNECT_S = (0.05, 1.0)
"""The first and the longest pause before a link connects again."""
CHANNELS_PER_COMMAND = 500


class LiveWriter(Protocol):
    """Writes to the live readers of a topic. Called with the hub's lock held."""

    def write(self, topic: Topic, messages: list[Published]) -> None: ...

    def fall_behind(self, topic: Topic) -> None: ...

    def settle_all(self) -> None: ...


class Hub(Protocol):
    """What a link knows of its hub."""

    lock: threading.RLock
    writer: LiveWriter | None

    def new_generation(self) -> int: ...

    def lose(self, topic: Topic) -> None: ...

    def look_again(self) -> None: ...


class Link:
    """Its state is guarded by the hub's lock."""

    def __init__(self, hub: Hub, pool: Any) -> None:
        self.pool = pool
        """Of connections to the same server."""
        self.generation = hub.new_generation()
        """Changes when the connection is lost; no other link has, or had, the same."""
        self._hub = hub
        self._connection: AbstractConnection | None = None
        self._server = ""
        self._reconnect_pause_s = RECONNECT_S[0]
        self.topics: dict[str, Topic] = {}
        self._to_subscribe: set[str] = set()
        self._to_unsubscribe: set[str] = set()
        self._unconfirmed: dict[str, int] = {}
        """Channels whose SSUBSCRIBE was sent and not confirmed, and how many times."""
        self._leaving: Counter[str] = Counter()
        """The same for SUNSUBSCRIBE."""
        self._outbox_filled = new_event()
        self._sending = threading.Lock()
        self._ended = threading.Event()

    @property
    def connected(self) -> bool:
        return self._connection is not None

    def start(self) -> None:
        """Connect in the background, until `end`."""
        forever("hub", self._stay_connected, pause_s=RECONNECT_S[1], stop=self._ended)
        forever("hub outbox", self._send_outbox, pause_s=RECONNECT_S[0], stop=self._ended)

    def end(self) -> None:
        """Let go of the server: it is no primary any more."""
        self._ended.set()
        self._outbox_filled.set()
        if self._connection is not None:
            self._connection.disconnect()

    # -- topics ------------------------------------------------------------------------------------

    def add(self, name: str, topic: Topic) -> None:
        """Have a topic subscribed."""
        self.topics[name] = topic
        topic.link = self
        if name in self._to_unsubscribe:
            # It is still subscribed, unless its confirmation is still to come.
            self._to_unsubscribe.discard(name)
            topic.asked = True
            topic.ready = name not in self._unconfirmed
        else:
            self._to_subscribe.add(name)
            self._outbox_filled.set()

    def remove(self, name: str) -> None:
        """Have a topic unsubscribed."""
        topic = self.topics.pop(name)
        topic.link = None
        if topic.asked:
            self._to_unsubscribe.add(name)
            self._outbox_filled.set()
        else:
            self._to_subscribe.discard(name)

    def has(self, name: str) -> bool:
        """Whether a topic is subscribed, or is about to be."""
        return not self.connected or self.topics[name].asked or name in self._to_subscribe

    # -- the connection ----------------------------------------------------------------------------

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

    def _stay_connected(self) -> float:
        """Connect and listen until the connection is lost; returns how long to pause then."""
        if self._ended.is_set():
            return 0
        connection, parser = self._new_connection()
        try:
            connection.connect()
            if self._server and self._server != connection.run_id:
                metrics.STORE_FAILOVERS.inc()
                # What is read from now on is to be of the server that is heard.
                renew(self.pool)
            self._server = connection.run_id
            self.connect(connection)
            self._reconnect_pause_s = RECONNECT_S[0]
            log.info("the hub is connected")
            self._listen(connection, parser)
        except (redis.RedisError, OSError) as error:
            if not self._ended.is_set():
                log.warning("the hub has no connection to Redis: %s", error)
        finally:
            connection.disconnect()  # type: ignore[no-untyped-call]
            self.lose()
            self._hub.look_again()
        pause = self._reconnect_pause_s
        self._reconnect_pause_s = min(pause * 2, RECONNECT_S[1])
        return pause

    def _new_connection(self) -> tuple[ToPrimary, PubSubParser]:
        """A connection like those of the store, but one that only listens."""
        pool = self.pool
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
        """Send what SSUBSCRIBEs and SUNSUBSCRIBEs are due; readers that come together share one command."""
        with self._hub.lock:
            self._outbox_filled.clear()
            connection = self._connection
            if connection is None:
                return
            commands = [*_commands("SUNSUBSCRIBE", self._to_unsubscribe)]
            commands += _commands("SSUBSCRIBE", self._to_subscribe)
            for name in self._to_subscribe:
                self.topics[name].asked = True
                self._unconfirmed[name] = self._unconfirmed.get(name, 0) + 1
            self._leaving.update(self._to_unsubscribe)
            self._to_subscribe.clear()
            self._to_unsubscribe.clear()
        try:
            # Without the hub's lock: a send blocks when a Redis that was paused does not read.
            with self._sending:
                for command in commands:
                    connection.send_command(*command)
        except (redis.RedisError, OSError) as error:
            log.warning("the hub could not send its subscriptions: %s", error)
            connection.disconnect()  # the listening thread notices, and connects again

    def connect(self, connection: AbstractConnection) -> None:
        """Use a new connection: everything is subscribed again."""
        with self._hub.lock:
            self._connection = connection
            self._to_subscribe = set(self.topics)
            self._outbox_filled.set()

    def lose(self) -> None:
        """The connection was lost: all streams of these topics are behind now."""
        with self._hub.lock:
            if self._connection is not None:
                metrics.HUB_RECONNECTIONS.inc()
            self._connection = None
            self.generation = self._hub.new_generation()
            self._unconfirmed.clear()
            self._leaving.clear()
            self._to_unsubscribe.clear()
            for topic in self.topics.values():
                self._hub.lose(topic)
            if self._hub.writer is not None:
                self._hub.writer.settle_all()

    def receive(self, replies: Sequence[Any]) -> None:
        """Hand on messages and confirmations, in the order in which Redis sent them."""
        with self._hub.lock:
            touched = dict.fromkeys(topic for reply in replies if (topic := self._take(reply)) is not None)
            for topic in touched:
                if topic.unwritten:
                    messages, topic.unwritten = topic.unwritten, []
                    if topic.live and self._hub.writer is not None:
                        self._hub.writer.write(topic, messages)
                for watcher in topic.watchers:
                    watcher.notify()
            if self._hub.writer is not None:
                self._hub.writer.settle_all()

    def _take(self, reply: Any) -> Topic | None:
        """Note a message or a confirmation; returns the topic that has something for its watchers now."""
        if not isinstance(reply, list):
            return None  # the answer to PING while there are no subscriptions
        name = reply[1].decode()
        topic = self.topics.get(name)
        if reply[0] == b"ssubscribe":
            return self._confirm(name, topic)
        if reply[0] == b"sunsubscribe":
            self._leave(name, topic)
            return None
        if topic is None or reply[0] != b"smessage":
            return None
        message = Published.of(reply[2])
        if topic.forks_before(message):
            self._leave_lost_lineage(name)
            return None
        if topic.live and self._hub.writer is not None and topic.gap_before(message):
            self._hub.writer.fall_behind(topic)
        topic.add(message)
        return topic

    def _leave_lost_lineage(self, name: str) -> None:
        """Readers were given what this server does not have, as they were caught up from the former one."""
        if self._connection is not None:
            log.warning("%s goes on from before what was read of it: the hub connects again", name)
            renew(self.pool)
            self._connection.disconnect()  # the listening thread notices

    def _confirm(self, name: str, topic: Topic | None) -> Topic | None:
        """Only the confirmation of the last SSUBSCRIBE counts: before it there may be an SUNSUBSCRIBE."""
        left = self._unconfirmed.pop(name, 1) - 1
        if left:
            self._unconfirmed[name] = left
        elif topic is not None and topic.asked:
            topic.ready = True
            return topic
        return None

    def _leave(self, name: str, topic: Topic | None) -> None:
        """One that nobody asked for says that the slot has moved to another server."""
        if self._leaving[name]:
            self._leaving[name] -= 1
            if not self._leaving[name]:
                del self._leaving[name]
        elif topic is not None:
            log.info("%s has moved to another server", name)
            topic.asked = False
            self._hub.lose(topic)
            self._hub.look_again()


def _commands(command: str, names: set[str]) -> list[tuple[str, ...]]:
    """One command takes the channels of one slot."""
    slots: dict[int, list[str]] = {}
    for name in names:
        slots.setdefault(slot_of(name), []).append(name)
    return [
        (command, *of_one[i : i + CHANNELS_PER_COMMAND])
        for of_one in slots.values()
        for i in range(0, len(of_one), CHANNELS_PER_COMMAND)
    ]

"""The hub: one per process. It holds the topics, their watchers, and a link to each server (link.py).

A stream (one client connection) has a cursor and no queue. It is live while it stands at its topics' last
id, or the topics' rings reach back to its cursor; else it is behind and reads the store. Everything hard
is "mark it behind": a gap in the chain of `prev`, a full socket, a ring that is too short, a lost
connection (all streams of that server at once, by its generation).

The primitives are those of `threading`: greenlets under gunicorn's gevent worker, where they are
patched, and threads anywhere else. Nothing blocks while it holds `Hub.lock`.
"""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections.abc import Sequence

import redis

from headway.contract.events import EventId, Published
from headway.contract.store import JobStore
from headway.loops import forever
from service import metrics
from service.streaming.link import Link, LiveWriter
from service.streaming.primitives import new_event
from service.streaming.topic import Topic, Watcher

log = logging.getLogger(__name__)

CHECK_S = 2.0
"""Between two looks whether the servers are still primaries."""
REFRESH_S = 30.0
"""Between two looks which servers there are, while nothing happens."""
LOOK_AGAIN_S = 0.2
"""The same, when one was lost, or a topic has moved."""
AUDIT_S = 10.0
"""Between two audits, each of which compares the topics' last ids with the store's."""
AUDIT_GRACE_S = 1.0
"""How long a message may be on its way before it counts as lost."""
AUDIT_BATCH = 100
AUDIT_PAUSE_S = 0.02
"""Between two batches of an audit, so that readers come first."""


class Hub:
    """Topics, watchers and the links to the servers that feed them."""

    def __init__(self, store: JobStore) -> None:
        self._store = store
        self._servers = store.servers
        self._topics: dict[str, Topic] = {}
        self._generations = itertools.count()
        self._started = False
        self._look = new_event()
        self.links: dict[int, Link] = {}
        """By the identity of the server's pool."""
        self.lock = threading.RLock()
        self.writer: LiveWriter | None = None
        self.draining = False
        self.arrange()

    @property
    def connected(self) -> bool:
        """Whether there is a link to any server."""
        return any(link.connected for link in list(self.links.values()))

    def start(self) -> None:
        """Connect in the background. Does nothing the second time."""
        with self.lock:
            if self._started:
                return
            self._started = True
            for link in self.links.values():
                link.start()
        forever("hub check", self._check, pause_s=0)
        forever("hub audit", self._audit_later, pause_s=AUDIT_S)

    def new_generation(self) -> int:
        """Returns a number that no link has had."""
        return next(self._generations)

    # -- which server has which topic --------------------------------------------------------------

    def look_again(self) -> None:
        """Have it looked up soon which servers there are."""
        self._look.set()

    def _check(self) -> None:
        asked = self._look.wait(CHECK_S)
        self._look.clear()
        self._servers.refresh(older_than_s=LOOK_AGAIN_S if asked else REFRESH_S)
        self.arrange()
        for link in list(self.links.values()):
            if link.connected:
                try:
                    link.leave_former_primary()
                except redis.RedisError as error:
                    log.debug("a server cannot be asked whether it is the primary: %s", error)

    def arrange(self) -> None:
        """Have a link to each server that there is now, and each topic at its own."""
        with self.lock:
            pools = {id(pool): pool for pool in self._servers.pools()}
            for key, pool in pools.items():
                if key not in self.links:
                    self.links[key] = Link(self, pool)
                    if self._started:
                        self.links[key].start()
            for name, topic in self._topics.items():
                link = self._link_for(name)
                # One that is where it was, and is not heard there, has moved away and come back.
                if link is topic.link and (link is None or link.has(name)):
                    continue
                if topic.link is not None:
                    topic.link.remove(name)
                    self.lose(topic)
                if link is not None:
                    link.add(name, topic)
            for key in self.links.keys() - pools.keys():
                self.links.pop(key).end()
                metrics.STORE_FAILOVERS.inc()
            if self.writer is not None:
                self.writer.settle_all()

    def _link_for(self, name: str) -> Link | None:
        pool = self._servers.pool_of(name)
        return None if pool is None else self.links.get(id(pool))

    def lose(self, topic: Topic) -> None:
        """Mark all readers of a topic as behind, as it has lost its subscription. Called with the lock
        held."""
        if self.writer is not None and topic.live:
            self.writer.fall_behind(topic)
        topic.lose()
        for watcher in topic.watchers:
            watcher.notify()

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
                    link = self._link_for(name)
                    if link is not None:
                        link.add(name, topic)
                    else:
                        self.look_again()
                topic.watchers.add(watcher)

    def leave(self, watcher: Watcher) -> None:
        """Unsubscribe from those of the watcher's topics that nobody here watches any more. Harmless for
        a watcher that never joined, or has left."""
        with self.lock:
            for name in watcher.topics:
                topic = self._topics.get(name)
                if topic is None:
                    continue
                topic.watchers.discard(watcher)
                if topic.watchers or topic.live:
                    continue
                del self._topics[name]
                if topic.link is not None:
                    topic.link.remove(name)

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
        return self._generation(watcher)

    def reachable(self, watcher: Watcher) -> bool:
        """Returns whether there is a link to the server of the watcher's topics."""
        topic = self._topics.get(watcher.topics[0])
        return topic is not None and topic.link is not None and topic.link.connected

    def _generation(self, watcher: Watcher) -> int | None:
        """All topics of a watcher lie in one slot."""
        topic = self._topics.get(watcher.topics[0])
        return None if topic is None or topic.link is None else topic.link.generation

    def anchor(self, watcher: Watcher, lasts: Sequence[EventId]) -> None:
        """Tell the watcher's topics their last ids, as the store gave them in the watcher's generation.
        A topic that knows where it stands needs no message to have live readers, and can be audited."""
        if watcher.generation == self._generation(watcher):
            for name, last in zip(watcher.topics, lasts, strict=True):
                self._topics[name].anchor(last)

    def collect(self, watcher: Watcher, seen: Sequence[EventId]) -> list[Published] | None:
        """Returns the messages that a watcher has not seen, in order, given the ids up to which it has
        everything of each of its topics; None if it is behind."""
        with self.lock:
            if watcher.generation != self._generation(watcher):
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
        for link in list(self.links.values()):
            if link.connected:
                try:
                    self.audit(link)
                except redis.RedisError as error:
                    log.warning("an audit of the streams is put off: %s", error)

    def audit(self, link: Link) -> None:
        """Find the topics whose last message never came, though the connection seems well. Nothing else
        would: their readers look live, and the next message may be the `end`, or none.

        Raises RedisError."""
        with self.lock:
            names = [name for name, topic in link.topics.items() if topic.last is not None]
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

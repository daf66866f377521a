"""Pauses: queues, job types and workers from which, or by which, no job is claimed until they are resumed.

The claim itself looks at them (lua/claim.lua), in the partition of its job, so a pause holds for every
claim after it: also for that of a worker which has the job's message already.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Literal, cast

from headway.contract.access import LOCAL
from headway.contract.database import Database
from headway.contract.encoding import dumps, rfc3339
from headway.contract.keys import encoded, is_own_queue

Kind = Literal["queue", "type", "worker"]

WAKE = 1000
"""Jobs of a partition whose messages are sent at once when their queue is resumed; the others' alarms send
theirs soon."""


@dataclass(frozen=True, slots=True)
class Subject:
    """What may be paused. `owner` is whose alone it is, as a type that the owner declared and a worker that
    claims over HTTP are; another owner's may be called the same. None: everybody's."""

    kind: Kind
    name: str
    owner: str | None = None
    queue: str = ""
    """Of a type: where its jobs wait."""

    @property
    def field(self) -> str:
        """As the scripts spell it: the names of types and workers are JSON texts there, without the quotes.
        A type that an owner declared has a queue of its own."""
        if self.kind == "type" and is_own_queue(self.queue):
            return f"queue:{self.queue}"
        if self.kind == "queue":
            return f"queue:{self.name}"
        name = dumps(self.name)[1:-1]
        if self.kind == "worker" and self.owner is not None:
            name = f"{encoded(self.owner)}/{name}"
        return f"{self.kind}:{name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause(Subject):
    """What is paused, since when (RFC 3339), and by whom, of which owner."""

    since: str
    by: str
    by_owner: str


class Pauses:
    """Every method raises redis.RedisError when the store cannot be reached."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def add(self, what: Subject, by: str = "", by_owner: str = LOCAL) -> None:
        """Let nothing more be claimed from this queue, of this type, or by this worker. What is running
        goes on. A pause that there is already stays as it is."""
        listed, *others = self._keys()
        since = rfc3339(self._db.now_ms(listed))
        text = dumps({**asdict(what), "since": since, "by": by, "by_owner": by_owner})
        # The first partition is the one that is listed; it is written last.
        for keys in (others, [listed]):
            self._db.each([(key, ("HSETNX", key, what.field, text)) for key in keys])

    def end(self, what: Subject) -> bool:
        """End a pause, and have messages sent for the jobs that wait for it. Returns whether it was
        paused."""
        keys = self._db.keys
        removed = self._db.each([(key, ("HDEL", key, what.field)) for key in self._keys()])
        for reply in self._db.run_many(
            [
                ("wake", [keys.waiting(partition, queue), keys.alarms(partition)], [WAKE])
                for partition in range(keys.partitions)
                for queue in {what.queue, what.name if what.kind == "queue" else ""} - {""}
            ]
        ):
            if isinstance(reply, Exception):
                raise reply
        return any(removed)

    def spread(self) -> None:
        """Have what is paused be so in partitions, too, that were added since."""
        listed, *others = self._keys()
        before = self._held(listed)
        self._db.each([(key, ("HSETNX", key, *pause)) for pause in before.items() for key in others])
        # What was resumed meanwhile.
        ended = before.keys() - self._held(listed).keys()
        self._db.each([(key, ("HDEL", key, field)) for field in ended for key in others])

    def all(self) -> list[Pause]:
        """Return all pauses, by kind and name."""
        held = self._held(self._db.keys.paused(0))
        return [_pause(text) for _, text in sorted(held.items())]

    def of(self, what: Subject) -> Pause | None:
        """Return the pause of this queue, type or worker, or None."""
        key = self._db.keys.paused(0)
        text = cast(bytes | None, self._db.at(key).hget(key, what.field))
        return None if text is None else _pause(text)

    def hold(self, partition: int, queue: str, type: str) -> bool:
        """Return whether jobs of this type in this queue are not claimed in a partition."""
        key = self._db.keys.paused(partition)
        fields = [Subject("queue", queue).field, Subject("type", type).field]
        held = self._db.at(key).hmget(key, fields)
        return any(cast("list[bytes | None]", held))

    def _held(self, key: str) -> dict[bytes, bytes]:
        return cast(dict[bytes, bytes], self._db.at(key).hgetall(key))

    def _keys(self) -> list[str]:
        """Those of all partitions: a claim looks in that of its job."""
        return [self._db.keys.paused(partition) for partition in range(self._db.keys.partitions)]


def _pause(text: bytes) -> Pause:
    return Pause(**json.loads(text))

"""Pauses: queues, job types and workers from which, or by which, no job is claimed until they are resumed.

The claim itself looks at them (lua/claim.lua), in the partition of its job, so a pause holds for every
claim after it: also for that of a worker which has the job's message already.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, cast

from headway.contract.database import Database
from headway.contract.encoding import dumps, rfc3339

Kind = Literal["queue", "type", "worker"]

WAKE = 1000
"""Jobs of a partition whose messages are sent at once when their queue is resumed; the others' alarms send
theirs soon."""


@dataclass(frozen=True, slots=True)
class Pause:
    """What is paused, since when (RFC 3339), and by whom."""

    kind: Kind
    name: str
    since: str
    by: str


def http_worker(owner: str, worker: str) -> str:
    """Return the name under which a worker that claims over HTTP is paused; another owner's may be called
    the same."""
    return f"{owner}/{worker}"


class Pauses:
    """Every method raises redis.RedisError when the store cannot be reached."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def add(self, kind: Kind, name: str, by: str = "") -> None:
        """Let nothing more be claimed from this queue, of this type, or by this worker. What is running
        goes on. A pause that there is already stays as it is."""
        listed, *others = self._keys()
        text = dumps({"name": name, "since": rfc3339(self._db.now_ms(listed)), "by": by})
        # The first partition is the one that is listed; it is written last.
        for keys in (others, [listed]):
            self._db.each([(key, ("HSETNX", key, _field(kind, name), text)) for key in keys])

    def end(self, kind: Kind, name: str, queues: Iterable[str] = ()) -> bool:
        """End a pause, and have messages sent for the jobs that wait in these queues. Returns whether it
        was paused."""
        keys = self._db.keys
        removed = self._db.each([(key, ("HDEL", key, _field(kind, name))) for key in self._keys()])
        for reply in self._db.run_many(
            [
                ("wake", [keys.waiting(partition, queue), keys.alarms(partition)], [WAKE])
                for partition in range(keys.partitions)
                for queue in queues
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
        return [_pause(field, text) for field, text in sorted(held.items())]

    def of(self, kind: Kind, name: str) -> Pause | None:
        """Return the pause of this queue, type or worker, or None."""
        key, field = self._db.keys.paused(0), _field(kind, name)
        text = cast(bytes | None, self._db.at(key).hget(key, field))
        return None if text is None else _pause(field.encode(), text)

    def hold(self, partition: int, queue: str, type: str) -> bool:
        """Return whether jobs of this type in this queue are not claimed in a partition."""
        key = self._db.keys.paused(partition)
        held = self._db.at(key).hmget(key, [_field("queue", queue), _field("type", type)])
        return any(cast("list[bytes | None]", held))

    def _held(self, key: str) -> dict[bytes, bytes]:
        return cast(dict[bytes, bytes], self._db.at(key).hgetall(key))

    def _keys(self) -> list[str]:
        """Those of all partitions: a claim looks in that of its job."""
        return [self._db.keys.paused(partition) for partition in range(self._db.keys.partitions)]


def _field(kind: Kind, name: str) -> str:
    """As the scripts spell it: the names of types and workers are JSON texts there, without the quotes."""
    return f"{kind}:{name if kind == 'queue' else dumps(name)[1:-1]}"


def _pause(field: bytes, text: bytes) -> Pause:
    kind, held = field.partition(b":")[0].decode(), json.loads(text)
    return Pause(cast(Kind, kind), held["name"], held["since"], held["by"])

"""The registry: which workers are alive, and which job types they serve."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, cast

from headway.contract.database import Database
from headway.contract.encoding import dumps, rfc3339
from headway.contract.pauses import Pauses, Subject

OWN_TYPE_S = 86_400
"""A type that an owner declared is known this long after that, or after the last claim."""
FORGET_S = 3_600
"""A registration that ran out this long ago is removed."""


@dataclass(frozen=True, slots=True)
class Worker:
    """A living worker, as it described itself."""

    name: str
    host: str
    pid: int
    concurrency: int
    """Jobs that it does at once."""
    types: tuple[str, ...]
    queues: tuple[str, ...]
    started_at: str
    sandbox: Mapping[str, Any]
    """`mode` is its SANDBOX; `missing` is what its kernel lacks for a whole one."""
    dropped_messages: int
    """Messages that it took from its queues since it started, and dropped as they were no jobs."""
    seen_at: str
    """When it last registered. Times are RFC 3339."""
    disk_full: bool = False
    """Whether it takes no jobs because it lacks scratch space."""


class Registry:
    """Every method raises redis.RedisError when the store cannot be reached."""

    def __init__(self, database: Database) -> None:
        self._db = database
        self._redis = database.at(database.keys.types)
        self._pauses = Pauses(database)

    def register(
        self, worker: str, types: Mapping[str, str], alive_s: float, about: Mapping[str, Any] | None = None
    ) -> None:
        """Register a worker and the job types (name → JSON) that it serves, for the next `alive_s` seconds.

        `about` is what `workers` returns of it: host, pid, concurrency, queues, started_at, sandbox,
        dropped_messages, disk_full.
        """
        keys = self._db.keys
        now_ms = self._db.now_ms(self._db.keys.types)
        until = now_ms / 1000 + alive_s
        with self._redis.pipeline(transaction=True) as pipe:
            for name, text in types.items():
                pipe.hset(keys.types, name, text)
            if about is not None:
                pipe.hset(keys.workers, worker, dumps({**about, "seen_at": rfc3339(now_ms)}))
            pipe.zadd(keys.alive, {f"{name} {worker}": until for name in types})
            pipe.zadd(keys.seen, dict.fromkeys(types, now_ms / 1000))
            pipe.zremrangebyscore(keys.alive, "-inf", now_ms / 1000 - FORGET_S)
            pipe.execute()

    def forget(self, worker: str, types: Iterable[str]) -> None:
        """Remove a worker: it no longer counts as alive for these types."""
        with self._redis.pipeline(transaction=True) as pipe:
            pipe.zrem(self._db.keys.alive, *(f"{name} {worker}" for name in types))
            pipe.hdel(self._db.keys.workers, worker)
            pipe.execute()
        self._pauses.end(Subject("worker", worker))

    def workers(self) -> list[Worker]:
        """Return the living workers, by name."""
        described, now, alive = self._read(self._db.keys.workers)
        serves: dict[bytes, list[str]] = {}
        known = set()
        for member, until in alive:
            type_name, _, worker = member.partition(b" ")
            known.add(worker)
            if until > now:
                serves.setdefault(worker, []).append(type_name.decode())
        killed = described.keys() - known
        if killed:
            self._redis.hdel(self._db.keys.workers, *killed)
            for name in killed:
                self._pauses.end(Subject("worker", name.decode()))
        return [
            _worker(name.decode(), json.loads(text), serves[name])
            for name, text in sorted(described.items())
            if name in serves
        ]

    def types(self) -> dict[str, tuple[dict[str, Any], bool]]:
        """Return each known job type: its description, and whether a worker that serves it is alive.

        `seen_at` of a description is when a worker last registered it (seconds since 1970), if known.
        """
        described, now, alive = self._read(self._db.keys.types)
        living = {member.split(b" ")[0] for member, until in alive if until > now}
        found: Any = self._redis.zrange(self._db.keys.seen, 0, -1, withscores=True)
        seen = dict(found)
        return {
            name.decode(): ({**json.loads(text), "seen_at": seen.get(name)}, name in living)
            for name, text in sorted(described.items())
        }

    def declare(self, owner: str, name: str, text: str) -> None:
        """Keep the description (JSON) of a type that the owner's workers claim over HTTP."""
        keys = self._db.keys
        with self._redis.pipeline(transaction=True) as pipe:
            pipe.hset(keys.own_types(owner), name, text)
            pipe.zadd(
                keys.claiming(owner), {f"{name} ": self._db.now_ms(self._db.keys.types) / 1000 + OWN_TYPE_S}
            )
            pipe.execute()

    def note_claimer(self, owner: str, worker: str, types: Iterable[str], alive_s: float) -> None:
        """Count a worker as alive for these types of the owner's, for the next `alive_s` seconds."""
        now = self._db.now_ms(self._db.keys.types) / 1000
        key = self._db.keys.claiming(owner)
        with self._redis.pipeline(transaction=True) as pipe:
            pipe.zadd(key, {f"{name} {worker}": now + alive_s for name in types}, gt=True)
            pipe.zadd(key, {f"{name} ": now + OWN_TYPE_S for name in types})
            pipe.zremrangebyscore(key, "-inf", now)
            pipe.execute()

    def claimers(self, owner: str) -> set[str]:
        """Return the names of the owner's workers that claim over HTTP and are alive."""
        key = self._db.keys.claiming(owner)
        found = cast(list[bytes], self._redis.zrange(key, "-inf", "+inf", byscore=True))
        return {name.partition(b" ")[2].decode() for name in found} - {""}

    def own_types(self, owner: str) -> dict[str, tuple[dict[str, Any], bool]]:
        """Return the types that the owner declared, as `types` does; removes those forgotten by now."""
        key = self._db.keys.own_types(owner)
        described, now, claiming = self._read(key, self._db.keys.claiming(owner))
        known: dict[bytes, bool] = {}
        for member, until in claiming:
            name, _, worker = member.partition(b" ")
            if until > now:
                known[name] = known.get(name, False) or bool(worker)
        forgotten = described.keys() - known.keys()
        if forgotten:
            self._redis.hdel(key, *forgotten)
        return {
            name.decode(): (json.loads(text), known[name])
            for name, text in sorted(described.items())
            if name in known
        }

    def _read(
        self, key: str, alive_key: str | None = None
    ) -> tuple[dict[bytes, bytes], float, list[tuple[bytes, float]]]:
        with self._redis.pipeline(transaction=True) as pipe:
            pipe.hgetall(key)
            pipe.time()
            pipe.zrange(alive_key or self._db.keys.alive, 0, -1, withscores=True)
            described, (seconds, micros), alive = pipe.execute()
        return described, seconds + micros / 1e6, alive


def _worker(name: str, about: Mapping[str, Any], types: Iterable[str]) -> Worker:
    return Worker(
        name,
        about["host"],
        about["pid"],
        about["concurrency"],
        tuple(sorted(types)),
        tuple(about["queues"]),
        about["started_at"],
        about.get("sandbox", {"mode": "off", "missing": []}),
        about.get("dropped_messages", 0),
        about["seen_at"],
        about.get("disk_full", False),
    )

"""A client of Redis or Valkey, and the Lua scripts that read and change what it holds.

Each change is one script (lua/*.lua): it checks the fence and the state, changes the job, appends the
event and publishes it. A script that is repeated because its reply was lost changes nothing more, so a
client may retry any of them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, cast

import redis
from redis.commands.core import Script
from redis.exceptions import AskError, MovedError, NoScriptError, TryAgainError

from headway.contract.events import IDS_PER_MS
from headway.contract.keys import JobRef, Keys
from headway.contract.layout import slot_of
from headway.contract.records import DOCUMENT
from headway.contract.servers import OneServer, Servers
from headway.contract.states import State

Call = tuple[str, Sequence[str], Sequence[Any]]
"""A script's name, keys and arguments."""

FEED_FACTOR = 10
"""A feed keeps this many times the events of a job."""

REPLICAS_MS = 1000
"""How long replicas have to take a write that must not be lost with the primary."""
READY_MS = 1000
"""How long a server keeps the key that is written to see whether it takes writes."""

_REF = ("owner", "group", "_queue", "_once", "parent")
_UNREACHABLE = (redis.ConnectionError, redis.TimeoutError)
_MOVED = (MovedError, AskError, TryAgainError)

_LUA = Path(__file__).parent / "lua"
_CHANGES_NO_JOB = {
    *("read", "read_feed", "snapshot_feed", "list", "next", "look", "keep", "wake", "group"),
    *("webhook_take", "webhook_settle", "webhook_rotate", "upload"),
}
_INCLUDED = {
    *("prelude", "claiming", "clock", "creation", "entries", "line", "members", "moment", "outcomes"),
    *("reports", "search", "tally", "webhooks"),
}


class TooFewReplicas(Exception):
    """What was written is there, but only on the primary and `found` replicas."""

    def __init__(self, found: int, wanted: int) -> None:
        super().__init__(f"{found} of {wanted} replicas have it after {REPLICAS_MS / 1000:g} s")


class Database:
    """A client, the names of the keys, and the scripts. Everything that reads or writes jobs shares one."""

    def __init__(
        self,
        servers: Servers | redis.Redis,
        keys: Keys,
        *,
        events_per_job: int = 2000,
        keep_progress: bool = False,
        retention_s: float = 7 * 86_400,
    ) -> None:
        """`servers` may also be a client: that of the only server."""
        self.servers = OneServer(servers) if isinstance(servers, redis.Redis) else servers
        self.at = self.servers.at
        self.redis = self.at(keys.layout_key)
        """A client of the server that has what belongs to nobody."""
        self.keys = keys
        self._writes_checked = 0
        self.limits = (
            -events_per_job if keep_progress else events_per_job,
            events_per_job * FEED_FACTOR,
            max(1, round(retention_s)),
        )
        """Arguments 2 to 4 of every script that changes a job (lua/prelude.lua)."""
        self.retention_ms = round(retention_s * 1000)
        unconnected = redis.Redis()
        self.scripts: dict[str, Script] = {
            # Each call says which client is to run it.
            path.stem: Script(unconnected, _source(path))
            for path in _LUA.glob("*.lua")
            if path.stem not in _INCLUDED
        }

    def change(self, script: str, ref: JobRef, *args: Any, keys: Sequence[str] = ()) -> list[Any]:
        """Run a script that changes a job; `keys` and `args` follow those of the prelude."""
        return self.run(script, self.keys_of(ref, keys), self.args_of(ref, args))

    def keys_of(self, ref: JobRef, more: Sequence[str] = ()) -> list[str]:
        """The keys of a script that changes this job."""
        return [*self.keys.write_set(ref), *more]

    def args_of(self, ref: JobRef, more: Sequence[Any] = ()) -> list[Any]:
        """The arguments of a script that changes this job."""
        return [ref.id, *self.limits, *more]

    def run(self, script: str, keys: Sequence[str], args: Sequence[Any]) -> list[Any]:
        """Run a script and return its reply."""
        return cast(list[Any], self.scripts[script](keys=keys, args=args, client=self.at(keys[0])))

    def run_kept(
        self, script: str, keys: Sequence[str], args: Sequence[Any], replicas: int, ready: str
    ) -> list[Any]:
        """Run a script like `run`, and wait until so many replicas have what it wrote. `ready` is that key
        of its partition. Raises TooFewReplicas."""
        if not replicas:
            return self.run(script, keys, args)
        # A repeated script writes nothing, and WAIT waits for what its own connection has written.
        then = [("SET", ready, "", "PX", READY_MS), ("WAIT", replicas, REPLICAS_MS)]
        replies = self._run_there(self.at(ready), [(script, keys, args)], False, then)
        for reply in replies:
            if isinstance(reply, Exception):
                raise reply
        if replies[-1] < replicas:
            raise TooFewReplicas(replies[-1], replicas)
        return cast(list[Any], replies[0])

    def each(self, commands: Sequence[tuple[str, tuple[Any, ...]]], *, tolerant: bool = False) -> list[Any]:
        """Send commands, each with a key of it, in one round trip to each server. Returns their replies; if
        `tolerant`, None of a server that cannot be reached."""

        def send(client: redis.Redis, numbers: list[int]) -> list[Any]:
            with client.pipeline(transaction=False) as pipe:
                for n in numbers:
                    pipe.execute_command(*commands[n][1])
                return pipe.execute(raise_on_error=False)

        replies = self._scatter([key for key, _ in commands], send)
        for n, reply in enumerate(replies):
            if tolerant and isinstance(reply, _UNREACHABLE):
                replies[n] = None
            elif isinstance(reply, Exception):
                raise reply
        return replies

    def _scatter(
        self, keys: Sequence[str], send: Callable[[redis.Redis, list[int]], list[Any]]
    ) -> list[Any]:
        """Have `send` called for each server, with the places of its keys; again if keys have moved.

        Returns the replies, in the order of the keys; of a server that cannot be reached the error."""
        replies: list[Any] = [None] * len(keys)
        left = list(range(len(keys)))
        for last_try in (False, False, True):
            moved = []
            for client, places in self.by_server([keys[n] for n in left]):
                numbers = [left[place] for place in places]
                try:
                    found = send(client, numbers)
                except (*_UNREACHABLE, *_MOVED) as error:
                    found = [error] * len(numbers)
                for n, reply in zip(numbers, found, strict=True):
                    replies[n] = reply
                    if isinstance(reply, _MOVED):
                        moved.append(n)
            if not moved or last_try:
                break
            self.servers.refresh()
            left = moved
        return replies

    def by_server(self, keys: Sequence[str]) -> list[tuple[redis.Redis, list[int]]]:
        """Divide keys by the server where they are. Returns each one's client, and the keys' places."""
        found: dict[int, tuple[redis.Redis, list[int]]] = {}
        for n, key in enumerate(keys):
            client = self.at(key)
            found.setdefault(id(client.connection_pool), (client, []))[1].append(n)
        return list(found.values())

    def clients(self) -> list[redis.Redis]:
        """Return a client of each server that has partitions."""
        clocks = [self.keys.clock(partition) for partition in range(self.keys.partitions)]
        return [client for client, _ in self.by_server(clocks)]

    def run_many(self, calls: Sequence[Call], *, together: bool = False) -> list[Any]:
        """Run scripts in one round trip to each server. Returns their replies; for one that failed its
        RedisError. If `together`, those of one partition are one transaction."""

        def send(client: redis.Redis, numbers: list[int]) -> list[Any]:
            parts: dict[int, list[int]] = {}
            for n in numbers:
                parts.setdefault(slot_of(calls[n][1][0]) if together else 0, []).append(n)
            found: dict[int, Any] = {}
            for part in parts.values():
                replies = self._run_there(client, [calls[n] for n in part], together and len(part) > 1)
                found.update(zip(part, replies, strict=True))
            return [found[n] for n in numbers]

        return self._scatter([keys[0] for _, keys, _ in calls], send)

    def _run_there(
        self,
        client: redis.Redis,
        calls: Sequence[Call],
        transaction: bool,
        then: Sequence[tuple[Any, ...]] = (),
    ) -> list[Any]:
        replies: list[Any] = []
        for last_try in (False, True):
            with client.pipeline(transaction=transaction) as pipe:
                for name, keys, args in calls:
                    pipe.evalsha(self.scripts[name].sha, len(keys), *keys, *args)
                for command in then:
                    pipe.execute_command(*command)
                replies = pipe.execute(raise_on_error=False)
            if last_try or not any(isinstance(reply, NoScriptError) for reply in replies):
                break
            for name in {name for name, _, _ in calls}:
                client.script_load(cast(str, self.scripts[name].script))
        return replies

    def ref(self, job_id: str) -> JobRef | None:
        """Return the unchanging facts of a job, or None if there is no such job."""
        if not self.keys.holds(job_id):
            return None
        key = self.keys.job(job_id)
        return _ref_of(job_id, cast(list[bytes | None], self.at(key).hmget(key, _REF)))

    def refs(self, job_ids: Iterable[str]) -> list[JobRef]:
        """Return those of the jobs that there are."""
        asked = [job_id for job_id in job_ids if self.keys.holds(job_id)]
        keys = [self.keys.job(job_id) for job_id in asked]
        held = self.each([(key, ("HMGET", key, *_REF)) for key in keys])
        return [ref for job_id, fields in zip(asked, held, strict=True) if (ref := _ref_of(job_id, fields))]

    def remove(self, ref: JobRef, *, only_if_due: bool) -> bytes:
        """Remove an ended job with its events, index entries and idempotency key (lua/sweep.lua).

        Returns `swept`; or `live`, `gone` or `early` if nothing was removed.
        """
        once = [self.keys.beside(ref.id).once(ref.owner, ref.once)] if ref.once else []
        reply = self.change("sweep", ref, "1" if only_if_due else "", len(once), keys=once)
        return cast(bytes, reply[0])

    def check_writes(self) -> None:
        """Check that at least one server takes writes now, and will keep them: one that does not affects
        its own jobs alone. Raises redis.RedisError, with what a server says, if none does."""
        self.servers.confirm()
        keys = [self.keys.ready(partition) for partition in range(self.keys.partitions)]
        error: redis.RedisError | None = None
        servers = self.by_server(keys)
        for _ in servers:
            # Counted before the answer and taken back after it: if the caller loses patience with this
            # server, the next check begins with another.
            client, numbers = servers[self._writes_checked % len(servers)]
            self._writes_checked += 1
            try:
                client.set(keys[numbers[0]], "", px=READY_MS)
            except redis.RedisError as failed:
                error = failed
            else:
                self._writes_checked -= 1
                return
        if error is not None:
            raise error

    def now_ms(self, key: str) -> int:
        """The time in ms since 1970 where a key is; leases and alarms run on it."""
        seconds, micros = self.at(key).time()
        return int(seconds) * 1000 + int(micros) // 1000


def _ref_of(job_id: str, fields: list[bytes | None]) -> JobRef | None:
    owner, group, queue, once, parent = fields
    if owner is None or group is None or queue is None:
        return None
    return JobRef(
        job_id,
        json.loads(owner),
        queue.decode(),
        json.loads(group),
        (once or b"").decode(),
        json.loads(parent or b"null"),
    )


@cache
def _source(path: Path) -> str:
    """Return the text of a script, led by the prelude if it changes a job."""
    text = path.read_text()
    if path.stem not in _CHANGES_NO_JOB:
        text = (_LUA / "prelude.lua").read_text() + text
    text = re.sub(r"(?m)^--@include (\w+\.lua)$", lambda match: (_LUA / match[1]).read_text(), text)
    text = text.replace("@IDS_PER_MS@", str(IDS_PER_MS))
    return text.replace("@STATES@", _quoted(State)).replace("@DOCUMENT@", _quoted(DOCUMENT))


def _quoted(names: Iterable[str]) -> str:
    return ",".join(f"'{name}'" for name in names)

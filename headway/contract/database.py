"""A client of Redis or Valkey, and the Lua scripts that read and change what it holds.

Each change is one script (lua/*.lua): it checks the fence and the state, changes the job, appends the
event and publishes it. A script that is repeated because its reply was lost changes nothing more, so a
client may retry any of them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, cast

import redis
from redis.commands.core import Script
from redis.exceptions import NoScriptError

from headway.contract.keys import JobRef, Keys
from headway.contract.records import DOCUMENT
from headway.contract.states import State

FEED_FACTOR = 10
"""A feed keeps this many times the events of a job."""

READY_MS = 1000
"""For which a server keeps what is written to see whether it takes writes."""

Call = tuple[str, Sequence[str], Sequence[Any]]
"""A script's name, its keys and its arguments."""

_LUA = Path(__file__).parent / "lua"
_CHANGES_NO_JOB = {
    *("read", "read_feed", "snapshot_feed", "list", "next", "watch", "group"),
    *("webhook_take", "webhook_settle", "webhook_rotate"),
}
_INCLUDED = {"prelude", "clock", "tally", "webhooks", "make"}


class Database:
    """A client, the names of the keys, and the scripts. Everything that reads or writes jobs shares one."""

    def __init__(
        self,
        client: redis.Redis,
        keys: Keys,
        *,
        events_per_job: int = 2000,
        retention_s: float = 7 * 86_400,
    ) -> None:
        self.redis = client
        self.keys = keys
        self.limits = (events_per_job, events_per_job * FEED_FACTOR, max(1, round(retention_s)))
        """Arguments 2 to 4 of every script that changes a job (lua/prelude.lua)."""
        self.retention_ms = round(retention_s * 1000)
        self.scripts: dict[str, Script] = {
            path.stem: client.register_script(_source(path))
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
        return cast(list[Any], self.scripts[script](keys=keys, args=args))

    def run_many(self, calls: Sequence[Call]) -> list[Any]:
        """Run scripts in one round trip, not as one transaction. Returns their
        replies; for one that failed its ResponseError."""
        replies: list[Any] = []
        for last_try in (False, True):
            with self.redis.pipeline(transaction=False) as pipe:
                for name, keys, args in calls:
                    pipe.evalsha(self.scripts[name].sha, len(keys), *keys, *args)
                replies = pipe.execute(raise_on_error=False)
            if last_try or not any(isinstance(reply, NoScriptError) for reply in replies):
                break
            for name in {name for name, _, _ in calls}:
                self.redis.script_load(cast(str, self.scripts[name].script))
        return replies

    def ref(self, job_id: str) -> JobRef | None:
        """Return the unchanging facts of a job, or None if there is no such job."""
        if not self.keys.holds(job_id):
            return None
        owner, group, queue, once, parent = cast(
            list[bytes | None],
            self.redis.hmget(self.keys.job(job_id), ["owner", "group", "_queue", "_once", "parent"]),
        )
        if owner is None or group is None or queue is None:
            return None
        own = json.loads(group)
        family = json.loads(parent or b"null")
        return JobRef(
            job_id,
            json.loads(owner),
            queue.decode(),
            own,
            (once or b"").decode(),
            None if family == own else family,
        )

    def remove(self, ref: JobRef, *, only_if_due: bool) -> bytes:
        """Remove an ended job with its events, index entries and idempotency key (lua/sweep.lua).

        Returns `swept`; or `live`, `gone` or `early` if nothing was removed.
        """
        once = [self.keys.once(ref.owner, ref.once)] if ref.once else []
        reply = self.change("sweep", ref, "1" if only_if_due else "", len(once), keys=once)
        return cast(bytes, reply[0])

    def check_writes(self) -> None:
        """Return if the server takes writes now. Raises redis.RedisError, with what it says otherwise."""
        self.redis.set(self.keys.ready(0), "", px=READY_MS)

    def now_ms(self) -> int:
        """The server's time in ms since 1970; leases and alarms run on it."""
        seconds, micros = self.redis.time()
        return int(seconds) * 1000 + int(micros) // 1000


def _source(path: Path) -> str:
    """Return the text of a script, led by the prelude if it changes a job."""
    text = path.read_text()
    if path.stem not in _CHANGES_NO_JOB:
        text = (_LUA / "prelude.lua").read_text() + text
    text = re.sub(r"(?m)^--@include (\w+\.lua)$", lambda match: (_LUA / match[1]).read_text(), text)
    return text.replace("@STATES@", _quoted(State)).replace("@DOCUMENT@", _quoted(DOCUMENT))


def _quoted(names: Iterable[str]) -> str:
    return ",".join(f"'{name}'" for name in names)

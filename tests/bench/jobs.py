"""Many running jobs at once: numbered ids, made and claimed through the real scripts, in pipelines."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import hiredis

from headway.contract.connections import connect
from headway.contract.database import Database
from headway.contract.keys import JobRef, Keys
from headway.contract.new_job import NewJob
from headway.contract.records import Job
from headway.contract.store import Claim, JobStore

OWNER = "local"
LEASE_S = 86_400
"""The bench has no worker that renews: no alarm must go off."""
CHUNK = 500


class Connection:
    """A bare connection to Redis: commands in a batch, replies in a list, nothing retried."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._reader = hiredis.Reader()

    def call(self, commands: list[tuple[Any, ...]]) -> list[Any]:
        """Raises hiredis.ReplyError for a command that failed."""
        self._socket.sendall(b"".join(map(hiredis.pack_command, commands)))
        replies: list[Any] = []
        while len(replies) < len(commands):
            reply = self._reader.gets()
            if reply is False:
                data = self._socket.recv(1 << 18)
                if not data:
                    raise ConnectionError("Redis closed the connection")
                self._reader.feed(data)
                continue
            if isinstance(reply, hiredis.ReplyError):
                raise reply
            replies.append(reply)
        return replies


class PipelinedDatabase(Database):
    """A database whose changes are collected instead of sent; `flush` sends them and returns the replies.

    The commands are exactly those that Database builds: the same scripts, keys and arguments.
    """

    def __init__(self, port: int, keys: Keys, events_per_job: int) -> None:
        super().__init__(connect(f"redis://127.0.0.1:{port}/0"), keys, events_per_job=events_per_job)
        self._commands: list[tuple[Any, ...]] = []
        self._connection = Connection(port)
        self._sha = {name: self.redis.script_load(s.script) for name, s in self.scripts.items()}
        self._write_sets: dict[str, list[str]] = {}

    def change(self, script: str, ref: JobRef, *args: Any, keys: Any = ()) -> list[Any]:
        written = self._write_sets.get(ref.id)
        if written is None:
            written = self._write_sets[ref.id] = self.keys.write_set(ref)
        names = [*written, *keys]
        parts = (*names, ref.id, *self.limits, *args)
        self._commands.append(("EVALSHA", self._sha[script], len(names), *parts))
        return [b"ok", b""]

    def flush(self) -> list[Any]:
        commands, self._commands = self._commands, []
        return self._connection.call(commands)


class PipelinedStore(JobStore):
    """A JobStore of such a database."""

    def __init__(self, port: int, keys: Keys, events_per_job: int = 2000) -> None:
        database = PipelinedDatabase(port, keys, events_per_job)
        super().__init__(database)
        self.flush = database.flush


@dataclass(frozen=True)
class NumberedKeys(Keys):
    """Keys whose new jobs have the ids that are set here, one after the other."""

    ids: Iterator[str] = field(default_factory=lambda: iter(()))

    def new_job_id(self, owner: str) -> str:
        return next(self.ids)


@dataclass(frozen=True, slots=True)
class Jobs:
    """Running jobs that the bench holds. `path` has a %d for the number of a job."""

    port: int
    stem: str
    fences: list[str]

    @property
    def path(self) -> str:
        return f"/jobs/{self.stem}%06d/events"

    def id(self, number: int) -> str:
        return f"{self.stem}{number:06d}"

    def claims(self) -> list[Claim]:
        return [
            Claim(JobRef(self.id(i), OWNER, "bench"), fence, cast(Job, None), "")
            for i, fence in enumerate(self.fences)
        ]

    def save(self, path: Path) -> Path:
        path.write_text(json.dumps({"port": self.port, "stem": self.stem, "fences": self.fences}))
        return path

    @classmethod
    def load(cls, path: Path) -> Jobs:
        return cls(**json.loads(path.read_text()))


def make(port: int, count: int, name: str = "bench") -> Jobs:
    """So many jobs, claimed. `name` keeps apart what is made on one server, at most 15 letters."""
    stem = f"0-{name:-<16}"
    keys = NumberedKeys(ids=(f"{stem}{i:06d}" for i in range(count)))
    store = PipelinedStore(port, keys)
    new = NewJob(owner=OWNER, type="bench", params={}, queue="bench", max_attempts=1)
    fences: list[str] = []
    for start in range(0, count, CHUNK):
        numbers = range(start, min(start + CHUNK, count))
        for _ in numbers:
            store.create(new)
        store.flush()
        for i in numbers:
            ref = JobRef(f"{stem}{i:06d}", OWNER, "bench")
            store.claim(ref, token="bench", lease_s=LEASE_S, worker="bench")
        for reply in store.flush():
            assert reply[0] == b"claimed", reply
            fences.append(reply[1].decode())
    store.redis.close()
    return Jobs(port, stem, fences)

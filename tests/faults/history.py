"""What happened in a run, as each party saw it. The checker reads nothing else.

The submitter, the readers and the watch note what they see as they see it, outside of the store; what
the store, REST, the logs and the disk say is collected when all is over. Times are seconds of the
machine's wall clock, as in events.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from pydantic import TypeAdapter

from headway.contract.events import Event


@dataclass
class Answer:
    """What came of one try at a request. `status` is 0 if no answer came."""

    status: int
    job: str | None = None


@dataclass
class Submission:
    """One Idempotency-Key and the tries under it. The job carries the key as a label, too, so that a job
    nobody was told of can be traced to its submission."""

    key: str
    body: dict[str, Any]
    answers: list[Answer] = field(default_factory=list)
    canceled: bool = False
    """Whether anybody asked for its end."""


@dataclass
class Said:
    """A message to a job, under one Idempotency-Key, and the statuses of the tries."""

    job: str
    text: str
    answers: list[int] = field(default_factory=list)


@dataclass
class Stored:
    """An event as the store holds it. `kept` is the one before it, if what was between them, up to `prev`,
    is progress that the job has not kept after its end."""

    id: str
    prev: str
    event: str
    data: dict[str, Any]
    kept: str | None = None

    @classmethod
    def of(cls, event: Event) -> Self:
        kept = None if event.kept is None else str(event.kept)
        return cls(str(event.id), str(event.prev), event.type, json.loads(event.data), kept)


@dataclass
class Delivered:
    """An event as a reader got it: on its connection number so and so. `event` is "cursor" for a frame
    that has an id and nothing else."""

    connection: int
    id: str
    event: str
    data: Any


@dataclass
class Connection:
    """One request for a stream: the cursor it sent (None: none), the status (0: no answer), when it was
    told to come back, and how it broke."""

    cursor: str | None
    status: int
    retry_ms: int | None = None
    error: str = ""


@dataclass
class Reading:
    """Everything one reader was given. `jobs` is what it asked for: one job, several, or (None) a feed,
    of `group` unless that is None. `done` says that it saw its end before it was stopped."""

    name: str
    jobs: list[str] | None
    group: str | None
    connections: list[Connection] = field(default_factory=list)
    events: list[Delivered] = field(default_factory=list)
    done: bool = False
    foreign: bool = False
    """Whether it began with a cursor that is none of its stream's, and so has a reset coming."""


@dataclass
class Attempt:
    """What a worker's log says of one attempt. `outcome` is None if nothing was said any more; `void`:
    the store refused it."""

    job: str
    attempt: int
    pid: int
    outcome: str | None = None
    void: bool = False


@dataclass
class Held:
    """A queue or a job type (`kind`) that is known to be paused from `since` to `until`: the pause had
    been answered, and its end was not asked for yet."""

    kind: str
    name: str
    since: float
    until: float


@dataclass
class Stop:
    """A worker that was told to end. `status` is None if it has not ended; `disturbed`: something else was
    done to it meanwhile, or to the store."""

    pids: list[int]
    """Its own, and those of its pool's processes."""
    at: float
    status: int | None = None
    seconds: float = 0.0
    """After which it ended."""
    disturbed: bool = False


@dataclass
class Encoder:
    """A process that works on an attempt's files. `held` says that the process it answers to was paused."""

    pid: int
    job: str
    attempt: int
    held: bool


@dataclass
class Waiting:
    """A job that waited, and nothing forbade to start it. `attempt` is how many it has had."""

    job: str
    attempt: int


@dataclass
class Look:
    """What the watch saw at one moment. `calm` says that the store and a web process were up for a while,
    `free` that a worker that was up for a while had a process to spare."""

    at: float
    calm: bool
    free: bool
    waiting: list[Waiting]
    running: dict[str, int]
    """Job → attempt."""
    encoders: list[Encoder]


@dataclass
class File:
    job: str
    attempt: int
    name: str
    size: int


@dataclass
class History:
    submissions: list[Submission] = field(default_factory=list)
    said: list[Said] = field(default_factory=list)
    events: dict[str, list[Stored]] = field(default_factory=dict)
    """Job → its stream. Nothing was trimmed: the cap is larger than any job of a run."""
    documents: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Job → what GET /jobs/{id} says."""
    feed: list[Stored] = field(default_factory=list)
    groups: dict[str, list[Stored]] = field(default_factory=dict)
    readings: list[Reading] = field(default_factory=list)
    attempts: list[Attempt] = field(default_factory=list)
    looks: list[Look] = field(default_factory=list)
    files: list[File] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    """What was still in the work directory, and which encoders still ran, when all jobs had ended."""
    faults: list[str] = field(default_factory=list)
    holds: list[Held] = field(default_factory=list)
    stops: list[Stop] = field(default_factory=list)
    owner: str = "local"
    """Whose jobs these are."""
    lossy: bool = False
    """Whether the store may have lost what it had accepted, as in a failover."""

    def save(self, path: Path) -> None:
        path.write_bytes(_HISTORY.dump_json(self, indent=1))

    @classmethod
    def load(cls, path: Path) -> History:
        return _HISTORY.validate_json(path.read_bytes())


_HISTORY = TypeAdapter(History)

"""The records of a job, and their size limits.

A job is stored as a hash whose values are the JSON texts of the document's fields. Joining them is
the whole of its encoding, so Lua (in `end`) and Python (over HTTP) cannot disagree about a job.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from headway.contract.encoding import clip, dumps
from headway.contract.states import ErrorCode, State

MAX_LOG_CHARS = 8_192
"""A longer log message is cut, and says so."""
MAX_MESSAGE_CHARS = 500
"""The same for the one line beside a bar."""
MAX_ERROR_CHARS = 4_096
"""The same for `error.message` and for the reason of a state."""
MAX_DATA_BYTES = 16_384
"""Encoded size of progress.data; more is refused with RecordTooLarge."""
MAX_RESULT_BYTES = 65_536
"""Encoded size of a job's result; more is refused with RecordTooLarge."""
MAX_PARAMS_BYTES = 65_536
"""Encoded size of a job's parameters; more is refused with RecordTooLarge."""
HIGHEST_FRACTION = 0.999
"""The highest fraction of a job that has not succeeded: 1 is for success."""
ARTIFACT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", re.ASCII)
MAX_LABELS = 32
MAX_LABEL_CHARS = 128
"""Most characters of the name of a label, a group or a message."""
VISIBLE = r"^[^\x00-\x1f\x7f-\x9f\xad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff]*$"
"""Text that is what it looks like: without control characters, those that change the direction of
writing, and those without width except the joiners that some scripts and emoji need."""
MAX_LABEL_VALUE_CHARS = 256
MAX_UNIQUE_CHARS = 256
"""Most characters of a unique key."""
USUAL_PRIORITY = 4
"""The priority, of 0 to 9, of a job that names none; lua/line.lua has it too."""
MAX_MESSAGE_BYTES = 65_536
"""Encoded size of a message's data; more is refused with RecordTooLarge."""
MAX_CHECKPOINT_BYTES = 65_536
"""Encoded size of what an attempt leaves for the next; more is refused with RecordTooLarge."""


def is_name(text: str) -> bool:
    """Return whether it can be the name of a group, a label or a message."""
    return 0 < len(text) <= MAX_LABEL_CHARS and re.fullmatch(VISIBLE, text) is not None


class Record(BaseModel):
    model_config = ConfigDict(frozen=True)


class StageProgress(Record):
    name: str
    index: int
    count: int
    fraction: float | None = None


class Progress(Record):
    """How far a job is. `fraction` is 0…1, null while the total is unknown, 1 only when it succeeded."""

    fraction: float | None = None
    current: float | None = None
    total: float | None = None
    unit: str | None = None
    message: str | None = None
    stage: StageProgress | None = None
    rate: float | None = None
    """Units a second."""
    eta_s: float | None = None
    """Seconds until the end; absent until it means something."""
    data: dict[str, Any] = {}


class Artifact(Record):
    name: str
    media_type: str
    size: int
    url: str
    attempt: int
    """The attempt that made it."""


class JobError(Record):
    code: ErrorCode
    message: str


class Links(Record):
    self: str
    events: str


class Unique(Record):
    """The key of which an owner has one job: `while` that is `live`, or only while it is `queued`."""

    model_config = ConfigDict(frozen=True, populate_by_name=True, extra="forbid")

    key: Annotated[str, StringConstraints(min_length=1, max_length=MAX_UNIQUE_CHARS)]
    while_: Literal["queued", "live"] = Field("live", alias="while")


class Job(Record):
    """A job as every reader sees it. Times are RFC 3339 in UTC with milliseconds."""

    id: str
    type: str
    state: State
    owner: str
    group: str | None
    labels: dict[str, str]
    params: dict[str, Any]
    attempt: int
    max_attempts: int
    timeout_s: float | None
    size: float | None
    """How large it is beside the other jobs of its group; null: it is older than sizes, and counts as 1."""
    progress: Progress | None
    result: Any
    error: JobError | None
    artifacts: list[Artifact]
    cancel_requested: bool
    retry_of: str | None
    parent: str | None
    """The job whose task submitted it."""
    priority: int | None
    """0 to 9, the highest first; null: it is older than priorities, and counts as 4."""
    run_at: str | None
    """Before this it does not begin."""
    expires_at: str | None
    """If it has not begun by then, it fails."""
    unique: Unique | None
    created_at: str
    started_at: str | None
    finished_at: str | None
    updated_at: str
    last_event_id: str
    links: Links

    @property
    def ended(self) -> bool:
        return self.finished_at is not None


class Group(Record):
    """A group of jobs as every reader sees it."""

    group: str
    title: str | None
    counts: dict[State, int]
    expected: int | None
    """How many jobs it will have; null: nobody has said, and it does not end."""
    fraction: float | None
    """How much of all its jobs is done, each by its size; 1 only when none lives and none is expected."""
    rate: float | None
    """Sizes per second."""
    eta_s: float | None
    started_at: str | None
    ended_at: str | None
    state: Literal["queued", "running", "ended"]


DOCUMENT = tuple(Job.model_fields)
"""The fields of a job's document, in order."""
_DOCUMENT_KEYS = [(name.encode(), f'"{name}":'.encode()) for name in DOCUMENT]


def document(fields: Mapping[bytes, bytes]) -> bytes:
    """The JSON text of the job that a hash holds."""
    return b"{" + b",".join(key + fields.get(name, b"null") for name, key in _DOCUMENT_KEYS) + b"}"


def error_json(code: ErrorCode, message: str) -> str:
    """The text of a job's `error` field; a long message is cut."""
    return dumps({"code": code, "message": clip(message, MAX_ERROR_CHARS)})


CANCELED = error_json(ErrorCode.CANCELED, "the job was canceled")
"""The `error` of every job that was canceled."""


def artifacts_json(artifacts: Iterable[Artifact]) -> str:
    """The text of a job's `artifacts` field."""
    return dumps([artifact.model_dump() for artifact in artifacts])

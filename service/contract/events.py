"""Event and job records, their encoding and their size limits.

A job is stored as a hash whose values are the JSON texts of the document's fields. Joining them is
the whole of its encoding, so Lua (in `end`) and Python (over HTTP) cannot disagree about a job.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict

from service.contract.states import ErrorCode, State

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

MAX_CHECKPOINT_BYTES = 65_536
"""Encoded size of what an attempt leaves for the next; more is refused with RecordTooLarge."""


class RecordError(ValueError):
    """Something cannot be stored as a record."""


class RecordTooLarge(RecordError):
    """A value is larger than its limit above."""


class BadEventId(ValueError):
    """A text is not an event id."""


_EVENT_ID = re.compile(r"([0-9]{1,20})-([0-9]{1,20})", re.ASCII)


class EventId(NamedTuple):
    """`<ms>-<n>` from the one clock of a partition; ids of all its jobs compare."""

    ms: int
    n: int

    @classmethod
    def parse(cls, text: str) -> EventId:
        """Raises BadEventId. `0` stands for the time before the first event."""
        if text == "0":
            return ZERO
        match = _EVENT_ID.fullmatch(text)
        if match is None:
            raise BadEventId(f"not an event id: {text[:64]!r}")
        return cls(int(match[1]), int(match[2]))

    @classmethod
    def of(cls, raw: bytes) -> EventId:
        """Decode an id that the store wrote."""
        ms, _, n = raw.partition(b"-")
        return cls(int(ms), int(n))

    def __str__(self) -> str:
        return f"{self.ms}-{self.n}"


ZERO = EventId(0, 0)


class EventType(StrEnum):
    SNAPSHOT = "snapshot"
    STATE = "state"
    PROGRESS = "progress"
    LOG = "log"
    ARTIFACT = "artifact"
    END = "end"
    RESET = "reset"
    SHUTDOWN = "shutdown"


@dataclass(frozen=True, slots=True)
class Event:
    """One stored event. `prev` is the id of the event before it in the same stream."""

    id: EventId
    prev: EventId
    type: str
    data: bytes

    @classmethod
    def of(cls, entry: list[Any]) -> Event:
        """Decode a stream entry as XRANGE returns it."""
        raw_id, pairs = entry
        fields = dict(zip(pairs[::2], pairs[1::2], strict=True))
        return cls(EventId.of(raw_id), EventId.of(fields[b"p"]), fields[b"e"].decode(), fields[b"d"])


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
    progress: Progress | None
    result: Any
    error: JobError | None
    artifacts: list[Artifact]
    cancel_requested: bool
    retry_of: str | None
    created_at: str
    started_at: str | None
    finished_at: str | None
    updated_at: str
    last_event_id: str
    links: Links

    @property
    def ended(self) -> bool:
        return self.finished_at is not None


DOCUMENT = tuple(Job.model_fields)
"""The fields of a job's document, in order."""

_DOCUMENT_KEYS = [(name.encode(), f'"{name}":'.encode()) for name in DOCUMENT]


def document(fields: Mapping[bytes, bytes]) -> bytes:
    """The JSON text of the job that a hash holds."""
    return b"{" + b",".join(key + fields.get(name, b"null") for name, key in _DOCUMENT_KEYS) + b"}"


def dumps(value: Any, limit: int | None = None, what: str = "value") -> str:
    """Compact JSON on one line. Raises RecordError for what is no JSON (NaN among it), RecordTooLarge
    for more than `limit` bytes of it."""
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        size = len(text.encode())
    except (TypeError, ValueError, RecursionError) as error:
        raise RecordError(f"{what} cannot be written as JSON: {error}") from None
    if limit is not None and size > limit:
        raise RecordTooLarge(f"{what} takes {size} bytes, more than {limit}")
    return text


def rfc3339(ms: float) -> str:
    """Milliseconds since 1970 as all our times are written: UTC, with milliseconds."""
    at = datetime.fromtimestamp(ms / 1000, UTC)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def clip(text: str, limit: int) -> str:
    """At most `limit` characters, the cut made visible; lone surrogates replaced, so that it encodes."""
    text = text.encode("utf-8", "replace").decode()
    return text if len(text) <= limit else text[: limit - 1] + "…"


class Published(NamedTuple):
    """An event as it goes over a channel: what came before it there, and its finished SSE frame."""

    prev: EventId
    id: EventId
    type: bytes
    frame: bytes

    @classmethod
    def of(cls, raw: bytes) -> Published:
        """Decode a message of lua/prelude.lua's emit: `<prev> <type>\\nid: <id>\\n…`."""
        head, _, frame = raw.partition(b"\n")
        prev, _, event_type = head.partition(b" ")
        return cls(EventId.of(prev), EventId.of(frame[4 : frame.index(b"\n")]), event_type, frame)

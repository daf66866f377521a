"""The events of a stream as models, for the OpenAPI document. Tests hold real events against them.

The store writes the events (headway/contract/lua/prelude.lua); nothing here takes part in that.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, RootModel

from headway.contract.records import Group, Job, Progress
from headway.contract.states import State

EVENT_ID = r"^[0-9]{1,20}-[0-9]{1,20}$"
Id = Annotated[str, Field(pattern=EVENT_ID)]
ResetReason = Literal["cursor_trimmed", "cursor_unknown", "cursor_ahead", "cursor_invalid", "events_missed"]


class Happening(BaseModel):
    """What the data of a job's events have in common. `at` is RFC 3339 in UTC."""

    job: str
    attempt: int
    at: str


class StateChange(Happening):
    """The job changed its state."""

    state: State
    cancel_requested: bool | None = None
    reason: str | None = None


class ProgressReport(Progress, Happening):
    """How far the job is."""


class LogLine(Happening):
    """A line that the task wrote."""

    level: str
    message: str


class NewMessage(Happening):
    """What the task, or somebody outside, has to say."""

    sender: Literal["task", "client"] = Field(alias="from")
    name: str
    data: Any


class GroupEvent(BaseModel):
    """A group's jobs have changed. On the feed of a group, and not kept."""

    id: Id
    event: Literal["group"]
    data: Group


class GroupEndEvent(BaseModel):
    """All jobs that were expected of the group have ended."""

    id: Id
    event: Literal["group-end"]
    data: Group


class NewArtifact(Happening):
    """A file that is there now."""

    name: str
    media_type: str
    size: int
    url: str


class CurrentState(BaseModel):
    """The cursor cannot be resumed from; this is the state. `job` on one job's stream, else `jobs`."""

    reason: ResetReason
    job: Job | None = None
    jobs: list[Job] | None = None


class JobReset(BaseModel):
    """The same for a reader that polls one job."""

    reason: ResetReason
    job: Job


class Heartbeat(BaseModel):
    """`behind`: what was sent so far may be out of date."""

    at: str
    interval_s: float
    behind: bool = False


class Shutdown(BaseModel):
    """The client comes back after `retry_ms` milliseconds."""

    retry_ms: int


class SnapshotEvent(BaseModel):
    """The whole job, for a reader without a cursor."""

    id: Id
    event: Literal["snapshot"]
    data: Job


class StateEvent(BaseModel):
    id: Id
    event: Literal["state"]
    data: StateChange


class ProgressEvent(BaseModel):
    id: Id
    event: Literal["progress"]
    data: ProgressReport


class LogEvent(BaseModel):
    id: Id
    event: Literal["log"]
    data: LogLine


class MessageEvent(BaseModel):
    id: Id
    event: Literal["message"]
    data: NewMessage


class ArtifactEvent(BaseModel):
    id: Id
    event: Literal["artifact"]
    data: NewArtifact


class EndEvent(BaseModel):
    """The job, ended. Nothing comes after it."""

    id: Id
    event: Literal["end"]
    data: Job


class ResetEvent(BaseModel):
    """What the reader holds is out of date; this is the state."""

    id: Id
    event: Literal["reset"]
    data: CurrentState


class HeartbeatEvent(BaseModel):
    """Sent with `?heartbeat=event`, when nothing else is."""

    event: Literal["heartbeat"]
    data: Heartbeat


class ShutdownEvent(BaseModel):
    """The server is going; reconnect."""

    event: Literal["shutdown"]
    data: Shutdown


StoredEvents = StateEvent | ProgressEvent | LogEvent | MessageEvent | ArtifactEvent | EndEvent


class JobEvent(RootModel[Annotated[StoredEvents, Field(discriminator="event")]]):
    """An event of a job as it is kept: what a poll returns."""


class StreamEvent(
    RootModel[
        Annotated[
            StoredEvents
            | GroupEvent
            | GroupEndEvent
            | SnapshotEvent
            | ResetEvent
            | HeartbeatEvent
            | ShutdownEvent,
            Field(discriminator="event"),
        ]
    ]
):
    """An event of a stream: the fields `id` and `event`, and `data` decoded from JSON."""


class EventPage(BaseModel):
    """Events after a cursor. Ask again with `after` set to `cursor`. With `reset` there are no events:
    forget what you hold, and take its job."""

    events: list[JobEvent]
    cursor: str
    reset: JobReset | None

"""A job, and what becomes of it when an event happens to it: values in, a value out.

`tests/web/cases/*.json` says what this must do, for every language that has such a reducer.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NotRequired, TypedDict

LIVE = frozenset({"queued", "running", "retrying", "waiting"})


class Artifact(TypedDict):
    name: str
    media_type: str
    size: int
    """Bytes."""
    url: str
    attempt: int


class Job(TypedDict):
    """The document of a job, as GET /jobs/{id} answers. docs/protocol.md has the fields' meaning."""

    id: str
    type: str
    state: str
    owner: str
    group: str | None
    labels: dict[str, str]
    params: dict[str, Any]
    attempt: int
    max_attempts: int
    timeout_s: float | None
    size: float | None
    """Beside the other jobs of its group; null: it is older than sizes, and counts as 1."""
    progress: dict[str, Any] | None
    result: Any
    error: dict[str, str] | None
    artifacts: list[Artifact]
    cancel_requested: bool
    retry_of: str | None
    parent: str | None
    """The job whose task submitted it."""
    priority: int | None
    run_at: str | None
    expires_at: str | None
    unique: dict[str, str] | None
    created_at: str
    started_at: str | None
    finished_at: str | None
    updated_at: str
    last_event_id: str
    links: dict[str, str]
    waiting_reason: NotRequired[str | None]
    """Why a job that waits does not start; only in an answer, not in events."""
    children: NotRequired[dict[str, Any] | None]
    """`counts` of the jobs that its task has submitted, by state; only in an answer, not in events."""


class Group(TypedDict):
    """The document of a group, as GET /groups/{group} answers. docs/groups.md has the fields' meaning."""

    group: str
    title: str | None
    counts: dict[str, int]
    """By state."""
    expected: int | None
    fraction: float | None
    rate: float | None
    eta_s: float | None
    started_at: str | None
    ended_at: str | None
    state: str
    """queued, running or ended."""


class JobType(TypedDict):
    name: str
    title: str
    queue: str
    params: dict[str, Any]
    """The JSON Schema of the parameters."""
    alive: bool
    """Whether a worker that serves it is."""


class Upload(TypedDict):
    """`upload:<id>` is the input of a job."""

    id: str
    name: str
    size: int
    media_type: str


class Ticket(TypedDict):
    """`events_url` is the path of the stream of all that it opens, with the ticket in it."""

    ticket: str
    expires_at: str
    events_url: str


class Webhook(TypedDict):
    """The document of a webhook. `url` and `events` are null for that of a host, which submissions name."""

    name: str
    url: str | None
    events: list[str] | None
    created_at: str
    pending: int
    """Jobs of which something waits to be delivered."""
    missed: int
    """Events that were dropped, since too much was waiting."""
    failing_since: str | None
    disabled: str | None
    """`failing` or `gone`: why nothing is sent any more."""
    secret: NotRequired[str]
    """Only in the answer that made it."""


class WebhookSecret(TypedDict):
    secret: str
    previous_until: str | None
    """Until when deliveries have a signature by the secret before, too."""


class Delivery(TypedDict):
    """One try to deliver one event. docs/webhooks.md has the outcomes."""

    id: str
    """The `webhook-id`: the same for each try."""
    job: str
    event_id: str
    event: str
    at: str
    attempt: int
    outcome: str
    status: int | None
    error: str | None
    answer: str | None
    duration_ms: int
    next_at: str | None


@dataclass(frozen=True, slots=True)
class Event:
    """One event of a stream; `id` is the cursor after it."""

    id: str
    event: str
    data: Any

    @property
    def job_id(self) -> str | None:
        """The job it is about; None for a `reset` of many."""
        if not isinstance(self.data, dict):
            return None
        found = self.data.get("id" if self.event in ("snapshot", "end") else "job")
        if isinstance(found, dict):  # a `reset` of one job
            found = found.get("id")
        return found if isinstance(found, str) else None


_EVENT_ID = re.compile(r"([0-9]{1,20})-([0-9]{1,20})")


def is_event_id(text: str) -> bool:
    """Whether it is `<ms>-<n>`."""
    return _EVENT_ID.fullmatch(text) is not None


def order(event_id: str | None) -> tuple[int, int]:
    """Return the sort key of an event id; (0, 0), the time before the first event, for what is no id."""
    match = _EVENT_ID.fullmatch(event_id or "")
    return (int(match[1]), int(match[2])) if match else (0, 0)


def is_live(job: Job) -> bool:
    """Whether something may still happen to it."""
    return job["state"] in LIVE


def newer(held: Job | None, found: Job) -> Job:
    """Return which of two documents of one job to keep. A document that was read while events came in may
    be older than what those events made of the job."""
    return held if held and order(found["last_event_id"]) < order(held["last_event_id"]) else found


def reduce(job: Job | None, event: Event) -> Job | None:
    """The job after the event; the very same object if the event changes nothing: it is known already,
    the job has ended, or the event is of a kind that is not known here.

    Without a job only an event that carries a whole one (`snapshot`, `end`, `reset`) makes one. The job
    that is given is left as it is.
    """
    data = event.data
    if event.event in ("snapshot", "end"):
        return newer(job, data)
    if event.event == "reset":
        # What is held is out of date, even if its id says otherwise: the clock may have begun anew.
        return data.get("job") or job
    change = _CHANGES.get(event.event)
    if not job or not change or not is_live(job) or order(event.id) <= order(job["last_event_id"]):
        return job
    changed: Any = {**job, **change(job, data), "last_event_id": event.id, "updated_at": data["at"]}
    after: Job = changed
    return after


def _state(job: Job, data: Mapping[str, Any]) -> dict[str, Any]:
    state, begins = data["state"], data["attempt"] > job["attempt"]
    # A job that runs and is told again that it runs, in the same attempt, was asked to stop.
    asked = state == job["state"] == "running" and not begins
    return {
        "state": state,
        "attempt": data["attempt"],
        "started_at": (job["started_at"] or data["at"]) if state == "running" else job["started_at"],
        # Each attempt starts from nothing. What the last one had reached stays visible until then.
        "progress": None if begins else job["progress"],
        "cancel_requested": job["cancel_requested"] or asked,
    }


def _progress(_: Job, data: Mapping[str, Any]) -> dict[str, Any]:
    progress = {name: value for name, value in data.items() if name not in ("job", "attempt", "at")}
    return {"attempt": data["attempt"], "progress": progress}


def _nothing(_: Job, __: Mapping[str, Any]) -> dict[str, Any]:
    return {}


def _artifact(job: Job, data: Mapping[str, Any]) -> dict[str, Any]:
    artifact: Any = {name: value for name, value in data.items() if name not in ("job", "at")}
    artifacts = list(job["artifacts"])
    for place, one in enumerate(artifacts):
        if one["name"] == artifact["name"]:
            artifacts[place] = artifact
            break
    else:
        artifacts.append(artifact)
    return {"artifacts": artifacts}


_CHANGES: dict[str, Callable[[Job, Mapping[str, Any]], dict[str, Any]]] = {
    "state": _state,
    "progress": _progress,
    "log": _nothing,
    "message": _nothing,
    "artifact": _artifact,
}

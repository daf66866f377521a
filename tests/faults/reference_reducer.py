"""What a job becomes by its events: values in, a value out. From the submission and the events alone it
makes the whole document, so that it can be compared with what REST says."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tests.faults.history import Stored

DEFAULTS: dict[str, Any] = {
    "group": None,
    "labels": {},
    "params": {},
    "timeout_s": 86_400,
    "size": 1,
    "priority": 4,
    "run_at": None,
    "expires_at": None,
    "unique": None,
}


def begin(job_id: str, body: dict[str, Any]) -> dict[str, Any]:
    """The job before its first event."""
    return {
        "id": job_id,
        "owner": "local",
        **DEFAULTS,
        **body,
        "state": None,
        "attempt": 0,
        "progress": None,
        "result": None,
        "error": None,
        "artifacts": [],
        "cancel_requested": False,
        "retry_of": None,
        "parent": None,
        "started_at": None,
        "finished_at": None,
        "links": {"self": f"/jobs/{job_id}", "events": f"/jobs/{job_id}/events"},
    }


def step(job: dict[str, Any], event: Stored) -> dict[str, Any]:
    """The job after the event."""
    data = event.data
    if event.event == "end":
        return data
    after = {**job, "last_event_id": event.id, "updated_at": data["at"]}
    match event.event:
        case "state":
            if data["attempt"] > job["attempt"]:
                after["progress"] = None
            after["attempt"] = data["attempt"]
            after["state"] = data["state"]
            if data["state"] == "queued":
                after["created_at"] = data["at"]
            if data["state"] == "running" and job["started_at"] is None:
                after["started_at"] = data["at"]
            if data.get("cancel_requested"):
                after["cancel_requested"] = True
        case "progress":
            after["progress"] = {k: v for k, v in data.items() if k not in ("job", "attempt", "at")}
        case "artifact":
            made = {k: v for k, v in data.items() if k not in ("job", "at")}
            others = [a for a in job["artifacts"] if a["name"] != made["name"]]
            after["artifacts"] = [*others, made]
    return after


def replay(job: dict[str, Any], events: Iterable[Stored]) -> dict[str, Any]:
    for event in events:
        job = step(job, event)
    return job

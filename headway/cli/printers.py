"""Printers: a line for each event, where there is no terminal to redraw, and for programs."""

from __future__ import annotations

import json

from headway.cli.one_line import sanitized
from headway.cli.text import (
    artifact_line,
    group_line,
    job_line,
    log_line,
    message_line,
    missed_line,
    percent,
)
from headway.cli.tracker import JobTracker
from headway.client import Event, Job


class Lines:
    """Lines for people. Progress is printed when the percentage changes; no job repeats its last line."""

    def __init__(self, tracker: JobTracker) -> None:
        self._tracker = tracker
        self._percent: dict[str, str] = {}
        self._said: dict[str, str] = {}

    def show(self, event: Event, changed: list[Job]) -> None:
        if event.event == "log":
            print(sanitized(event.data["job"]), log_line(event), flush=True)
        elif event.event == "message":
            print(message_line(event), flush=True)
        elif event.event == "group-end":
            print(group_line(event.data), flush=True)
        elif event.event == "artifact":
            print(artifact_line(event), flush=True)
        else:
            if event.event == "reset":
                print(missed_line(event), flush=True)
            for job in changed:
                self._say(job, progress=event.event == "progress")

    def _say(self, job: Job, *, progress: bool) -> None:
        job_id, now = job["id"], f"{job['attempt']} {percent(job)}"
        text = job_line(job, self._tracker.why.get(job_id))
        if text != self._said.get(job_id) and not (progress and now == self._percent.get(job_id)):
            print(text, flush=True)
            self._said[job_id], self._percent[job_id] = text, now


class JsonLines:
    """Each event as it came, one JSON object per line."""

    def show(self, event: Event, _: list[Job]) -> None:
        print(json.dumps({"id": event.id, "event": event.event, "data": event.data}), flush=True)

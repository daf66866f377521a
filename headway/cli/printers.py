"""A line for each thing that happens: where no terminal redraws, and for programs."""

from __future__ import annotations

import json

from headway.cli.text import artifact_line, line, log_line, missed_line, percent, shown
from headway.cli.tracker import Board
from headway.client import Event, Job


class Lines:
    """What a person reads in a file. Progress is a line when its percent is another; no line is said
    twice in a row of a job."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self._percent: dict[str, str] = {}
        self._said: dict[str, str] = {}

    def show(self, event: Event, changed: list[Job]) -> None:
        if event.event == "log":
            print(shown(event.data["job"]), log_line(event), flush=True)
        elif event.event == "artifact":
            print(artifact_line(event), flush=True)
        else:
            if event.event == "reset":
                print(missed_line(event), flush=True)
            for job in changed:
                self._say(job, progress=event.event == "progress")

    def _say(self, job: Job, *, progress: bool) -> None:
        job_id, now = job["id"], f"{job['attempt']} {percent(job)}"
        text = line(job, self._board.why.get(job_id))
        if text != self._said.get(job_id) and not (progress and now == self._percent.get(job_id)):
            print(text, flush=True)
            self._said[job_id], self._percent[job_id] = text, now


class JsonLines:
    """Each event as it came, one JSON object a line."""

    def show(self, event: Event, _: list[Job]) -> None:
        print(json.dumps({"id": event.id, "event": event.event, "data": event.data}), flush=True)

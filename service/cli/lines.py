"""A line for each thing that happens: where no terminal redraws, and for programs."""

from __future__ import annotations

import json

from service.cli.text import line, log_line, percent, shown
from service.client import Event, Job


class Lines:
    """What a person reads in a file. Progress is a line when its percent is another."""

    def __init__(self) -> None:
        self._percent: dict[str, str] = {}

    def show(self, event: Event, changed: list[Job]) -> None:
        if event.event == "log":
            print(shown(event.data["job"]), log_line(event), flush=True)
        elif event.event == "artifact":
            size = f"{event.data['size']:,} bytes"
            print(f"{shown(event.data['job'])}  artifact {shown(event.data['name'])} ({size})", flush=True)
        else:
            for job in changed:
                now = f"{job['attempt']} {percent(job)}"
                if event.event != "progress" or self._percent.get(job["id"]) != now:
                    print(line(job), flush=True)
                self._percent[job["id"]] = now


class JsonLines:
    """Each event as it came, one JSON object a line."""

    def show(self, event: Event, _: list[Job]) -> None:
        print(json.dumps({"id": event.id, "event": event.event, "data": event.data}), flush=True)

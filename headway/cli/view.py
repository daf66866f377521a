"""Which view of the watched jobs fits the output: bars in a terminal, else lines, or JSON."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Protocol

from headway.cli.printers import JsonLines, Lines
from headway.cli.tracker import JobTracker
from headway.cli.transfer_bar import can_draw
from headway.client import Event, Job, Watch


class View(Protocol):
    """Shows an event, and the jobs that it changed."""

    def show(self, event: Event, changed: list[Job]) -> None: ...


def redraws() -> bool:
    """Whether stdout is a terminal in which bars can be redrawn."""
    return sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb" and can_draw()


@contextlib.contextmanager
def viewing(tracker: JobTracker, watch: Watch, *, as_json: bool = False) -> Iterator[View]:
    """Yields the view for stdout. The terminal is as before when the block is left."""
    if as_json:
        yield JsonLines()
    elif redraws():
        from headway.cli.live_bars import LiveView  # rich is slow to load

        with LiveView(tracker, watch) as bars:
            yield bars
    else:
        yield Lines(tracker)

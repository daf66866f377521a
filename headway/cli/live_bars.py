"""LiveView: bars in a terminal. Every text is a Text, in which rich interprets no markup."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Self

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from headway.cli.one_line import sanitized
from headway.cli.terminal import TerminalGuard
from headway.cli.text import (
    duration,
    figures,
    group_line,
    job_line,
    message_line,
    missed_line,
    percent,
)
from headway.cli.tracker import JobTracker
from headway.client import Event, Group, Job, Watch, is_live

STYLES = {"succeeded": "green", "failed": "red", "canceled": "yellow"}
REFRESH_S = 1 / 8
ORDER = ("running", "waiting", "retrying", "queued")
PERCENT = len("100 %")
SHORTEST_BAR, LONGEST_BAR = 8, 40
LONGEST_TYPE = 20
ROOM_FOR_TYPE = 50
ROOM_FOR_BAR = 18


@dataclass(frozen=True)
class Layout:
    """Widths of the columns; a column of width 0 is left out.

    The id is always whole, so that it can be copied, and so is the percentage. The rest goes to the bar and
    the words, and in a wide terminal to the type.
    """

    type: int
    bar: int
    words: int

    @classmethod
    def of(cls, width: int, id_width: int, type_width: int) -> Self:
        left = width - id_width - PERCENT - 1
        type_width = min(type_width, LONGEST_TYPE) if left >= ROOM_FOR_TYPE else 0
        left -= type_width + 1 if type_width else 0
        bar = min(max(left // 3, SHORTEST_BAR), LONGEST_BAR) if left >= ROOM_FOR_BAR else 0
        left -= bar + 1 if bar else 0
        return cls(type_width, bar, max(0, left - 1))


class LiveView:
    """A line for each live job, redrawn in place; jobs that end are printed above them, and stay.

    It refreshes in a thread of its own. rich's thread works out how many rows to go up before it takes the
    console, so it would draw over a line that is printed in between.
    """

    def __init__(self, tracker: JobTracker, watch: Watch) -> None:
        self._tracker = tracker
        self._watch = watch
        self._console = Console(highlight=False, markup=False, emoji=False)
        self._live = Live(self, console=self._console, auto_refresh=False)
        self._drawing = threading.Lock()
        self._ended = threading.Event()
        self._refreshing = threading.Thread(target=self._refresh, daemon=True)
        self._said: set[str] = set()
        self._group: Group | None = None
        self._guard = TerminalGuard()

    def __enter__(self) -> Self:
        self._guard.__enter__()
        self._live.start()
        self._refreshing.start()
        return self

    def __exit__(self, *_: object) -> None:
        try:
            with self._guard.whole():
                self._ended.set()
                self._refreshing.join()
                self._live.stop()
        finally:
            self._guard.__exit__()

    def _refresh(self) -> None:
        while not self._ended.wait(REFRESH_S):
            with self._drawing:
                self._live.refresh()

    def show(self, event: Event, changed: list[Job]) -> None:
        if event.event == "reset":
            self._print(missed_line(event), "yellow")
        if event.event == "message":
            self._print(message_line(event), "cyan")
        if event.event in ("group", "group-end"):
            self._group = event.data
        if event.event == "group-end":
            self._print(group_line(event.data), "bold")
        for job in changed:
            if not is_live(job) and job["id"] not in self._said:
                self._said.add(job["id"])
                self._print(job_line(job), STYLES[job["state"]])
            elif event.event == "state" and job["state"] == "retrying":
                self._print(job_line(job, self._tracker.why.get(job["id"])), "yellow")

    def _print(self, text: str, style: str) -> None:
        # Wrapped by the terminal and not by us, a long line is copied as one.
        with self._guard.whole(), self._drawing:
            self._console.print(Text(text, style=style), soft_wrap=True)

    def __rich_console__(self, _: Console, options: ConsoleOptions) -> RenderResult:
        live = [job for job in list(self._tracker.jobs.values()) if is_live(job)]
        live.sort(key=lambda job: ORDER.index(job["state"]))
        room = max(1, (options.height or self._console.height) - 3)
        rows = live[:room]
        if rows:
            yield self._table(rows, options.max_width)
        yield from self._notes(len(live) - room)
        if self._group is not None and self._group["state"] != "ended":
            yield Text(group_line(self._group), no_wrap=True, overflow="ellipsis")

    def _table(self, rows: list[Job], width: int) -> Table:
        id_width = max(len(job["id"]) for job in rows)
        layout = Layout.of(width, id_width, max(cell_len(sanitized(job["type"])) for job in rows))
        table = Table.grid(padding=(0, 1), pad_edge=False)
        table.add_column(no_wrap=True, overflow="crop", width=id_width)
        if layout.type:
            table.add_column(no_wrap=True, overflow="ellipsis", width=layout.type)
        if layout.bar:
            table.add_column(width=layout.bar)
        table.add_column(no_wrap=True, justify="right", width=PERCENT)
        if layout.words:
            table.add_column(no_wrap=True, overflow="ellipsis", width=layout.words)
        for job in rows:
            table.add_row(*self._row(job, layout))
        return table

    def _row(self, job: Job, layout: Layout) -> Iterator[Text | ProgressBar]:
        fraction = (job["progress"] or {}).get("fraction")
        yield Text(sanitized(job["id"]))
        if layout.type:
            yield Text(sanitized(job["type"]))
        if layout.bar:
            yield ProgressBar(
                total=None if fraction is None and job["state"] == "running" else 1,
                completed=fraction or 0,
                animation_time=time.monotonic(),
            )
        yield Text(percent(job))
        if layout.words:
            yield Text(self._words(job, layout.words))

    def _words(self, job: Job, width: int) -> str:
        why = self._tracker.why.get(job["id"])
        if job["state"] != "running":
            return sanitized(": ".join(filter(None, (job["state"], why))))
        parts = ["canceling"] if job["cancel_requested"] else []
        if job["attempt"] > 1:
            parts.append(f"attempt {job['attempt']}")
        moving = self._watch.status == "live" and not job["cancel_requested"]
        return fitting([*parts, *figures(job["progress"] or {}, moving=moving)] or ["running"], width)

    def _notes(self, hidden: int) -> Iterator[Text]:
        if hidden > 0:
            yield Text(f"… and {hidden} more")
        if self._watch.status == "reconnecting":
            away_s = time.monotonic() - self._watch.heard_at
            yield Text(f"reconnecting; last heard from {duration(away_s)} ago", style="yellow")
        elif self._watch.problem is not None:
            yield Text(sanitized(f"connecting; {self._watch.problem}"), style="yellow")
        elif self._watch.status == "live" and not any(map(is_live, list(self._tracker.jobs.values()))):
            yield Text("no live jobs; press Ctrl-C to quit", style="dim")


def fitting(parts: Iterable[str], width: int) -> str:
    """Join the parts for which there is room, the first in any case. None is cut: a number that is cut
    off is a different number."""
    text = ""
    for part in map(sanitized, parts):
        longer = f"{text}  {part}" if text else part
        if not text or cell_len(longer) <= width:
            text = longer
    return text

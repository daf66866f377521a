"""Live bars in a terminal. Every text is a Text: rich interprets no markup in it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Self

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from service.cli.board import Board
from service.cli.text import figures, line, percent, shown, standing
from service.client import Event, Job, Watch, is_live

STYLES = {"succeeded": "green", "failed": "red", "canceled": "yellow"}
WIDE = 100


class Bars:
    """A line a live job, redrawn in place; what has ended is printed above them, and stays."""

    def __init__(self, board: Board, watch: Watch) -> None:
        self._board = board
        self._watch = watch
        self._console = Console(highlight=False, markup=False, emoji=False)
        self._live = Live(self, console=self._console, refresh_per_second=8)
        self._said: set[str] = set()

    def __enter__(self) -> Self:
        self._live.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def show(self, _: Event, changed: list[Job]) -> None:
        for job in changed:
            if not is_live(job) and job["id"] not in self._said:
                self._said.add(job["id"])
                self._console.print(Text(line(job), style=STYLES[job["state"]]))

    def __rich_console__(self, _: Console, options: ConsoleOptions) -> RenderResult:
        live = [job for job in list(self._board.jobs.values()) if is_live(job)]
        live.sort(key=lambda job: job["state"] == "queued")
        room = max(1, (options.height or self._console.height) - 3)
        table = Table.grid(padding=(0, 1), expand=True)
        table.add_column(no_wrap=True, overflow="ellipsis", ratio=2)
        table.add_column(ratio=3)
        table.add_column(no_wrap=True, justify="right", width=5)
        table.add_column(no_wrap=True, overflow="ellipsis", ratio=3)
        for job in live[:room]:
            table.add_row(*self._row(job, wide=options.max_width >= WIDE))
        yield table
        yield from self._notes(len(live) - room)

    def _row(self, job: Job, *, wide: bool) -> Iterator[Text | ProgressBar]:
        name = f"{job['type']} {job['id'] if wide else job['id'][:10] + '…'}"
        yield Text(shown(name))
        progress = job["progress"] or {}
        fraction = progress.get("fraction")
        yield ProgressBar(
            total=None if fraction is None and job["state"] == "running" else 1,
            completed=fraction or 0,
            animation_time=time.monotonic(),
        )
        yield Text(percent(job))
        state = standing(job)
        words = figures(progress) if job["state"] == "running" else []
        yield Text(shown("  ".join(words if state == "running" and words else [state, *words])))

    def _notes(self, hidden: int) -> Iterator[Text]:
        if hidden > 0:
            yield Text(f"… and {hidden} more")
        if self._watch.status == "reconnecting":
            away_s = time.monotonic() - self._watch.heard_at
            yield Text(f"reconnecting; this is what was known {away_s:.0f} s ago", style="yellow")

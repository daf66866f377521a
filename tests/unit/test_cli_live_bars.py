"""Bars are redrawn by one thread while another prints above them."""

from __future__ import annotations

import io
import sys
from types import SimpleNamespace
from typing import Any, cast

import pyte
import pytest

from headway.cli import live_bars
from headway.cli.live_bars import LiveView
from headway.cli.tracker import JobTracker
from headway.client import Client, Event, Job, Watch
from tests.unit.test_client_job import REDUCE

JOBS = 12


class Tty(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_job_that_ends_is_printed_even_at_the_moment_of_a_redraw(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"TERM": "xterm", "COLUMNS": "100", "LINES": str(JOBS + 30)}.items():
        monkeypatch.setenv(name, value)
    out = Tty()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(live_bars, "REFRESH_S", 0.0005)
    tracker = JobTracker(cast(Client, None))
    base = {**REDUCE["base"], "state": "running"}
    jobs = [cast(Job, {**base, "id": f"job-{number:03}"}) for number in range(JOBS)]
    # A row that goes makes what is drawn one row shorter, which is what the redraw must know.
    tracker.jobs = {job["id"]: job for job in jobs}
    watch = cast(Watch, SimpleNamespace(status="live", heard_at=0.0, problem=None))
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with LiveView(tracker, watch) as view:
            for job in jobs:
                ended: Any = {**job, "state": "succeeded"}
                tracker.jobs[job["id"]] = ended
                view.show(Event("1-0", "end", ended), [ended])
    finally:
        sys.setswitchinterval(interval)
    screen = pyte.Screen(100, JOBS + 30)
    pyte.Stream(screen).feed(out.getvalue().replace("\n", "\r\n"))
    shown = [line.split()[0] for line in screen.display if line.startswith("job-")]
    assert shown == [job["id"] for job in jobs]

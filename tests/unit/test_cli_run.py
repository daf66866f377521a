"""What `headway run` makes of what a command says."""

from __future__ import annotations

import argparse
import re
import subprocess
import threading
from typing import Any, cast

import pytest

from headway.cli.run import MAX_LINES, Reporter, pattern, progress_in
from headway.client import Attempt, Unreachable


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("PROGRESS 0.4", {"fraction": 0.4}),
        ("PROGRESS 40%", {"fraction": 0.4}),
        ("PROGRESS 40", {"fraction": 0.4}),
        ("PROGRESS 1", {"fraction": 1.0}),
        ("PROGRESS 400%", {"fraction": 1.0}),
        ("PROGRESS 3/10 third table", {"current": 3.0, "total": 10.0, "message": "third table"}),
        ("PROGRESS 0.4 half of it ", {"fraction": 0.4, "message": "half of it"}),
    ],
)
def test_a_line_for_headway_is_understood(line: str, told: dict[str, Any]) -> None:
    assert progress_in(line, None) == {"type": "progress", **told}


@pytest.mark.parametrize(
    "line", ["PROGRESS", "PROGRESS soon", "PROGRESS 1.2.3", "no PROGRESS 0.4", "progress 1"]
)
def test_another_line_is_none(line: str) -> None:
    assert progress_in(line, None) is None


@pytest.mark.parametrize(
    ("expression", "line", "told"),
    [
        (r"(\d+)%", "  1,234,567  42%   1.10MB/s", {"fraction": 0.42}),
        (r"frame (?P<current>\d+) of (?P<total>\d+)", "frame 3 of 12", {"current": 3.0, "total": 12.0}),
        (r"(?P<percent>\d+)% (?P<message>.*)", "7% copying", {"fraction": 0.07, "message": "copying"}),
    ],
)
def test_an_expression_finds_progress_in_any_line(expression: str, line: str, told: dict[str, Any]) -> None:
    assert progress_in(line, pattern(expression)) == {"type": "progress", **told}


@pytest.mark.parametrize("found", ["x", "nan", "inf", "-1", "9" * 400])
def test_what_is_found_and_is_no_number_that_the_service_takes_is_none(found: str) -> None:
    assert progress_in(f"at {found}%", re.compile("at (.*)%")) is None


@pytest.mark.parametrize(
    ("expression", "words"), [("(", "not a regular expression"), ("%", "has no group")]
)
def test_a_bad_expression_is_refused(expression: str, words: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=words):
        pattern(expression)


class Away:
    """An attempt of a Headway that is away until `answers`: it keeps what could not be sent."""

    lease_s = 60.0
    cancel_requested = False

    def __init__(self) -> None:
        self.answers = threading.Event()
        self.tries = threading.Semaphore(0)
        self.kept: list[str] = []

    def report(self, *events: dict[str, Any]) -> None:
        self.kept += [event["message"] for event in events]
        self.tries.release()
        if not self.answers.is_set():
            raise Unreachable("away", sent=False)


def test_what_a_command_says_while_headway_is_away_is_bounded_and_the_end_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("headway.cli.run.REPORT_S", 0.001)
    away = Away()
    reporter = Reporter(cast("Attempt", away), cast("subprocess.Popen[bytes]", None))
    for _ in range(5):
        for _ in range(MAX_LINES):
            reporter.log("info", "line")
        for _ in range(2):  # the second began after the lines were there
            assert away.tries.acquire(timeout=30)
    assert len(away.kept) <= MAX_LINES + 1
    away.answers.set()
    reporter.close()
    *lines, left_out = away.kept
    assert lines.count("line") <= 2 * MAX_LINES
    assert left_out.endswith("lines left out: more than can be kept")

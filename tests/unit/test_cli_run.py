"""How `headway run` reads progress out of what a command says."""

from __future__ import annotations

import argparse
import re
from typing import Any

import pytest

from headway.cli.run import pattern, progress_in


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

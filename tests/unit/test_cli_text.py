"""What the command line says: hostile texts do nothing but appear, and each thing is said once."""

from __future__ import annotations

import json
from typing import Any

import pytest

from headway.cli.commands import describe_error
from headway.cli.live_bars import PERCENT, Layout, fitting
from headway.cli.main import main
from headway.cli.one_line import sanitized
from headway.cli.text import figures, job_line, parameter_lines
from headway.client.errors import problem
from tests.unit.test_client_job import REDUCE


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("\x1b[2J\x07", r"\x1b[2J\x07"),
        ("a\nb\rc", r"a\nb\rc"),
        ("\x9b31m\x7f", r"\x9b31m\x7f"),
        ("\u202egpj.exe\u2066", r"\u202egpj.exe\u2066"),
        ("\ud800", r"\ud800"),
        ("[red]é ☃ 日本[/red]", "[red]é ☃ 日本[/red]"),
        ("a\tb", "a b"),
    ],
)
def test_what_does_not_print_is_shown_as_its_escape(text: str, expected: str) -> None:
    assert sanitized(text) == expected


@pytest.mark.parametrize(
    ("change", "why", "expected"),
    [
        ({"state": "queued"}, None, "queued"),
        ({"state": "queued", "waiting_reason": "all are busy"}, None, "queued: all are busy"),
        ({"state": "running", "attempt": 1}, "old", "running"),
        ({"state": "running", "attempt": 2}, None, "running (attempt 2 of 3)"),
        ({"state": "running", "attempt": 5}, None, "running (attempt 5)"),
        ({"state": "running", "attempt": 1, "cancel_requested": True}, None, "running (canceling)"),
        ({"state": "retrying", "attempt": 1}, "E: no", "retrying (after attempt 1 of 3): E: no"),
        ({"state": "failed", "error": {"code": "error", "message": "E: no"}}, "old", "failed: E: no"),
        ({"state": "failed", "error": {"code": "timeout", "message": "m"}}, None, "failed (timeout): m"),
        ({"state": "canceled", "error": {"code": "canceled", "message": "m"}}, None, "canceled"),
    ],
)
def test_a_job_says_how_it_stands_and_why(change: dict[str, Any], why: str | None, expected: str) -> None:
    job = {**REDUCE["base"], "max_attempts": 3, "progress": None, **change}
    assert job_line(job, why) == f"{job['id']}  {job['type']}  {expected}"


def test_a_rate_is_a_number_as_people_write_it() -> None:
    said = [figures({"rate": rate, "unit": "frames"})[0] for rate in (0.01234, 9.876, 1000.4, 31234567)]
    assert said == ["0.0123 frames/s", "9.88 frames/s", "1,000 frames/s", "31,234,567 frames/s"]


def test_time_left_and_rate_are_said_only_of_what_is_known_to_move() -> None:
    progress = {"eta_s": 61, "rate": 5.0, "unit": "frames", "message": "frame 9"}
    assert figures(progress) == ["1:01 left", "5 frames/s", "frame 9"]
    assert figures(progress, moving=False) == ["frame 9"]
    job = {**REDUCE["base"], "state": "running", "attempt": 1, "max_attempts": 3, "progress": progress}
    assert "left" in job_line(job)
    assert "left" not in job_line({**job, "cancel_requested": True})


@pytest.mark.parametrize("width", range(20, 200))
def test_an_id_and_the_percent_are_whole_at_any_width_and_the_rest_fits(width: int) -> None:
    layout = Layout.of(width, 24, 12)
    columns = [size for size in (24, layout.type, layout.bar, PERCENT, layout.words) if size]
    assert sum(columns) + len(columns) - 1 <= max(width, 24 + 1 + PERCENT)
    if width >= 60:
        assert layout.bar >= 8
        assert layout.words >= 12
    assert bool(layout.type) == (width >= 80)


def test_what_has_no_room_is_left_out_whole() -> None:
    assert fitting(["0:16 left", "a long stage", "9/s"], 30) == "0:16 left  a long stage  9/s"
    assert fitting(["0:16 left", "a long stage", "9/s"], 14) == "0:16 left  9/s"
    assert fitting(["much too long"], 4) == "much too long"


@pytest.mark.parametrize(
    ("schema", "line"),
    [
        ({"enum": ["mp4", "webm"], "default": "mp4"}, 'x="mp4"  (mp4, webm)'),
        ({"$ref": "#/$defs/Size", "default": None}, "x=null  (1 to 8)"),
        ({"anyOf": [{"minimum": 0}, {"type": "null"}]}, "x (required)  (at least 0)"),
        ({"anyOf": [{"$ref": "#/$defs/Size"}, {"enum": ["best"]}]}, "x (required)  (1 to 8, best)"),
        ({"exclusiveMinimum": 0, "maximum": 10_000, "default": 10}, "x=10  (above 0, at most 10,000)"),
        ({"type": "boolean", "default": True}, "x=true  (true, false)"),
        ({"type": "string"}, "x (required)"),
        ({"enum": ["\x1b[31m"]}, "x (required)  (\\x1b[31m)"),
    ],
)
def test_a_parameter_is_printed_with_its_default_and_the_values_it_allows(
    schema: dict[str, Any], line: str
) -> None:
    defs = {"Size": {"minimum": 1, "maximum": 8}}
    assert parameter_lines({"properties": {"x": schema}, "$defs": defs}) == [line]


def test_an_error_says_each_thing_once() -> None:
    errors = [
        {"pointer": "/params/x", "detail": "is not known"},
        {"pointer": "/params/y", "detail": "is 2"},
    ]
    body = {"detail": "/params/x: is not known", "errors": errors, "known_types": ["t"]}
    assert describe_error(problem(422, json.dumps(body).encode(), None)) == (
        "422 /params/x: is not known; /params/y: is 2"
    )
    body = {
        "detail": "no type",
        "errors": [{"pointer": "/type", "detail": "no type"}],
        "known_types": ["t"],
    }
    assert describe_error(problem(422, json.dumps(body).encode(), None)) == "422 no type; the types are t"
    assert describe_error(problem(503, b'{"detail": "full"}', "30")) == "503 full; try again in 30 s"


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["nonsense"],
        ["watch", "A", "--jsn"],
        ["watch", ""],
        ["watch", "--group", ""],
        ["watch", "--give-up", "nan"],
        ["watch", "--give-up", "-1"],
        ["watch", "--after", "y", "--url", "http://127.0.0.1:9"],
        ["watch", "A", "--group", "g"],
        ["cancel", "--json"],
        ["retry", "A", "B"],
        ["list", "--limit", "0"],
        ["list", "--limit", "²"],
        ["list", "--state", "done"],
        ["logs"],
        ["submit"],
        ["submit", "simulate", "word"],
        ["submit", "simulate", "=1"],
        ["submit", "simulate", "--params", "[1]"],
        ["submit", "simulate", "--params", "{"],
        ["submit", "simulate", "--params", '{"x": NaN}'],
        ["submit", "simulate", "--params", "[" * 100_000],
        ["submit", "simulate", "--label", "x"],
        ["submit", "simulate", "--key", "\n"],
        ["submit", "simulate", "--max-attempts", "0"],
        ["submit", "simulate", "--timeout", "inf"],
        ["submit", "simulate", "--file", "/nonexistent/file"],
        ["submit", "simulate", "--file", "/"],
        ["submit", "simulate", "--file", "/dev/null"],
        ["submit", "simulate", "--file", "x", "input=upload:x"],
        ["completion", "ksh"],
        ["types", "--url", "\x1b]0;owned\x07"],
        ["types", "--url", "http://127.0.0.1:9"],
    ],
)
def test_what_is_typed_wrong_is_one_line_and_exit_2(
    words: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADWAY_URL", "http://127.0.0.1:9")
    try:
        status = main(words)
    except SystemExit as leaving:
        status = leaving.code  # type: ignore[assignment]
    out, err = capsys.readouterr()
    assert (status, out, err.count("\n")) == (2, "", 1), err
    assert err.startswith("headway: ")
    assert err[:-1].isprintable()

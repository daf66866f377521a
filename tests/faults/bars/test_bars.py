"""A short run of the bars; and their checker: each lie is found, and the truth is none."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.faults.bars.checker import Look, Showing, check, versions
from tests.faults.bars.run import Lengths, Run

JOB = versions(
    [
        (1000, "state", {"state": "queued", "attempt": 0}),
        (2000, "state", {"state": "running", "attempt": 1}),
        (3000, "progress", {"attempt": 1, "fraction": 0.29}),
        (4000, "state", {"state": "retrying", "attempt": 1}),
        (5000, "state", {"state": "running", "attempt": 2}),
        (6000, "progress", {"attempt": 2, "fraction": 0.29}),
        (60_000, "end", {"state": "succeeded", "attempt": 2, "progress": {"fraction": 1}}),
    ]
)
FIRST, SECOND = Look("running", 1, 29), Look("running", 2, 29)
TRUTH = [
    Showing("bar", "job", 2100, 3100, Look("running", 1, None), True, True, 5),
    Showing("bar", "job", 3100, 4050, FIRST, True, True, 5),
    Showing("bar", "job", 4100, 30_000, Look("retrying", 1, 29), False, True, 5),
    Showing("bar", "job", 30_000, 61_000, SECOND, True, True, 5),
    Showing("bar", "job", 61_000, 90_000, Look("succeeded", 2, 100), True, True, 5),
]


def test_what_a_job_looks_like_follows_from_its_events() -> None:
    assert [version.look for version in JOB] == [
        Look("queued", 1, 0),
        Look("running", 1, None),
        FIRST,
        Look("retrying", 1, 29),
        Look("running", 2, None),
        SECOND,
        Look("succeeded", 2, 100),
    ]


def test_the_truth_is_no_lie() -> None:
    verdict = check({"job": JOB}, TRUTH, 2000)
    assert verdict.lies == []
    assert (verdict.samples, verdict.fresh, verdict.oldest_ms) == (25, 20, 1000)


@pytest.mark.parametrize(
    ("lie", "named"),
    [
        (Showing("bar", "job", 4100, 6001, FIRST, True, True, 1), "as fresh, 2001 ms"),
        (Showing("bar", "job", 61_000, 62_001, SECOND, True, True, 1), "as fresh, 2001 ms"),
        (Showing("bar", "job", 61_000, 61_001, FIRST, False, True, 1), "back to"),
        (Showing("bar", "job", 2500, 2600, FIRST, False, True, 1), "not yet"),
        (Showing("bar", "job", 2500, 6600, SECOND, False, True, 1), "not yet"),
        (Showing("bar", "job", 70_000, 70_001, Look("failed", 2, 29), True, True, 1), "never"),
        (Showing("bar", "job", 70_000, 70_001, Look("running", 2, 30), True, True, 1), "never"),
    ],
)
def test_a_lie_is_found(lie: Showing, named: str) -> None:
    before = [] if "back" not in named else TRUTH
    (found,) = check({"job": JOB}, [*before, lie], 2000).lies
    assert named in found


def test_a_page_that_wakes_finds_out_at_once_but_not_before() -> None:
    waking = Showing("bar", "job", 90_000, 90_200, SECOND, True, False, 2)
    verdict = check({"job": JOB}, [waking], 2000)
    assert (verdict.lies, verdict.excused) == ([], 2)


@pytest.mark.skipif(sys.platform != "linux", reason="it looks at processes in /proc")
def test_a_hundred_bars_reach_the_right_end_through_faults_and_none_lies(tmp_path: Path) -> None:
    short = Lengths(
        killed=0.5, paused=4.5, refused=2, stalled=8.5, suspended=2, frozen=1, stopped=0, between=0.2
    )
    run = Run(
        tmp_path, seed=5, lengths=short, heartbeat_s=1, say=print, slack_ms=5000
    )  # on a machine that does other things too
    try:
        report = run.go(rounds=1)
    finally:
        run.close()
    assert len(report.faults) == 6
    assert all(fault.live for fault in report.faults)
    assert report.verdict.lies == []
    assert (report.right_jobs, report.right_bars) == (report.jobs, report.bars)
    assert report.verdict.fresh > report.verdict.samples / 4, "out of date is no lie, and no bar either"

"""Why a job waits, as the living workers tell."""

from __future__ import annotations

from dataclasses import replace

import pytest

from headway.contract.listings import Running
from headway.contract.registry import Worker
from service.scheduling.fleet import View


def worker(name: str, *, types: tuple[str, ...], queues: tuple[str, ...]) -> Worker:
    return Worker(name, "host", 1, 1, types, queues, "", {}, 0, "")


ENCODES = worker("encodes", types=("video",), queues=("fast",))
CHECKS = worker("checks", types=("sum",), queues=("slow",))
FULL = replace(ENCODES, disk_full=True)
BUSY = {"encodes": [Running("0-x", "video", 1, "", "encodes:1")]}


@pytest.mark.parametrize(
    ("view", "queue", "not_before_ms", "reason"),
    [
        (View([], {}), "fast", 0, "no living worker serves video"),
        (View([CHECKS], {}), "slow", 0, "no living worker serves video"),
        (View([ENCODES, CHECKS], {}), "slow", 0, "no worker that serves video takes from queue slow"),
        (View([ENCODES], {}), "fast", 0, None),
        (
            View([FULL], BUSY),
            "fast",
            0,
            "the disks of all workers that serve video",
        ),
        (View([FULL, ENCODES], {}), "fast", 0, None),
        (View([ENCODES], BUSY), "fast", 0, "all workers that serve video are busy"),
        (
            View([ENCODES], {}),
            "fast",
            4_000_000_000_000,
            "the next attempt is due at",
        ),
    ],
)
def test_a_job_waits_for_a_reason(view: View, queue: str, not_before_ms: int, reason: str | None) -> None:
    found = view.why_waiting("video", queue, not_before_ms)
    assert found == reason or (found or "").startswith(reason or "nothing")

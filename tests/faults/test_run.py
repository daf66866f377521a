"""A short run of the fault runner: ten kills and pauses over twelve jobs, and no lie."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.faults import plan
from tests.faults.checker import check
from tests.faults.run import Run

pytestmark = pytest.mark.long


@pytest.mark.skipif(sys.platform != "linux", reason="it looks at processes in /proc")
@pytest.mark.timeout(240)
def test_jobs_do_not_lie_while_what_carries_them_is_killed_and_paused(tmp_path: Path) -> None:
    run = Run(plan.draw(seed=4, jobs=12, faults=10, gap_s=0.7), tmp_path, limit_s=200, say=print)
    run.run(wait_for_sweep=False)
    (h,) = run.histories.values()
    assert len(h.faults) == 10
    assert len(h.events) >= 7, "some are answered with the job that has their unique key"
    assert sum(len(reading.connections) for reading in h.readings) > len(h.readings), "nothing was cut"
    assert check(h) == []


def test_a_seed_draws_the_same_plan_again() -> None:
    assert plan.draw(5, 20, 20, 1) == plan.draw(5, 20, 20, 1) != plan.draw(6, 20, 20, 1)

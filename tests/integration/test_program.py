"""A program that does nothing is ended; one that works for as long is not."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from headway.contract.states import State
from headway.sdk.job import Job
from headway.sdk.job_type import Params
from tests.support.worker_stack import Do
from worker.media import ffmpeg, program


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program, "LOOK_S", 0.2)
    monkeypatch.setattr(program, "STILL_LOOKS", 8)


def decode(*args: str | Path) -> Any:
    def task(job: Job[Params]) -> float | None:
        ticks = list(ffmpeg.run(job, [*args, "-f", "null", "-"]))
        return ticks[-1].out_time_s

    return task


def test_an_encoder_that_stands_still_is_ended_and_the_job_says_why(do: Do, tmp_path: Path) -> None:
    never = tmp_path / "never"
    os.mkfifo(never)  # ffmpeg waits for somebody who writes
    job = do(decode("-i", f"file:{never}"))
    assert job.state is State.FAILED
    assert job.error is not None
    assert "ffmpeg was ended: it had done nothing for 2 s" in job.error.message


def test_an_encoder_that_works_slowly_is_left_alone(do: Do) -> None:
    slow = ("-re", "-f", "lavfi", "-i", "testsrc2=size=1280x720:rate=25:duration=4")
    job = do(decode(*slow))
    assert (job.state, job.result) == (State.SUCCEEDED, pytest.approx(4, abs=0.1))

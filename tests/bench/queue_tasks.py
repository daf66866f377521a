"""What the workers of `queue.py` do: the same three tasks for Headway and for Celery."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from celery import Celery

from headway import Job, Params, job

UPDATES = 10


class Nothing(Params):
    pass


def note_begin() -> None:
    """Add the time to a file: the first line of a task that was waited for."""
    with Path(os.environ["BENCH_BEGINS"]).open("a") as file:
        file.write(f"{time.time_ns()}\n")


@job("bench.noop", title="Bench noop", params=Nothing)
def noop(job: Job[Nothing]) -> None:
    pass


@job("bench.updates", title="Bench updates", params=Nothing)
def updates(job: Job[Nothing]) -> None:
    with job.stage("work", total=UPDATES) as stage:
        for n in range(UPDATES):
            stage.update(n + 1)


@job("bench.begin", title="Bench begin", params=Nothing)
def begin(job: Job[Nothing]) -> None:
    note_begin()


app = Celery("bench", broker=os.environ.get("BENCH_BROKER"), backend=os.environ.get("BENCH_BACKEND"))
app.conf.update(broker_connection_retry_on_startup=True, worker_hijack_root_logger=False)


@app.task(name="noop", ignore_result=True)  # type: ignore[untyped-decorator]
def celery_noop() -> None:
    pass


@app.task(name="updates", bind=True)  # type: ignore[untyped-decorator]
def celery_updates(self: Any) -> None:
    for n in range(UPDATES):
        self.update_state(state="PROGRESS", meta={"current": n + 1, "total": UPDATES})


@app.task(name="begin", ignore_result=True)  # type: ignore[untyped-decorator]
def celery_begin() -> None:
    note_begin()

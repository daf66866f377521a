"""What Headway's worker does in `queue.py`; those of the other queues are in queue_projects."""

from __future__ import annotations

from headway import Job, Params, job
from tests.bench.queue_projects.measuring import UPDATES, note_begin


class Nothing(Params):
    pass


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

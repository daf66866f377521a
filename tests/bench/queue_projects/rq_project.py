"""RQ: `rq worker-pool`. Progress is in the job's meta; nothing is told that it changed."""

from __future__ import annotations

import redis
from rq import Queue, get_current_job

from tests.bench.queue_projects import measuring


def noop() -> None:
    pass


def updates() -> None:
    job = get_current_job()
    for n in range(measuring.UPDATES):
        job.meta.update(current=n + 1, total=measuring.UPDATES)
        job.save_meta()


def begin() -> None:
    measuring.note_begin()


if __name__ == "__main__":
    queue = Queue(connection=redis.from_url(measuring.BROKER))
    measuring.send(lambda name: queue.enqueue(f"tests.bench.queue_projects.rq_project.{name}"))

"""GET /workers."""

from __future__ import annotations

from typing import Any, Literal

from flask import Response
from pydantic import BaseModel

from headway.contract.encoding import dumps
from service.api.context import caller, context
from service.api.operation import Answer, Resource, json_answer

bp = Resource("workers", "Workers")


class WorkerJob(BaseModel):
    """A job that a worker does now. `since` is when this attempt began."""

    id: str
    type: str
    attempt: int
    since: str


class WorkerSandbox(BaseModel):
    """What programs that read strangers' files may touch there. `missing` is what its kernel lacks."""

    mode: Literal["auto", "require", "off"]
    missing: list[str]


class Worker(BaseModel):
    """A living worker. `concurrency` is how many jobs it does at once; `jobs` are the caller's.
    `dropped_messages` counts what it found on its queues since its start that was no job."""

    name: str
    host: str
    pid: int
    concurrency: int
    types: list[str]
    queues: list[str]
    started_at: str
    sandbox: WorkerSandbox
    dropped_messages: int
    seen_at: str
    jobs: list[WorkerJob]


class Queue(BaseModel):
    """Where jobs wait. `waiting` counts the caller's, or everybody's for `ops:all`; `workers` counts the
    living that take from it."""

    name: str
    waiting: int
    workers: int


class Workers(BaseModel):
    items: list[Worker]
    queues: list[Queue]


@bp.operation("GET", "/workers", answers={200: Answer.json("the workers and the queues", Workers)})
def list_workers() -> Response:
    """The living workers, what each does now, and how many jobs wait in each queue."""
    here = context()
    who = caller()
    view = here.fleet.view(who.owner, fresh=True)
    items: list[dict[str, Any]] = []
    for worker in view.workers:
        jobs = [
            {"id": job.id, "type": job.type, "attempt": job.attempt, "since": job.since}
            for job in view.running.get(worker.name, ())
        ]
        items.append({**{name: getattr(worker, name) for name in worker.__slots__}, "jobs": jobs})
    queues = {job_type.queue for job_type in here.types.all().values()}
    queues.update(queue for worker in view.workers for queue in worker.queues)
    waiting = here.store.listings.queue_depths(sorted(queues), None if who.sees_all else who.owner)
    served = [
        {"name": name, "waiting": count, "workers": sum(name in worker.queues for worker in view.workers)}
        for name, count in waiting.items()
    ]
    return json_answer(dumps({"items": items, "queues": served}))

"""GET /workers, and what has queues, types and workers take no jobs, or jobs again."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, Literal

from flask import Response
from pydantic import BaseModel

from headway.contract.encoding import dumps
from headway.contract.pauses import Kind, http_worker
from service.api.context import Context, caller, context
from service.api.operation import Answer, Resource, json_answer
from service.api.problems import Problem

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


class Pause(BaseModel):
    """A queue or type of which no jobs are taken, or a worker that takes none, until it is resumed. `by` is
    whose request that was: a key's id, or a name."""

    kind: Literal["queue", "type", "worker"]
    name: str
    since: str
    by: str


class Workers(BaseModel):
    items: list[Worker]
    queues: list[Queue]
    paused: list[Pause]


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
    queues.update(name for kind, name in view.pauses if kind == "queue")
    waiting = here.store.listings.queue_depths(sorted(queues), None if who.sees_all else who.owner)
    served = [
        {"name": name, "waiting": count, "workers": sum(name in worker.queues for worker in view.workers)}
        for name, count in waiting.items()
    ]
    paused = [asdict(pause) for pause in view.pauses.values()]
    return json_answer(dumps({"items": items, "queues": served, "paused": paused}))


class Pauses(BaseModel):
    paused: list[Pause]


_PAUSED = {200: Answer.json("all that is paused now", Pauses)}


@bp.operation(
    "POST", "/queues/<path:queue>/pause", answers=_PAUSED, problems={404: "there is no such queue"}
)
def pause_queue(queue: str) -> Response:
    """Let no job of a queue be claimed until it is resumed.

    What is running goes on. Nothing happens if it is paused already.
    """
    if queue not in _queues(context()):
        raise Problem(404, f"no worker has served a queue {queue!r}; GET /workers lists them")
    return _pause("queue", queue)


@bp.operation(
    "POST", "/queues/<path:queue>/resume", answers=_PAUSED, problems={404: "the queue is not paused"}
)
def resume_queue(queue: str) -> Response:
    """Let the jobs of a queue be claimed again."""
    return _resume("queue", queue, [queue])


@bp.operation(
    "POST", "/types/<path:type_name>/pause", answers=_PAUSED, problems={404: "there is no such type"}
)
def pause_type(type_name: str) -> Response:
    """Let no job of a type be claimed until it is resumed, whoever's it is.

    What is running goes on. Nothing happens if it is paused already.
    """
    if context().types.get(type_name, caller().owner) is None:
        raise Problem(404, f"no worker has served a type {type_name!r}; GET /types lists them")
    return _pause("type", type_name)


@bp.operation(
    "POST", "/types/<path:type_name>/resume", answers=_PAUSED, problems={404: "the type is not paused"}
)
def resume_type(type_name: str) -> Response:
    """Let the jobs of a type be claimed again."""
    known = context().types.get(type_name, caller().owner)
    return _resume("type", type_name, [known.queue] if known else [])


@bp.operation(
    "POST",
    "/workers/<path:worker>/drain",
    answers=_PAUSED,
    problems={404: "there is no such living worker"},
)
def drain_worker(worker: str) -> Response:
    """Let a worker claim no more jobs until it is resumed.

    What it is doing goes on, and it stays up. A worker over HTTP gets no job (204). When it ends, the drain
    is forgotten with it.
    """
    return _pause("worker", _known_worker(worker))


@bp.operation(
    "POST",
    "/workers/<path:worker>/resume",
    answers=_PAUSED,
    problems={404: "the worker is not draining"},
)
def resume_worker(worker: str) -> Response:
    """Let a worker claim jobs again."""
    here, own = context(), http_worker(caller().owner, worker)
    name = own if here.store.pauses.of("worker", own) is not None else worker
    return _resume("worker", name, [])


def _known_worker(name: str) -> str:
    """Return the name under which a living worker is paused. Raises Problem."""
    registry = context().store.registry
    if any(worker.name == name for worker in registry.workers()):
        return name
    if name in registry.claimers(caller().owner):
        return http_worker(caller().owner, name)
    raise Problem(404, f"no living worker is called {name!r}; GET /workers lists them")


def _queues(here: Context) -> set[str]:
    queues = {job_type.queue for job_type in here.types.all(fresh=True).values()}
    return queues | {queue for worker in here.store.registry.workers() for queue in worker.queues}


def _pause(kind: Kind, name: str) -> Response:
    context().store.pauses.add(kind, name, by=caller().name)
    return _all_paused()


def _resume(kind: Kind, name: str, queues: list[str]) -> Response:
    if not context().store.pauses.end(kind, name, queues):
        state = "draining" if kind == "worker" else "paused"
        raise Problem(404, f"the {kind} {name!r} is not {state}")
    return _all_paused()


def _all_paused() -> Response:
    paused = [asdict(pause) for pause in context().store.pauses.all()]
    return json_answer(dumps({"paused": paused}))

"""GET /workers, and what has queues, types and workers take no jobs, or jobs again."""

from __future__ import annotations

from typing import Any, Literal

from flask import Response
from pydantic import BaseModel

from headway.contract import pauses
from headway.contract.encoding import dumps
from headway.contract.pauses import Kind, Subject
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
    `dropped_messages` counts what it found on its queues since its start that was no job. With `disk_full`
    it takes no jobs, for want of scratch space."""

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
    disk_full: bool
    jobs: list[WorkerJob]


class Queue(BaseModel):
    """Where jobs wait. `waiting` counts the caller's, or everybody's for `ops:all`; `workers` counts the
    living that take from it."""

    name: str
    waiting: int
    workers: int


class Pause(BaseModel):
    """A queue or type of which no jobs are taken, or a worker that takes none, until it is resumed. `by` is
    whose request that was: a key's id, or a name; of another owner's request that is not said."""

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
    waiting = here.store.listings.queue_depths(sorted(queues), who.sees_only)
    served = [
        {"name": name, "waiting": count, "workers": sum(name in worker.queues for worker in view.workers)}
        for name, count in waiting.items()
    ]
    return json_answer(dumps({"items": items, "queues": served, "paused": _all_paused()}))


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
    return _pause(Subject("queue", queue))


@bp.operation(
    "POST", "/queues/<path:queue>/resume", answers=_PAUSED, problems={404: "the queue is not paused"}
)
def resume_queue(queue: str) -> Response:
    """Let the jobs of a queue be claimed again."""
    return _resume("queue", queue)


@bp.operation(
    "POST", "/types/<path:type_name>/pause", answers=_PAUSED, problems={404: "there is no such type"}
)
def pause_type(type_name: str) -> Response:
    """Let no job of a type be claimed until it is resumed, whoever's it is.

    Of a type that an owner declared, only that owner's. What is running goes on. Nothing happens if it is
    paused already.
    """
    who = caller()
    found = context().types.get(type_name, who.owner)
    if found is None:
        raise Problem(404, f"no worker has served a type {type_name!r}; GET /types lists them")
    owner = who.owner if found.declared else found.owner
    return _pause(Subject("type", type_name, owner, found.queue))


@bp.operation(
    "POST", "/types/<path:type_name>/resume", answers=_PAUSED, problems={404: "the type is not paused"}
)
def resume_type(type_name: str) -> Response:
    """Let the jobs of a type be claimed again."""
    return _resume("type", type_name)


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
    return _pause(_known_worker(worker))


@bp.operation(
    "POST",
    "/workers/<path:worker>/resume",
    answers=_PAUSED,
    problems={404: "the worker is not draining"},
)
def resume_worker(worker: str) -> Response:
    """Let a worker claim jobs again."""
    return _resume("worker", worker)


def _known_worker(name: str) -> Subject:
    """Raises Problem if no living worker of everybody's or of the caller's is called so."""
    registry, owner = context().store.registry, caller().owner
    if any(worker.name == name for worker in registry.workers()):
        return Subject("worker", name)
    if name in registry.claimers(owner):
        return Subject("worker", name, owner)
    raise Problem(404, f"no living worker is called {name!r}; GET /workers lists them")


def _queues(here: Context) -> set[str]:
    queues = {job_type.queue for job_type in here.types.all(fresh=True).values()}
    return queues | {queue for worker in here.store.registry.workers() for queue in worker.queues}


def _pause(what: Subject) -> Response:
    who = caller()
    who.check_group(None)
    context().store.pauses.add(what, who.name, who.owner)
    return json_answer(dumps({"paused": _all_paused()}))


def _resume(kind: Kind, name: str) -> Response:
    """End the caller's own pause of this name and everybody's, or else another owner's that is visible."""
    who = caller()
    who.check_group(None)
    named = [pause for pause in _visible() if (pause.kind, pause.name) == (kind, name)]
    near = [pause for pause in named if pause.owner in (None, who.owner)]
    # Each is ended, also if it was meanwhile.
    if not [pause for pause in near or named if context().store.pauses.end(pause)]:
        state = "draining" if kind == "worker" else "paused"
        raise Problem(404, f"the {kind} {name!r} is not {state}")
    return json_answer(dumps({"paused": _all_paused()}))


def _visible() -> list[pauses.Pause]:
    who = caller()
    return [pause for pause in context().store.pauses.all() if pause.owner is None or who.owns(pause.owner)]


def _all_paused() -> list[dict[str, Any]]:
    living = {worker.name for worker in context().store.registry.workers()}
    return [
        {
            "kind": pause.kind,
            "name": pause.name,
            "since": pause.since,
            "by": pause.by if caller().owns(pause.by_owner) else "another owner",
        }
        for pause in _visible()
        # The drain of a worker that was killed is kept for a while: it may only be cut off.
        if pause.kind != "worker" or pause.owner is not None or pause.name in living
    ]

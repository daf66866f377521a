"""POST /jobs and /jobs:batch, and making jobs within their owner's limits."""

from __future__ import annotations

import json
import math
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import redis
from flask import Response
from pydantic import (
    BaseModel,
)

from headway import tracing
from headway.contract.database import TooFewReplicas
from headway.contract.encoding import RecordError, pointer
from headway.contract.foreign import Foreign
from headway.contract.keys import here_queue
from headway.contract.limits import NO_LIMITS, Limits, TooManyJobs
from headway.contract.new_job import NewJob, links_of
from headway.contract.records import (
    USUAL_PRIORITY,
)
from headway.contract.store import IdempotencyConflict
from service import metrics
from service.api.attempt_token import attempt_token
from service.api.context import Context, caller, context, opens_job
from service.api.idempotency import Submitting, hashed
from service.api.inputs import check_inputs
from service.api.operation import Answer, Resource, give_way, json_answer
from service.api.problems import MAX_ERRORS, Problem
from service.api.room import lacks_room
from service.api.submission import BatchAnswer, BatchItem, BegunJob, Submission, Submissions, time_ms
from service.api.webhooks import submitted_target
from service.scheduling.job_types import JobType

bp = Resource("submissions", "Jobs")

NOT_ACCEPTED = (
    "Redis cannot be reached, or it or the disk is nearly full, and nothing was submitted; or it was, and "
    "fewer than CREATE_REPLICAS replicas have it yet"
)
"""What 503 means as the answer to a submission."""
BURST_S = 10.0
"""How many seconds' worth of SUBMIT_RATE an owner may submit at once."""

MAX_BATCH_BYTES = 2 * 1024 * 1024
"""Python takes four bytes for each character of a text that has an emoji, and several copies are needed."""
ACCEPTED_AT_ONCE = 100
"""Submissions of a batch, before other requests have their turn."""


def _known_types() -> dict[str, Any]:
    return {"known_types": sorted(context().types.all(caller().owner))}


@bp.operation(
    "POST",
    "/jobs",
    headers=Submitting,
    body=Submission,
    hints=_known_types,
    answers={
        202: Answer.json("the new job", BegunJob, Location="the job's path"),
        200: Answer.json(
            "the job that this Idempotency-Key made before, or that holds the unique key",
            BegunJob,
            Location="the job's path",
        ),
    },
    problems={
        409: "no worker has served the type for a long time (TYPE_TTL_S), or a job that the credential "
        "does not open has the unique key; nothing was submitted",
        422: "the body does not fit, or the Idempotency-Key belongs to another one; `errors` says why",
        429: "the owner submits too fast or has too many live jobs; nothing was submitted",
        503: NOT_ACCEPTED,
    },
)
def submit_job(headers: Submitting, body: Submission) -> Response:
    """Submit a job."""
    here = context()
    once = headers.once(lambda: _meaning(body))
    created = create_once(here, once, lambda: accept(here, body, headers.trace))
    if body.run is None:
        return answer_made(*created)
    return _begin(here, headers.key, created, body.lease_s)


@bp.operation(
    "POST",
    "/jobs:batch",
    headers=Submitting,
    body=Submissions,
    hints=_known_types,
    max_body=MAX_BATCH_BYTES,
    answers={
        202: Answer.json("the new jobs, in the order of the submissions", BatchAnswer),
        200: Answer.json("what this Idempotency-Key made before", BatchAnswer),
    },
    problems={
        409: "no worker has served one of the types for a long time (TYPE_TTL_S); nothing was submitted",
        422: "the body does not fit, or the Idempotency-Key belongs to another one; `errors` says why",
        429: "the owner submits too fast or would have too many live jobs; nothing was submitted",
        503: NOT_ACCEPTED,
    },
)
def submit_jobs(headers: Submitting, body: Submissions) -> Response:
    """Submit up to 1,000 jobs: all of them, or none."""
    here = context()
    once = headers.once(lambda: _meaning(body))
    try:
        refuse_when_full(here)
        new = _accept_all(here, body.jobs)
    except Problem:
        # As in create_once.
        made = here.store.many_made_before(caller().owner, once) if once else []
        if not made or not all(opens_job(job_id) for job_id, _ in made):
            raise
        are_new = False
    else:
        made, are_new = create_many(here, new, once, headers.trace)
    items = [BatchItem(id=job_id, created=created, links=links_of(job_id)) for job_id, created in made]
    return json_answer(BatchAnswer(items=items).model_dump_json(), 202 if are_new else 200)


def _accept_all(here: Context, submissions: list[Submission]) -> list[NewJob]:
    """Return the jobs that the submissions ask for. Raises Problem with the faults of all of them."""
    new: list[NewJob] = []
    errors: list[tuple[str, str]] = []
    refused: Problem | None = None
    for place, submission in enumerate(submissions):
        if place % ACCEPTED_AT_ONCE == 0:
            give_way()
        try:
            if submission.run is not None:
                detail = "a job that is run here is submitted alone"
                raise Problem(422, detail, errors=[("/run", detail)])
            new.append(accept(here, submission))
        except Problem as problem:
            refused = refused or problem
            own = problem.errors or [("", problem.detail)]
            errors += [(pointer("jobs", place) + where, what) for where, what in own]
            if len(errors) >= MAX_ERRORS:
                break
    if refused is not None:
        where, what = errors[0]
        raise Problem(refused.status, f"{where}: {what}", errors=errors, **refused.more)
    return new


def _meaning(body: BaseModel) -> str:
    return json.dumps(body.model_dump(mode="json"), sort_keys=True)


def accept(here: Context, body: Submission, trace: str = "") -> NewJob:
    """Return the job that a submission asks for. Raises Problem."""
    who = caller()
    who.check_group(body.group)
    job_type = here.types.get(body.type, who.owner)
    if job_type is None and body.run is None:
        detail = f"unknown job type {body.type!r}"
        raise Problem(422, detail, errors=[("/type", detail)], **_known_types())
    if job_type is not None and body.run is None and (gone := gone_type(here, job_type)):
        raise Problem(409, gone)
    check_inputs(body.params)
    faults = job_type.faults(body.params) if job_type else []
    if faults:
        where, what = faults[0]
        raise Problem(422, f"{where}: {what}", errors=faults, **_known_types())
    foreign = None
    if job_type and job_type.foreign and not body.run:
        foreign = Foreign(sent=False)
        if body.max_attempts not in (None, job_type.max_attempts):
            detail = f"{body.type} has a retry policy of its own, which a submission does not change"
            raise Problem(422, detail, errors=[("/max_attempts", detail)])
    return NewJob(
        owner=who.owner,
        type=body.type,
        params=body.params,
        queue=job_type.queue if job_type and not body.run else here_queue(who.owner),
        max_attempts=1 if body.run else _max_attempts(here, body, job_type),
        group=body.group,
        labels=body.labels,
        timeout_s=body.timeout_s or (None if foreign else here.settings.job_timeout_s),
        webhook=submitted_target(here, body.webhook) if body.webhook else None,
        size=body.size or 1,
        foreign=foreign,
        priority=USUAL_PRIORITY if body.priority is None else body.priority,
        run_at_ms=None if body.run_at is None else time_ms(body.run_at),
        expires_s=body.expires_s,
        unique=body.unique,
        trace=trace,
    )


def gone_type(here: Context, job_type: JobType) -> str | None:
    """Return a sentence that the workers of a type are long gone, or None if they are not."""
    since = job_type.gone_since(here.settings.type_ttl_s)
    if since is None:
        return None
    return f"no worker has served {job_type.name!r} since {since}; start one and submit the job then"


def _max_attempts(here: Context, body: Submission, job_type: JobType | None) -> int:
    of_type = job_type.max_attempts if job_type else None
    return body.max_attempts or of_type or here.settings.max_attempts


def _begin(
    here: Context, key: str | None, created: tuple[str, bytes, bool], lease_s: float | None
) -> Response:
    """Claim a job for the caller, who does it itself, and add the token to the answer."""
    job_id, _, is_new = created
    lease_s = lease_s or here.settings.lease_s
    ref = here.store.ref(job_id)
    # The same request again, as its answer was lost, gets the same claim.
    token = hashed(f"here {job_id} {key}") if key else secrets.token_urlsafe(16)
    claim = ref and here.store.claim(ref, token=token, lease_s=lease_s, worker=f"{caller().name}:here")
    if not claim:
        return answer_new(*created)
    answer = BegunJob(
        **claim.job.model_dump(),
        token=attempt_token(here, caller(), claim, lease_s, caller().name),
        lease_s=lease_s,
        traceparent=tracing.headers(claim.trace).get("traceparent"),
    )
    return answer_new(job_id, answer.model_dump_json().encode(), is_new)


def answer_made(job_id: str, document: bytes, is_new: bool) -> Response:
    """Answer with a new job, or the one that there is. Raises Problem if the caller may not see that."""
    if not is_new and not opens_job(job_id):
        raise Problem(409, "a job that this credential does not open has this unique key")
    return answer_new(job_id, document, is_new)


def answer_new(job_id: str, document: bytes, is_new: bool) -> Response:
    return json_answer(document, 202 if is_new else 200, {"Location": f"/jobs/{job_id}"})


def create(
    here: Context, new: NewJob, once: tuple[str, str] | None, *, limited: bool = True
) -> tuple[str, bytes, bool]:
    """Make a job, as JobStore.create, unless told otherwise within the owner's limits. Raises Problem."""
    with tracing.span(f"submit {new.type}", new.trace, kind="producer") as span, _refusals():
        job_id, document, is_new = here.store.create(
            replace(new, trace=span.context) if span.context != new.trace else new,
            once=once,
            limits=_limits(here) if limited else NO_LIMITS,
            replicas=here.settings.create_replicas,
        )
        span.set(tracing.about_job(job_id, new.owner, new.type))
    if is_new:
        _tell_workers(here, job_id, new)
    return job_id, document, is_new


def create_once(
    here: Context, once: tuple[str, str] | None, new: Callable[[], NewJob]
) -> tuple[str, bytes, bool]:
    """Make the job that `new` returns, if there is room for it, and return what `create` does. Raises
    Problem, as `new` may.

    A request that is repeated was accepted before. It is answered with its job even if there is no room
    now, or the job's type has changed or gone.
    """
    try:
        refuse_when_full(here)
        accepted = new()
    except Problem:
        made = once and here.store.made_before(caller().owner, once)
        # What was refused may have been refused since this credential does not open it.
        if not made or not opens_job(made[0]):
            raise
        return *made, False
    return create(here, accepted, once)


def create_many(
    here: Context, new: list[NewJob], once: tuple[str, str] | None, trace: str
) -> tuple[list[tuple[str, bool]], bool]:
    """Make many jobs, as JobStore.create_many, within the owner's limits. Raises Problem."""
    with tracing.span("submit many", trace, kind="producer") as span, _refusals():
        span.set({"headway.owner": new[0].owner, "headway.jobs": len(new)})
        if span.context:
            new = [replace(job, trace=span.context) for job in new]
        made, are_new = here.store.create_many(
            new, once=once, limits=_limits(here), replicas=here.settings.create_replicas
        )
    if are_new:
        for (job_id, is_new), job in zip(made, new, strict=True):
            if is_new:
                _tell_workers(here, job_id, job)
    return made, are_new


def _limits(here: Context) -> Limits:
    rate = here.settings.submit_rate
    return Limits(rate, max(1, round(rate * BURST_S)), here.settings.max_live_jobs)


def _tell_workers(here: Context, job_id: str, new: NewJob) -> None:
    metrics.count_submission(new.type)
    # Before its time its alarm is early enough.
    if new.foreign is None and (new.run_at_ms or 0) <= time.time() * 1000:
        here.dispatch.send(job_id, new.type, new.queue)


@contextmanager
def _refusals() -> Iterator[None]:
    """Turn what keeps the store from making a job in the block into a Problem."""
    try:
        yield
    except IdempotencyConflict:
        raise Problem(
            422, "this Idempotency-Key was used with another request; use a new key for a new job"
        ) from None
    except TooManyJobs as error:
        wait = str(math.ceil(error.retry_after_s))
        raise Problem(
            429, f"{error}; nothing was submitted, try again later", headers={"Retry-After": wait}
        ) from None
    except TooFewReplicas as error:
        detail = (
            f"it was accepted, but only {error}, so it may be lost with the primary (CREATE_REPLICAS); "
            "try again later, with the same Idempotency-Key"
        )
        raise Problem(503, detail, headers={"Retry-After": "2"}) from None
    except RecordError as error:
        raise Problem(422, str(error)) from None
    except redis.OutOfMemoryError:
        raise _full() from None


def refuse_when_full(here: Context) -> None:
    """Check that there is room for more than what the live jobs need. Raises Problem (503)."""
    if lacks_room(here.files, here.settings.min_free_bytes):
        detail = "the service's disk is nearly full; nothing was done"
        raise Problem(503, detail, headers={"Retry-After": "30"})
    if here.memory.is_full(caller().owner):
        raise _full()


def _full() -> Problem:
    return Problem(
        503, "Redis is nearly full; nothing was done; try again later", headers={"Retry-After": "30"}
    )

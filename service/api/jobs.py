"""The /jobs endpoints."""

from __future__ import annotations

import json
import math
import secrets
from typing import Annotated, Any, Literal, Self

import redis
from flask import Response
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    model_validator,
)

from headway.contract.encoding import RecordError, dumps
from headway.contract.foreign import Foreign
from headway.contract.keys import here_queue
from headway.contract.limits import Limits, TooManyJobs
from headway.contract.new_job import NewJob
from headway.contract.pages import JobPage
from headway.contract.records import (
    MAX_LABEL_VALUE_CHARS,
    MAX_LABELS,
    MAX_PARAMS_BYTES,
    Job,
)
from headway.contract.states import State
from headway.contract.store import IdempotencyConflict
from service import metrics
from service.api.attempt_token import LeaseS, attempt_token
from service.api.context import Context, caller, context, find_job
from service.api.idempotency import Idempotency, hashed
from service.api.names import Name
from service.api.operation import Answer, Query, Resource, json_answer
from service.api.problems import Problem, job_not_found
from service.api.room import lacks_room
from service.api.webhooks import WebhookTarget, submitted_target, target_of
from service.scheduling.job_types import JobType
from service.scheduling.sweeper import remove_tree

bp = Resource("jobs", "Jobs")

_NO_JOB = {404: "there is no such job"}
BURST_S = 10.0
"""How many seconds' worth of SUBMIT_RATE an owner may submit at once."""
FULL = 0.8
"""Share of Redis' maxmemory above which no new job is accepted; the rest is for the live ones."""

LabelValue = Annotated[str, StringConstraints(max_length=MAX_LABEL_VALUE_CHARS)]


def _small(params: dict[str, Any]) -> dict[str, Any]:
    """Before the type's schema has a word to say about each of thousands of parameters."""
    dumps(params, MAX_PARAMS_BYTES, "params")
    return params


class Submission(BaseModel):
    """The body of POST /jobs. `params` must fit the type's JSON Schema (GET /types)."""

    model_config = ConfigDict(extra="forbid")

    type: Annotated[str, Field(min_length=1, max_length=128, examples=["simulate"])]
    params: Annotated[dict[str, Any], AfterValidator(_small)] = Field(
        default_factory=dict, examples=[{"duration_s": 5}]
    )
    group: Name | None = None
    labels: Annotated[dict[Name, LabelValue], Field(max_length=MAX_LABELS)] = Field(default_factory=dict)
    max_attempts: Annotated[int, Field(ge=1, le=100)] | None = None
    timeout_s: Annotated[float, Field(gt=0, le=31_536_000, allow_inf_nan=False)] | None = None
    webhook: WebhookTarget | None = None
    """Who is told of this job, beside the owner's webhooks."""
    size: (
        Annotated[
            float,
            Field(gt=0, le=1e15, allow_inf_nan=False, description="beside the other jobs of its group"),
        ]
        | None
    ) = None
    run: Literal["here"] | None = None
    """`here`: the caller does the job itself. It is running at once, `token` in the answer is for reporting
    on it, and its type need not be known."""
    lease_s: LeaseS | None = None
    """With `run`: how long the caller may be silent before the job fails as lost; default: LEASE_S."""

    @model_validator(mode="after")
    def _one_attempt_here(self) -> Self:
        if self.run is None and self.lease_s is not None:
            raise ValueError('lease_s goes with "run": "here"; the lease of other jobs is their type\'s')
        if self.run is not None and (self.max_attempts or 1) > 1:
            raise ValueError("a job that is run here has one attempt: nobody else would make another")
        return self


class BegunJob(Job):
    """A submitted job. With `"run": "here"` the token and lease of its attempt."""

    token: str | None = None
    lease_s: float | None = None


class Listing(Query):
    """The query of GET /jobs."""

    model_config = ConfigDict(extra="forbid")

    state: State | None = None
    type: str | None = None
    group: str | None = None
    owner: Annotated[
        str | None, Field(description="whose; without it the caller's own. Others need the role `ops:all`")
    ] = None
    limit: Annotated[int, Field(ge=1, le=500)] = 50
    cursor: Annotated[int, Field(ge=0, le=2**53)] | None = None


class Children(BaseModel):
    counts: dict[State, int]


class JobAnswer(Job):
    """A job, why it waits, and its children. Events and the answers of a POST are without that: it is about
    the moment at which it is asked."""

    waiting_reason: str | None
    """Why a job that waits does not run now, for people; null if nothing that its owner may know of is in
    its way. Workers that are busy for other owners are none of that."""
    children: Children | None
    """Of a job whose task has submitted others, how many of these are in which state."""


class JobsPage(BaseModel):
    """Jobs, newest first; `next` is the cursor of the page after this one."""

    items: list[JobAnswer]
    next: str | None


@bp.operation(
    "POST",
    "/jobs",
    headers=Idempotency,
    body=Submission,
    answers={
        202: Answer.json("the new job", BegunJob, Location="the job's path"),
        200: Answer.json(
            "the job that this Idempotency-Key made before", BegunJob, Location="the job's path"
        ),
    },
    problems={
        422: "the body does not fit, or the Idempotency-Key belongs to another one; `errors` says why",
        429: "the owner submits too fast or has too many live jobs; nothing was submitted",
        503: "Redis cannot be reached, or it or the disk is nearly full; nothing was submitted",
    },
)
def submit_job(headers: Idempotency, body: Submission) -> Response:
    """Submit a job."""
    here = context()
    caller().check_group(body.group)
    refuse_when_full(here)
    job_type = here.types.get(body.type, caller().owner)
    if job_type is None and body.run is None:
        known = sorted(here.types.all(caller().owner))
        detail = f"unknown job type {body.type!r}"
        raise Problem(422, detail, errors=[("/type", detail)], known_types=known)
    faults = job_type.faults(body.params) if job_type else []
    if faults:
        raise Problem(
            422,
            f"{faults[0][0]}: {faults[0][1]}",
            errors=faults,
            known_types=sorted(here.types.all(caller().owner)),
        )
    foreign = Foreign(sent=False) if job_type and job_type.foreign and not body.run else None
    target = submitted_target(here, body.webhook) if body.webhook else None
    new = NewJob(
        owner=caller().owner,
        type=body.type,
        params=body.params,
        queue=job_type.queue if job_type and not body.run else here_queue(caller().owner),
        max_attempts=1 if body.run else _max_attempts(here, body, job_type),
        group=body.group,
        labels=body.labels,
        timeout_s=body.timeout_s or (None if foreign else here.settings.job_timeout_s),
        webhook=target,
        size=body.size or 1,
        foreign=foreign,
    )
    meaning = json.dumps(body.model_dump(mode="json"), sort_keys=True)
    created = create(here, new, headers.once(meaning))
    if body.run is None:
        return answer_new(*created)
    return _begin(here, headers.key, created, body.lease_s)


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
    )
    return answer_new(job_id, answer.model_dump_json().encode(), is_new)


def answer_new(job_id: str, document: bytes, is_new: bool) -> Response:
    return json_answer(document, 202 if is_new else 200, {"Location": f"/jobs/{job_id}"})


def create(here: Context, new: NewJob, once: tuple[str, str] | None) -> tuple[str, bytes, bool]:
    """Make a job, as JobStore.create, within the owner's limits. Raises Problem."""
    rate = here.settings.submit_rate
    limits = Limits(rate, max(1, round(rate * BURST_S)), here.settings.max_live_jobs)
    try:
        job_id, document, is_new = here.store.create(new, once=once, limits=limits)
    except IdempotencyConflict:
        raise Problem(
            422, "this Idempotency-Key was used with another request; use a new key for a new job"
        ) from None
    except TooManyJobs as error:
        wait = str(math.ceil(error.retry_after_s))
        raise Problem(
            429, f"{error}; nothing was submitted, try again later", headers={"Retry-After": wait}
        ) from None
    except RecordError as error:
        raise Problem(422, str(error)) from None
    except redis.OutOfMemoryError:
        raise _full() from None
    if is_new:
        metrics.JOBS_SUBMITTED.labels(new.type).inc()
        if new.foreign is None:
            here.dispatch.send(job_id, new.type, new.queue)
    return job_id, document, is_new


def refuse_when_full(here: Context) -> None:
    """Raises Problem (503) if there is no room for more than what the live jobs need."""
    if lacks_room(here.settings.data_dir, here.settings.min_free_bytes):
        detail = "the service's disk is nearly full; nothing was done"
        raise Problem(503, detail, headers={"Retry-After": "30"})
    partition = here.store.keys.partition(caller().owner)
    server = here.store.database.at(here.store.keys.clock(partition))
    memory: dict[str, Any] = server.info("memory")
    if memory.get("maxmemory") and memory["used_memory"] > FULL * memory["maxmemory"]:
        raise _full()


def _full() -> Problem:
    return Problem(
        503, "Redis is nearly full; nothing was done; try again later", headers={"Retry-After": "30"}
    )


@bp.operation("GET", "/jobs", query=Listing, answers={200: Answer.json("a page of jobs", JobsPage)})
def list_jobs(query: Listing) -> Response:
    """List jobs, newest first."""
    here = context()
    who = caller()
    who.check_group(query.group)
    owner = who.check_owner(query.owner)
    found, following = here.store.listings.page(owner, **query.model_dump(exclude={"owner"}))
    items = here.fleet.explain(found)
    cursor = b"null" if following is None else b'"%d"' % following
    return json_answer(b'{"items":[%s],"next":%s}' % (b",".join(items), cursor))


@bp.operation("GET", "/jobs/<job_id>", answers={200: Answer.json("the job", JobAnswer)}, problems=_NO_JOB)
def get_job(job_id: str) -> Response:
    """One job."""
    return json_answer(context().fleet.explain([find_job(job_id)])[0])


@bp.operation(
    "DELETE",
    "/jobs/<job_id>",
    answers={204: Answer("the job is removed")},
    problems={**_NO_JOB, 409: "the job has not ended yet"},
)
def delete_job(job_id: str) -> Response:
    """Remove an ended job, with its events and artifacts."""
    here = context()
    if not find_job(job_id).ended:
        raise Problem(409, "the job has not ended yet; cancel it first")
    here.store.groups.cancel_orphans(job_id)
    remove_tree(here.settings.data_dir / "artifacts" / job_id)
    here.store.remove(job_id)
    return Response(status=204)


@bp.operation(
    "POST",
    "/jobs/<job_id>/cancel",
    answers={
        202: Answer.json("the job, canceled or about to be", Job),
        200: Answer.json("the job, which had ended before", Job),
    },
    problems=_NO_JOB,
)
def cancel_job(job_id: str) -> Response:
    """Cancel a job."""
    find_job(job_id)
    found = context().store.cancel(job_id)
    if found is None:
        raise job_not_found(job_id)
    document, had_ended = found
    return json_answer(document, 200 if had_ended else 202)


@bp.operation(
    "POST",
    "/jobs/<job_id>/retry",
    headers=Idempotency,
    answers={
        202: Answer.json("the new job", Job, Location="the job's path"),
        200: Answer.json("the job that this Idempotency-Key made before", Job, Location="the job's path"),
    },
    problems={
        **_NO_JOB,
        409: "the job has not ended yet, or only whoever submitted it can submit it again",
        422: "the Idempotency-Key belongs to another request",
        429: "the owner submits too fast or has too many live jobs; nothing was submitted",
        503: "Redis cannot be reached, or it or the disk is nearly full; nothing was submitted",
    },
)
def retry_job(job_id: str, headers: Idempotency) -> Response:
    """Submit an ended job again, as a new job that starts from the old one's checkpoint."""
    here = context()
    page = find_job(job_id)
    caller().check_group(page.group)
    if not page.ended:
        raise Problem(409, "the job has not ended yet; cancel it, or wait for its end, and retry then")
    refuse_when_full(here)
    try:
        new = again(here, page)
    except CannotRepeat as error:
        raise Problem(409, str(error)) from None
    return answer_new(*create(here, new, headers.once(f"retry {page.id}")))


class CannotRepeat(Exception):
    """Only whoever submitted the job can submit it again; the message says why."""


def again(here: Context, page: JobPage) -> NewJob:
    """Return the submission that repeats an ended job, from its checkpoint. Raises CannotRepeat."""
    if b"_partial" in page.fields:
        raise CannotRepeat("not all arguments of this task were kept: only its project can send it again")
    old = Job.model_validate_json(page.document)
    # The type may have moved to another queue since.
    job_type = here.types.get(old.type, old.owner)
    if job_type is None and page.fields[b"_queue"].decode() == here_queue(old.owner):
        raise CannotRepeat("its own program did this job, and nobody else would: only that can do it again")
    return NewJob(
        owner=old.owner,
        type=old.type,
        params=old.params,
        queue=job_type.queue if job_type else page.fields[b"_queue"].decode(),
        max_attempts=old.max_attempts,
        group=old.group,
        labels=old.labels,
        timeout_s=old.timeout_s,
        retry_of=old.id,
        checkpoint=page.fields.get(b"_checkpoint", b"").decode(),
        webhook=target_of(page),
        size=old.size or 1,
        foreign=Foreign(sent=False) if b"_foreign" in page.fields else None,
    )

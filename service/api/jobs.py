"""The /jobs endpoints."""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any

import redis
from apiflask import APIBlueprint
from flask import Response, request
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from headway.contract.encoding import RecordError, RecordTooLarge
from headway.contract.records import MAX_LABEL_CHARS, MAX_LABEL_VALUE_CHARS, MAX_LABELS, Job
from headway.contract.states import State
from headway.contract.store import IdempotencyConflict, NewJob
from service import metrics
from service.api.context import OWNER, Context, context
from service.api.problems import Problem, job_not_found

bp = APIBlueprint("jobs", __name__, tag="Jobs")

FULL = 0.8
"""Share of the store's maxmemory from which no new job is taken: the rest is for those that live."""

Name = Annotated[
    str, StringConstraints(min_length=1, max_length=MAX_LABEL_CHARS, pattern=r"^[^\x00-\x1f\x7f]+$")
]
LabelValue = Annotated[str, StringConstraints(max_length=MAX_LABEL_VALUE_CHARS)]


class Submission(BaseModel):
    """The body of POST /jobs. `params` must fit the type's JSON Schema (GET /types)."""

    model_config = ConfigDict(extra="forbid")

    type: Annotated[str, Field(min_length=1, max_length=128, examples=["simulate"])]
    params: dict[str, Any] = Field(default_factory=dict, examples=[{"duration_s": 5}])
    group: Name | None = None
    labels: Annotated[dict[Name, LabelValue], Field(max_length=MAX_LABELS)] = Field(default_factory=dict)
    max_attempts: Annotated[int, Field(ge=1, le=100)] | None = None
    timeout_s: Annotated[float, Field(gt=0, le=31_536_000, allow_inf_nan=False)] | None = None


class Listing(BaseModel):
    """The query of GET /jobs."""

    model_config = ConfigDict(extra="forbid")

    state: State | None = None
    type: str | None = None
    group: str | None = None
    limit: Annotated[int, Field(ge=1, le=500)] = 50
    cursor: Annotated[int, Field(ge=0, le=2**53)] | None = None


class JobAnswer(Job):
    """A job, and why it waits. Events and the answers of a POST are without that: it is about the moment
    at which it is asked."""

    waiting_reason: str | None
    """Why a queued or retrying job does not run now, for people; null if nothing is in its way."""


class JobsPage(BaseModel):
    """Jobs, newest first; `next` is the cursor of the page after this one."""

    items: list[JobAnswer]
    next: str | None


def _json(body: bytes, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(
        body, status, {"Cache-Control": "no-store", **(headers or {})}, mimetype="application/json"
    )


@bp.post("/jobs")
@bp.input(Submission, location="json")
@bp.output(Job, status_code=202)
@bp.doc(summary="Submit a job", responses={200: "the job that this Idempotency-Key made before"})
def submit(json_data: Submission) -> Response:
    here = context()
    _refuse_when_full(here)
    job_type = here.types.get(json_data.type)
    if job_type is None:
        known = sorted(here.types.all())
        detail = f"{json_data.type!r} is no job type known here"
        raise Problem(422, detail, errors=[("/type", detail)], known_types=known)
    faults = job_type.faults(json_data.params)
    if faults:
        raise Problem(
            422, f"{faults[0][0]}: {faults[0][1]}", errors=faults, known_types=sorted(here.types.all())
        )
    new = NewJob(
        owner=OWNER,
        type=job_type.name,
        params=json_data.params,
        queue=job_type.queue,
        max_attempts=json_data.max_attempts or job_type.max_attempts or here.settings.max_attempts,
        group=json_data.group,
        labels=json_data.labels,
        timeout_s=json_data.timeout_s,
    )
    # The request's meaning and not its bytes: a client may order or space its JSON anew.
    meaning = json.dumps(json_data.model_dump(mode="json"), sort_keys=True)
    return _create(here, new, _once(meaning))


def _once(meaning: str) -> tuple[str, str] | None:
    """The request's Idempotency-Key and a hash of what it asks for."""
    key = request.headers.get("Idempotency-Key")
    if key is None:
        return None
    if not 1 <= len(key) <= 255:
        raise Problem(400, "Idempotency-Key has 1 to 255 characters")
    name = hashlib.blake2b(key.encode("utf-8", "replace"), digest_size=20).hexdigest()
    return name, hashlib.blake2b(meaning.encode("utf-8", "replace"), digest_size=20).hexdigest()


def _create(here: Context, new: NewJob, once: tuple[str, str] | None) -> Response:
    try:
        job_id, document, is_new = here.store.create(new, once=once)
    except IdempotencyConflict:
        raise Problem(422, "this Idempotency-Key belongs to a request with another body") from None
    except RecordTooLarge as error:
        raise Problem(422, str(error), errors=[("/params", str(error))]) from None
    except RecordError as error:
        raise Problem(422, str(error)) from None
    except redis.OutOfMemoryError:
        raise _full() from None
    if is_new:
        metrics.JOBS_SUBMITTED.labels(new.type).inc()
        here.dispatch.send(job_id, new.type, new.queue)
    return _json(document, 202 if is_new else 200, {"Location": f"/jobs/{job_id}"})


def _refuse_when_full(here: Context) -> None:
    memory: dict[str, Any] = here.store.redis.info("memory")
    if memory.get("maxmemory") and memory["used_memory"] > FULL * memory["maxmemory"]:
        raise _full()


def _full() -> Problem:
    return Problem(503, "the store is nearly full; nothing was submitted", headers={"Retry-After": "30"})


@bp.get("/jobs")
@bp.input(Listing, location="query")
@bp.output(JobsPage)
@bp.doc(summary="List jobs, newest first")
def list_jobs(query_data: Listing) -> Response:
    here = context()
    found, following = here.store.listings.page(OWNER, **query_data.model_dump())
    items = here.fleet.explain(found)
    cursor = b"null" if following is None else b'"%d"' % following
    return _json(b'{"items":[%s],"next":%s}' % (b",".join(items), cursor))


@bp.get("/jobs/<job_id>")
@bp.output(JobAnswer)
@bp.doc(summary="One job", responses={404: "no such job"})
def get_job(job_id: str) -> Response:
    here = context()
    page = here.store.read(job_id, None, 0)
    if page is None:
        raise job_not_found(job_id)
    return _json(here.fleet.explain([page])[0])


@bp.post("/jobs/<job_id>/cancel")
@bp.output(Job, status_code=202)
@bp.doc(summary="Cancel a job", responses={200: "it had ended before", 404: "no such job"})
def cancel_job(job_id: str) -> Response:
    found = context().store.cancel(job_id)
    if found is None:
        raise job_not_found(job_id)
    document, had_ended = found
    return _json(document, 200 if had_ended else 202)


@bp.post("/jobs/<job_id>/retry")
@bp.output(Job, status_code=202)
@bp.doc(
    summary="Submit an ended job again",
    responses={
        200: "the job that this Idempotency-Key made before",
        404: "no such job",
        409: "the job has not ended yet",
    },
)
def retry_job(job_id: str) -> Response:
    here = context()
    page = here.store.read(job_id, None, 0)
    if page is None:
        raise job_not_found(job_id)
    if not page.ended:
        raise Problem(409, "the job has not ended yet")
    _refuse_when_full(here)
    old = Job.model_validate_json(page.document)
    # The type may have moved to another queue since.
    job_type = here.types.get(old.type)
    new = NewJob(
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
    )
    return _create(here, new, _once(f"retry {old.id}"))

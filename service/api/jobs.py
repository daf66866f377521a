"""Jobs that exist: list, count, read, cancel, retry, remove."""

from __future__ import annotations

import json
import re
import time
from dataclasses import replace
from typing import Annotated

from flask import Response
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from headway.contract.data_dir import ARTIFACTS
from headway.contract.encoding import dumps
from headway.contract.foreign import Foreign
from headway.contract.keys import SERVICE_QUEUE, here_queue
from headway.contract.new_job import NewJob
from headway.contract.pages import JobPage
from headway.contract.records import MAX_LABELS, USUAL_PRIORITY, Job
from headway.contract.states import State
from service.api.auth.roles import check_role
from service.api.context import Context, caller, context, find_job
from service.api.idempotency import Submitting
from service.api.operation import Answer, Query, Resource, json_answer
from service.api.problems import Problem, job_not_found
from service.api.submission import time_ms
from service.api.submissions import (
    NOT_ACCEPTED,
    answer_made,
    create_once,
    gone_type,
)
from service.api.webhooks import target_of

bp = Resource("jobs", "Jobs")

_NO_JOB = {404: "there is no such job"}
_LABEL = re.compile(r"((?:\\[\\:]|[^:])+):(.*)", re.DOTALL)
Label = Annotated[str, StringConstraints(pattern=r"^[^:]+:", max_length=520)]


def labels_of(wanted: list[str]) -> dict[str, str]:
    """Return labels that are given as `name:value`; in the name a colon or backslash has a backslash before
    it. Raises Problem (422) for two values of one name, which no job has."""
    found = [match.groups() for label in wanted if (match := _LABEL.fullmatch(label))]
    labels = {re.sub(r"\\([\\:])", r"\1", name): value for name, value in found}
    if len(labels) < len(found):
        detail = "a job has one value of each label, and one is asked for twice"
        raise Problem(422, detail, errors=[("/label", detail)])
    return labels


class Listing(Query):
    """The query of GET /jobs."""

    model_config = ConfigDict(extra="forbid")

    state: State | None = None
    type: str | None = None
    group: str | None = None
    label: Annotated[
        list[Label],
        Field(
            default_factory=list,
            max_length=MAX_LABELS,
            description="`name:value`, with a backslash before each colon and backslash of the name; given "
            "more than once, all of them",
        ),
    ]
    older_s: Annotated[
        float | None, Field(ge=0, le=1e10, allow_inf_nan=False, description="made at least so long ago")
    ] = None
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


@bp.operation("GET", "/jobs", query=Listing, answers={200: Answer.json("a page of jobs", JobsPage)})
def list_jobs(query: Listing) -> Response:
    """List jobs, newest first."""
    here = context()
    who = caller()
    who.check_group(query.group)
    owner = who.check_owner(query.owner)
    found, following = here.store.listings.page(
        owner, labels=labels_of(query.label), **query.model_dump(exclude={"owner", "label"})
    )
    items = here.fleet.explain(found)
    cursor = b"null" if following is None else b'"%d"' % following
    return json_answer(b'{"items":[%s],"next":%s}' % (b",".join(items), cursor))


class CountsQuery(Query):
    """The query of GET /jobs:counts."""

    model_config = ConfigDict(extra="forbid")

    owner: Annotated[
        str | None, Field(description="whose; without it the caller's own. Others need the role `ops:all`")
    ] = None


class Counts(BaseModel):
    """How many jobs are in which state: all, and those of each type."""

    states: dict[State, int]
    types: dict[str, dict[State, int]]


@bp.operation(
    "GET", "/jobs:counts", query=CountsQuery, answers={200: Answer.json("how many there are", Counts)}
)
def count_jobs(query: CountsQuery) -> Response:
    """Count jobs by state and type."""
    who = caller()
    who.check_group(None)
    held = context().store.listings.counts(who.check_owner(query.owner))
    types = {name: {state: held[name].get(state, 0) for state in State} for name in sorted(held)}
    states = {state: sum(counts[state] for counts in types.values()) for state in State}
    return json_answer(dumps({"states": states, "types": types}))


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
    if not find_job(job_id).ended:
        raise Problem(409, "the job has not ended yet; cancel it first")
    remove(context(), job_id)
    return Response(status=204)


def remove(here: Context, job_id: str) -> bool:
    """Remove an ended job with its files. Returns False if there is no such job. Raises JobLive."""
    here.store.groups.cancel_orphans(job_id)
    here.files.remove(f"{ARTIFACTS}/{job_id}")
    return here.store.remove(job_id)


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
    headers=Submitting,
    answers={
        202: Answer.json("the new job", Job, Location="the job's path"),
        200: Answer.json("the job that this Idempotency-Key made before", Job, Location="the job's path"),
    },
    problems={
        **_NO_JOB,
        409: "the job has not ended yet, only whoever submitted it can repeat it, or its type is long gone",
        422: "the Idempotency-Key belongs to another request",
        429: "the owner submits too fast or has too many live jobs; nothing was submitted",
        503: NOT_ACCEPTED,
    },
)
def retry_job(job_id: str, headers: Submitting) -> Response:
    """Submit an ended job again, as a new job that starts from the old one's checkpoint."""
    here = context()
    page = find_job(job_id)
    caller().check_group(page.group)
    if page.fields[b"_queue"].decode() == SERVICE_QUEUE:
        # Its type is what the service would do to other jobs, once more.
        kind: str = json.loads(page.fields[b"type"])
        check_role(caller(), "POST /" + kind.replace(".", ":"))
    if not page.ended:
        raise Problem(409, "the job has not ended yet; cancel it, or wait for its end, and retry then")

    def accept() -> NewJob:
        try:
            new = again(here, page)
        except CannotRepeat as error:
            raise Problem(409, str(error)) from None
        return replace(new, trace=headers.trace or new.trace)

    return answer_made(*create_once(here, headers.once(lambda: f"retry {page.id}"), accept))


def retry_once(job_id: str) -> tuple[str, str]:
    """Return the idempotency key and hash with which a job is retried once only, however many requests
    that retry many jobs find it."""
    return "retry-in-group-" + job_id, job_id


class CannotRepeat(Exception):
    """Only whoever submitted the job can submit it again; the message says why."""


def again(here: Context, page: JobPage) -> NewJob:
    """Return the submission that repeats an ended job, from its checkpoint, and not before its time if that
    is still to come. Raises CannotRepeat."""
    if b"_partial" in page.fields:
        raise CannotRepeat("not all arguments of this task were kept: only its project can send it again")
    old = Job.model_validate_json(page.document)
    queue = page.fields[b"_queue"].decode()
    # The type may have moved to another queue since. What the service does itself is no worker's.
    job_type = None if queue == SERVICE_QUEUE else here.types.get(old.type, old.owner)
    if job_type is None and queue == here_queue(old.owner):
        raise CannotRepeat("its own program did this job, and nobody else would: only that can do it again")
    if job_type is None and b"_foreign" in page.fields:
        raise CannotRepeat(f"{old.type} is no job type here: only the task's project can send it again")
    if job_type is not None and (gone := gone_type(here, job_type)):
        raise CannotRepeat(gone)
    due = max(time_ms(at) for at in (old.created_at, old.run_at) if at)
    return NewJob(
        owner=old.owner,
        type=old.type,
        params=old.params,
        queue=job_type.queue if job_type else queue,
        max_attempts=old.max_attempts,
        group=old.group,
        labels=old.labels,
        timeout_s=old.timeout_s,
        retry_of=old.id,
        checkpoint=page.fields.get(b"_checkpoint", b"").decode(),
        webhook=target_of(page),
        size=old.size or 1,
        priority=USUAL_PRIORITY if old.priority is None else old.priority,
        unique=old.unique,
        run_at_ms=due if due > time.time() * 1000 else None,
        expires_s=(time_ms(old.expires_at) - due) / 1000 if old.expires_at else None,
        foreign=Foreign(sent=False) if b"_foreign" in page.fields else None,
        trace=page.fields.get(b"_trace", b"").decode(),
    )

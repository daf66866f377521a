"""PUT /types/{name} and POST /claims: workers in any language, over HTTP."""

from __future__ import annotations

import re
import secrets
import select
import sys
import time
from contextlib import suppress
from typing import Annotated, Any

import gevent.monkey
import redis
from flask import Response, request
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from headway import tracing
from headway.contract.encoding import dumps, pointer
from headway.contract.keys import own_queue
from headway.contract.records import Job
from headway.contract.store import Claim
from service.api.attempt_token import LeaseS, attempt_token
from service.api.auth.caller import Caller
from service.api.context import Context, caller, context
from service.api.events import waiting
from service.api.job_types import JobType
from service.api.names import Name
from service.api.operation import Answer, Resource, json_answer
from service.api.problems import Problem
from service.scheduling.declared_schema import MAX_SCHEMA_BYTES, faults

bp = Resource("claims", "Workers in any language")

MAX_WAIT_S = 60.0
MAX_TYPES = 64
"""In one claim."""
MAX_OWN_TYPES = 1000
"""Of one owner."""
LOOK_S = 1.0
"""Most seconds between two looks at the store while a claim waits."""
LOOK_AGAIN_S = 0.05
"""Fewest seconds between two looks, however much happens."""
ALIVE_S = 10.0
"""A worker counts as alive for this long after its claim or its lease is over."""

TYPE_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$"
TypeName = Annotated[str, StringConstraints(pattern=TYPE_NAME)]
WorkerName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._@:-]{0,127}$")]


def _small(schema: dict[str, Any]) -> dict[str, Any]:
    dumps(schema, MAX_SCHEMA_BYTES, "params")
    return schema


class Declaration(BaseModel):
    """A job type that the caller's workers will claim. `params` is the JSON Schema of its parameters, in
    the keywords that GET /docs lists."""

    model_config = ConfigDict(extra="forbid")

    title: Name | None = None
    params: Annotated[dict[str, Any], AfterValidator(_small)] = Field(
        default_factory=lambda: {"type": "object"}
    )
    lease_s: LeaseS | None = None
    """How long a worker may be silent; default: the service's LEASE_S."""
    max_attempts: Annotated[int, Field(ge=1, le=100)] | None = None


class ClaimRequest(BaseModel):
    """Who asks for a job of which types, and for how many seconds it waits for one."""

    model_config = ConfigDict(extra="forbid")

    types: Annotated[list[TypeName], Field(min_length=1, max_length=MAX_TYPES)]
    worker: WorkerName
    wait: Annotated[float, Field(ge=0, le=MAX_WAIT_S, allow_inf_nan=False)] = 0


class ClaimedJob(BaseModel):
    """A job to be done now. `token` is the bearer credential for this attempt alone. Its holder reports at
    least every `lease_s` seconds, or the job is given to another."""

    job: Job
    attempt: int
    token: str
    lease_s: float
    checkpoint: Any
    traceparent: str | None = None
    """The span that this attempt's are children of (W3C Trace Context), if the job is in a trace."""


@bp.operation(
    "PUT",
    "/types/<type_name>",
    body=Declaration,
    answers={200: Answer.json("the type, as GET /types lists it", JobType)},
    problems={409: "workers of this installation serve a type of that name"},
)
def declare_type(type_name: str, body: Declaration) -> Response:
    """Declare a job type, or declare it anew.

    It is the owner's alone, and known for a day after it was last declared or claimed.
    """
    here, who = context(), caller()
    who.check_group(None)
    _check_name(type_name)
    if type_name in here.types.all(fresh=True):
        raise Problem(409, f"workers of this installation serve {type_name!r}; choose another name")
    wrong = faults(body.params)
    if wrong:
        raise Problem(422, f"{wrong[0][0]}: {wrong[0][1]}", errors=wrong)
    own = here.types.all(who.owner, fresh=True)
    if type_name not in own and len(own) >= MAX_OWN_TYPES:
        raise Problem(422, f"an owner has at most {MAX_OWN_TYPES} types of its own")
    description = {
        "title": body.title or type_name,
        "params": body.params,
        "queue": own_queue(who.owner, type_name),
        "lease_s": body.lease_s,
        "max_attempts": body.max_attempts,
    }
    here.store.registry.declare(who.owner, type_name, dumps(description))
    declared = here.types.all(who.owner, fresh=True)[type_name]
    answer = {name: getattr(declared, name) for name in JobType.model_fields}
    return json_answer(dumps(answer))


@bp.operation(
    "POST",
    "/claims",
    body=ClaimRequest,
    answers={
        200: Answer.json("a job to do now", ClaimedJob),
        204: Answer("no job came while the claim waited"),
    },
    problems={429: "too many streams and long polls are open"},
)
def claim_job(body: ClaimRequest) -> Response:
    """Take the next job of one of these types, waiting for one if need be."""
    here, who = context(), caller()
    who.check_group(None)
    _check_types(here, who, body.types)
    _note_claimer(here, who, body.worker, body.types, body.wait + ALIVE_S)
    claim = _await_job(here, who, body) if body.wait else _take(here, who, body)
    if claim is None:
        return Response(status=204)
    lease_s = _lease_s(here, who, claim.job.type)
    _note_claimer(here, who, body.worker, [claim.job.type], lease_s + ALIVE_S)
    attributes = tracing.about_job(claim.job.id, who.owner, claim.job.type, claim.job.attempt)
    with tracing.span("claim", claim.trace, kind="consumer", attributes=attributes) as span:
        answer = ClaimedJob(
            job=claim.job,
            attempt=claim.job.attempt,
            token=attempt_token(here, who, claim, lease_s, body.worker),
            lease_s=lease_s,
            checkpoint=claim.decoded_checkpoint,
            traceparent=tracing.headers(span.context).get("traceparent"),
        )
    return json_answer(answer.model_dump_json())


def _note_claimer(here: Context, who: Caller, worker: str, types: list[str], alive_s: float) -> None:
    """Note that the types are served, for `alive_s` seconds; or do without, if that server is away: the
    owner's jobs may be at another one, and are handed out all the same."""
    with suppress(redis.RedisError):
        here.store.registry.note_claimer(who.owner, worker, types, alive_s)


def _check_name(name: str) -> None:
    if not re.fullmatch(TYPE_NAME, name):
        fault = "begins with a letter or digit; more of these, and . _ -, up to 128"
        raise Problem(422, f"the name of a type {fault}", errors=[("/type_name", fault)])


def _check_types(here: Context, who: Caller, types: list[str]) -> None:
    for place, name in enumerate(types):
        known = here.types.get(name, who.owner)
        if known is None:
            detail = f"the type {name!r} is not known; declare it with PUT /types/{name}"
        elif not known.declared:
            detail = f"{name!r} is served by workers of this installation, not over HTTP"
        else:
            continue
        raise Problem(422, detail, errors=[(pointer("types", place), detail)])


def _lease_s(here: Context, who: Caller, type: str) -> float:
    known = here.types.get(type, who.owner)
    return (known.lease_s if known else None) or here.settings.lease_s


def _await_job(here: Context, who: Caller, body: ClaimRequest) -> Claim | None:
    deadline = time.monotonic() + body.wait
    # A new job is an event of its owner's feed. What else makes one claimable is none: hence LOOK_S.
    with waiting(here, here.store.keys.feed(who.owner)) as poll:
        while not _is_gone():
            poll.woken.clear()
            claim = _take(here, who, body)
            left = deadline - time.monotonic()
            if claim is not None or left <= 0 or here.hub.draining:
                return claim
            poll.woken.wait(min(left, LOOK_S))
            time.sleep(min(max(0.0, deadline - time.monotonic()), LOOK_AGAIN_S))
    return None


def _take(here: Context, who: Caller, body: ClaimRequest) -> Claim | None:
    """Claim a job that waits. Of several types each has its turn to be looked at first."""
    types = list(body.types)
    secrets.SystemRandom().shuffle(types)
    partition = here.store.keys.partition(who.owner)
    for name in types:
        while (found := here.store.next(partition, own_queue(who.owner, name))) is not None:
            ref, _ = found
            claim = here.store.claim(
                ref,
                token=secrets.token_urlsafe(16),
                lease_s=_lease_s(here, who, name),
                worker=f"{body.worker}:http",
            )
            if claim is not None:
                return claim
            # Another was faster, or the job's deadline is over and its alarm about to end it.
            if here.store.next(partition, ref.queue) == found:
                break
    return None


def _is_gone() -> bool:
    """Whether the client has hung up: a job that it is given would be lost until its lease is over."""
    sock = request.environ.get("gunicorn.socket")
    if sock is None or sys.platform != "linux":
        return False
    poll = gevent.monkey.get_original("select", "poll")()
    poll.register(sock.fileno(), select.POLLRDHUP)
    return bool(poll.poll(0))

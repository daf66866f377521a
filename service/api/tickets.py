"""POST /tickets: for whoever cannot send a header, such as EventSource, a <video> or a download link."""

from __future__ import annotations

import time
from typing import Annotated, Self

import redis
from flask import Response
from pydantic import BaseModel, ConfigDict, Field, model_validator

from headway.contract.encoding import dumps, rfc3339
from headway.contract.events import HIGHEST, EventId
from service.api.auth.authentication import grant
from service.api.auth.roles import FETCH, WATCH
from service.api.context import caller, context
from service.api.events import MAX_JOBS
from service.api.names import Name
from service.api.operation import Answer, Resource, json_answer
from service.api.problems import Problem, job_not_found

bp = Resource("tickets", "Access")

MAX_TTL_S = 3600
_NO_EVENTS = EventId(HIGHEST.ms, 0)
INLINE_JOBS = 50
"""More jobs are kept in the store, and the ticket names the list: it must fit into a request line."""


class TicketRequest(BaseModel):
    """What the ticket opens: some jobs, a group, or all of the caller's."""

    model_config = ConfigDict(extra="forbid")

    jobs: Annotated[list[str] | None, Field(min_length=1, max_length=MAX_JOBS)] = None
    group: Name | None = None
    feed: bool = False
    artifacts: Annotated[bool, Field(description="also the files that the jobs made")] = False
    ttl_s: Annotated[int, Field(ge=1, le=MAX_TTL_S)] = 900

    @model_validator(mode="after")
    def _one_of_them(self) -> Self:
        if sum((self.jobs is not None, self.group is not None, self.feed)) != 1:
            raise ValueError("give one of `jobs`, `group` and `feed`")
        return self


class Ticket(BaseModel):
    """`ticket` is good as `?ticket=` until it expires, as often as needed. `events_url` is the stream of
    all that it opens."""

    ticket: str
    expires_at: str
    events_url: str


@bp.operation(
    "POST",
    "/tickets",
    body=TicketRequest,
    answers={201: Answer.json("the ticket", Ticket)},
    problems={404: "there is no job of one of these ids"},
)
def create_ticket(body: TicketRequest) -> Response:
    """Make a ticket: it opens exactly these jobs, for reading, to whoever has it.

    An open stream is closed with `shutdown` at most a minute after the ticket expires.
    """
    here, who = context(), caller()
    payload = grant(who, [WATCH, FETCH] if body.artifacts else [WATCH], time.time() + body.ttl_s)
    path = "/events"
    if body.jobs is not None:
        jobs = list(dict.fromkeys(body.jobs))
        payload["owner"] = _owner_of(jobs)
        payload["groups"] = None
        if len(jobs) <= INLINE_JOBS:
            payload["jobs"] = jobs
        else:
            payload["list"] = here.store.access.keep_list(jobs, body.ttl_s)
        if len(jobs) == 1:
            path = f"/jobs/{jobs[0]}/events"
    else:
        who.check_group(body.group)
        payload["jobs"] = None
        payload["groups"] = None if body.group is None else [body.group]
    ticket = here.authentication.signer.sign("t", payload)
    answer = {
        "ticket": ticket,
        "expires_at": rfc3339(payload["exp"] * 1000),
        "events_url": f"{path}?ticket={ticket}",
    }
    return json_answer(dumps(answer), 201)


def _owner_of(jobs: list[str]) -> str:
    """Return the owner of jobs that the caller sees. Raises Problem."""
    pages = context().store.read_each([(job_id, _NO_EVENTS, caller().sees_only) for job_id in jobs], 1)
    owners = set()
    for job_id, page in zip(jobs, pages, strict=True):
        if isinstance(page, redis.RedisError):
            raise page
        if page is None or not caller().sees(page):
            raise job_not_found(job_id)
        owners.add(page.owner)
    if len(owners) > 1:
        raise Problem(422, "the jobs belong to different owners; make a ticket for each")
    return owners.pop()

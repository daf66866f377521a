"""The /events endpoints: streams of one job and of many, and the same as JSON for clients that poll."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, Self

import redis
from flask import Response, request
from pydantic import Field, StringConstraints, model_validator

from headway.contract.events import ZERO, EventId
from headway.contract.keys import partition_of
from headway.contract.pages import JobPage
from service import metrics
from service.api.auth.caller import Caller
from service.api.context import Context, caller, context, find_job
from service.api.event_models import EventPage, StreamEvent
from service.api.operation import JSON, Answer, Headers, Query, Resource, json_answer
from service.api.problems import Problem, job_not_found, store_problem
from service.streaming import sse
from service.streaming.catchup import (
    CatchUp,
    FeedCatchUp,
    JobCatchUp,
    JobGone,
    JobListCatchUp,
    cursor_fault,
)
from service.streaming.opening import (
    EventStream,
    StreamLimitReached,
    StreamRequest,
    event_id,
    open_stream,
)
from service.streaming.primitives import new_event
from service.streaming.stream_limits import Holder

bp = Resource("streams", "Events")

MAX_JOBS = 1000
POLL_LIMIT = 1000
POLL_WAIT_S = 60.0
POLL_RETRY_S = 5
STREAM_HEADERS = {**sse.HEADERS, "Content-Type": sse.CONTENT_TYPE}

Cursor = Annotated[str, StringConstraints(strip_whitespace=True, pattern=r"^([0-9]{1,20}-[0-9]{1,20}|0|)$")]
"""An event's id, or `0` for all that is kept. An empty one counts as none."""


class Resumption(Headers):
    last_event_id: Annotated[
        str,
        Field(
            alias="Last-Event-ID",
            description="the last event seen: the stream goes on after it; `0`: all that is kept",
        ),
    ] = ""


class Watching(Query):
    refusal: ClassVar[int] = 400

    last_event_id: Annotated[
        Cursor, Field(description="the same for clients that cannot send the header")
    ] = ""
    heartbeat: Annotated[
        Literal["comment", "event", ""],
        Field(description="how an idle stream shows that it lives; scripts in a browser see only `event`"),
    ] = ""


class JobWatching(Watching):
    """`after`, `limit` and `wait` are for clients that poll."""

    after: Annotated[Cursor, Field(description="polling: the cursor")] = ""
    limit: Annotated[int, Field(ge=1, le=POLL_LIMIT, description="polling: events at most")] = 100
    wait: Annotated[
        float,
        Field(
            ge=0, le=POLL_WAIT_S, allow_inf_nan=False, description="polling: seconds to wait for an event"
        ),
    ] = 0


class FeedWatching(Watching):
    job: list[str] = Field(
        default_factory=list, max_length=MAX_JOBS, description="a job; may be given many times"
    )
    group: Annotated[str | None, Field(description="all jobs of a group")] = None
    owner: Annotated[
        str | None,
        Field(
            description="whose jobs or group; without it the caller's own. Others need the role `ops:all`"
        ),
    ] = None

    @model_validator(mode="after")
    def _one_of_them(self) -> Self:
        if self.job and self.group is not None:
            raise ValueError("give `job` or `group`, not both")
        return self


def wants_json() -> bool:
    # Parsing the header takes longer than all else here, and hardly any stream needs it.
    if "json" not in request.headers.get("Accept", ""):
        return False
    accepted = request.accept_mimetypes
    return accepted.best_match([sse.CONTENT_TYPE, "application/json"]) == "application/json"


class LongPoll:
    """A client that waits for the next event."""

    def __init__(self, topics: tuple[str, ...]) -> None:
        self.topics = topics
        self.generation = -1
        self.woken = new_event()

    def notify(self) -> None:
        self.woken.set()


@contextmanager
def waiting(here: Context, topic: str) -> Iterator[LongPoll]:
    """Watch a topic for the length of the block, which counts as a stream. Raises Problem (429)."""
    holder = _holder()
    if not here.limits.admit(holder):
        metrics.STREAMS_REFUSED.inc()
        raise Problem(
            429, "too many streams and long polls are open", headers={"Retry-After": str(POLL_RETRY_S)}
        )
    poll = LongPoll((topic,))
    here.hub.start()
    here.hub.join(poll)
    try:
        yield poll
    finally:
        here.hub.leave(poll)
        here.limits.release(holder)


@dataclass(frozen=True, slots=True)
class StreamAnswer:
    """The answer to a request for a stream."""

    status: int
    headers: Mapping[str, str]
    body: EventStream | bytes


def answer_stream(
    here: Context, holder: Holder, catchup: CatchUp, query: Watching, last_event_id: str
) -> StreamAnswer:
    """Open a stream, for Flask's views and for service/api/socket_handover.py alike. Raises JobGone."""
    wanted = StreamRequest(holder, last_event_id.strip(), query.last_event_id, query.heartbeat)
    try:
        stream = open_stream(here.sockets, catchup, wanted)
    except StreamLimitReached as full:
        # An error status would stop a browser for good: it is told to come back, and when.
        metrics.STREAMS_REFUSED.inc()
        return StreamAnswer(200, STREAM_HEADERS, full.retry)
    if stream is None:
        return StreamAnswer(204, {}, b"")
    return StreamAnswer(200, STREAM_HEADERS, stream)


def _stream(here: Context, catchup: CatchUp, query: Watching, headers: Resumption) -> Response:
    answer = answer_stream(here, _holder(), catchup, query, headers.last_event_id)
    # A stream is passed through as it is, so that service/api/socket_handover.py can recognise it.
    passed = isinstance(answer.body, EventStream)
    return Response(answer.body, answer.status, answer.headers, direct_passthrough=passed)


@bp.operation(
    "GET",
    "/jobs/<job_id>/events",
    query=JobWatching,
    headers=Resumption,
    answers={
        200: Answer("the events", {JSON: EventPage, sse.CONTENT_TYPE: StreamEvent}),
        204: Answer("the cursor is at or past the end of the job: nothing will follow"),
    },
    problems={404: "there is no such job", 429: "too many streams and long polls are open"},
)
def get_job_events(job_id: str, query: JobWatching, headers: Resumption) -> Response:
    """The events of one job.

    A stream of Server-Sent Events; with `Accept: application/json` one page, for clients that poll.
    """
    here = context()
    if not here.store.keys.holds(job_id):
        raise job_not_found(job_id)
    if wants_json():
        return _poll(here, job_id, query)
    try:
        return _stream(here, JobCatchUp(here.reader, caller(), job_id), query, headers)
    except JobGone:
        raise job_not_found(job_id) from None


@bp.operation(
    "GET",
    "/events",
    query=FeedWatching,
    headers=Resumption,
    answers={200: Answer("the events", {sse.CONTENT_TYPE: StreamEvent})},
    problems={404: "there is no job of one of these ids", 422: "they are of several owners"},
)
def get_events(query: FeedWatching, headers: Resumption) -> Response:
    """The events of many jobs.

    `?job=a&job=b…`, `?group=g`, or without either all of the caller's. A stream of Server-Sent Events.
    """
    here, who = context(), caller()
    jobs, group = query.job, query.group
    if not jobs and group is None:
        jobs, group = _whole_scope(who)
    if not jobs:
        who.check_group(group)
        feed = FeedCatchUp(here.reader, who, who.check_owner(query.owner), group)
        return _stream(here, feed, query, headers)
    for job_id in jobs:
        if not here.store.keys.holds(job_id):
            raise job_not_found(job_id)
        # Ids of different partitions cannot be compared, so no cursor could hold for both.
        if partition_of(job_id) != partition_of(jobs[0]):
            if who.sees_only is not None:
                raise job_not_found(job_id)
            raise Problem(422, "the jobs of one stream have one owner; open a stream for each")
    try:
        return _stream(here, JobListCatchUp(here.reader, who, jobs), query, headers)
    except JobGone as gone:
        raise job_not_found(gone.args[0]) from None


def _holder() -> Holder:
    return Holder(request.remote_addr or "", caller().owner)


def _whole_scope(who: Caller) -> tuple[list[str], str | None]:
    """The jobs or the group that a restricted caller may watch; nothing for one that is not restricted."""
    if who.jobs:
        return sorted(who.jobs), None
    return [], next(iter(who.groups)) if who.groups and len(who.groups) == 1 else None


def come_back() -> Response:
    """Answer a stream that cannot be opened now: the client is to try again."""
    return Response(StreamLimitReached().retry, 200, STREAM_HEADERS)


STREAMS = ("streams.get_job_events", "streams.get_events")
"""Endpoints whose clients an error status would stop for good."""


@bp.errorhandler(redis.RedisError)
def _store_away(error: redis.RedisError) -> Response:
    """Answer a request for events whose caller, or whose jobs' partition, cannot be looked up now."""
    return store_problem(error) if wants_json() else come_back()


def _poll(here: Context, job_id: str, query: JobWatching) -> Response:
    """One page of events as JSON; with `wait`, answered as soon as there is one."""
    after = event_id(query.after or "0", "after")
    limit = query.limit
    page = _await_page(here, job_id, after, query) if query.wait else find_job(job_id, after, limit)
    fault = cursor_fault(page, after)
    if fault:
        reset, events, cursor = b'{"reason":"%s","job":%s}' % (fault.encode(), page.document), [], page.last
    else:
        reset, events = b"null", page.events
        cursor = events[-1].id if events else after
    body = b'{"events":[%s],"cursor":"%s","reset":%s}' % (
        b",".join(
            b'{"id":"%s","event":"%s","data":%s}' % (str(e.id).encode(), e.type.encode(), e.data)
            for e in events
        ),
        b"0" if cursor == ZERO else str(cursor).encode(),
        reset,
    )
    return json_answer(body)


def _await_page(here: Context, job_id: str, after: EventId, query: JobWatching) -> JobPage:
    """Returns a page as soon as there is something on it, at the latest after `wait` seconds."""
    deadline = time.monotonic() + query.wait
    with waiting(here, here.store.keys.events(job_id)) as poll:
        while True:
            poll.woken.clear()
            page = find_job(job_id, after, query.limit)
            left = deadline - time.monotonic()
            if page.events or page.ended or left <= 0 or here.hub.draining or cursor_fault(page, after):
                return page
            # Its subscription wakes it too, so that nothing falls between the first read and that.
            poll.woken.wait(left)

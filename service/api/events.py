"""The /events endpoints: streams of one job and of many, and the same as JSON for clients that poll."""

from __future__ import annotations

import threading
import time

from apiflask import APIBlueprint
from flask import Response, request

from headway.contract.events import ZERO
from service import metrics
from service.api.client_address import address
from service.api.context import OWNER, Context, context
from service.api.problems import Problem, job_not_found
from service.streaming import sse
from service.streaming.catchup import (
    CatchUp,
    FeedCatchUp,
    JobCatchUp,
    JobGone,
    JobListCatchUp,
    cursor_fault,
)
from service.streaming.opening import StreamLimitReached, StreamRequest, event_id, open_stream

bp = APIBlueprint("streams", __name__, tag="Events")

MAX_JOBS = 1000
POLL_LIMIT = 1000
POLL_WAIT_S = 60.0


def _wants_json() -> bool:
    # Parsing the header takes longer than all else here, and hardly any stream needs it.
    if "json" not in request.headers.get("Accept", ""):
        return False
    accepted = request.accept_mimetypes
    return accepted.best_match([sse.CONTENT_TYPE, "application/json"]) == "application/json"


class Poller:
    """Somebody who waits for anything new."""

    def __init__(self, topics: tuple[str, ...]) -> None:
        self.topics = topics
        self.cursor = ZERO
        self.generation = -1
        self.woken = threading.Event()

    def notify(self) -> None:
        self.woken.set()


def _stream(here: Context, catchup: CatchUp) -> Response:
    ask = StreamRequest(
        caller=address(request.environ),
        header=request.headers.get("Last-Event-ID", "").strip(),
        last_event_id=request.args.get("last_event_id", "").strip(),
        heartbeat=request.args.get("heartbeat", ""),
    )
    try:
        stream = open_stream(here.hub, here.limits, here.settings.heartbeat_s, catchup, ask)
    except StreamLimitReached as full:
        # An error status would stop a browser for good: it is told to come back, and when.
        metrics.STREAMS_REFUSED.inc()
        return Response(full.retry, content_type=sse.CONTENT_TYPE, headers=sse.HEADERS)
    if stream is None:
        return Response(status=204)
    # Passed through as it is, so that service/api/socket_handover.py can recognise it.
    return Response(stream, content_type=sse.CONTENT_TYPE, headers=sse.HEADERS, direct_passthrough=True)


@bp.get("/jobs/<job_id>/events")
@bp.doc(
    summary="The events of one job",
    description="An SSE stream; with `Accept: application/json` one page for clients that poll.",
    responses={200: "events", 204: "the cursor is at or past the end of the job"},
)
def job_events(job_id: str) -> Response:
    here = context()
    if not here.store.keys.holds(job_id):
        raise job_not_found(job_id)
    if _wants_json():
        return _poll(here, job_id)
    try:
        return _stream(here, JobCatchUp(here.reader, job_id))
    except JobGone:
        raise job_not_found(job_id) from None


@bp.get("/events")
@bp.doc(
    summary="The events of many jobs",
    description="`?job=a&job=b…`, `?group=g`, or without either all of the caller's.",
    responses={200: "events"},
)
def events() -> Response:
    here = context()
    job_ids = request.args.getlist("job")
    group = request.args.get("group")
    if job_ids and group is not None:
        raise Problem(400, "give `job` or `group`, not both")
    if len(job_ids) > MAX_JOBS:
        raise Problem(400, f"{len(job_ids)} jobs are more than {MAX_JOBS}: watch a group instead")
    if not job_ids:
        return _stream(here, FeedCatchUp(here.store, OWNER, group))
    for job_id in job_ids:
        if not here.store.keys.holds(job_id):
            raise job_not_found(job_id)
    try:
        return _stream(here, JobListCatchUp(here.store, job_ids))
    except JobGone as gone:
        raise job_not_found(gone.args[0]) from None


def _poll(here: Context, job_id: str) -> Response:
    """One page of events as JSON; with `wait`, answered as soon as there is one."""
    after = event_id(request.args.get("after") or "0", "after")
    limit = int(_number("limit", 100, 1, POLL_LIMIT))
    wait_s = _number("wait", 0, 0, POLL_WAIT_S)
    deadline = time.monotonic() + wait_s
    poller = Poller((here.store.keys.events(job_id),))
    if wait_s:
        here.hub.join(poller)
    try:
        while True:
            poller.woken.clear()
            page = here.store.read(job_id, after, limit)
            if page is None:
                raise job_not_found(job_id)
            fault = cursor_fault(page, after)
            left = deadline - time.monotonic()
            if fault or page.events or page.ended or left <= 0 or here.hub.draining:
                break
            # Its subscription wakes it too, so that nothing falls between the first read and that.
            poller.woken.wait(left)
    finally:
        here.hub.leave(poller)
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
    return Response(body, mimetype="application/json", headers={"Cache-Control": "no-store"})


def _number(name: str, default: float, lowest: float, highest: float) -> float:
    text = request.args.get(name)
    try:
        value = default if text is None else float(text)
    except ValueError:
        value = float("nan")
    if not lowest <= value <= highest:
        raise Problem(400, f"{name} is a number from {lowest:g} to {highest:g}")
    return value

"""The /events endpoints: streams of one job and of many, and the same as JSON for clients that poll."""

from __future__ import annotations

import random
import socket
import threading
import time
from collections.abc import Callable, Generator, Iterator
from datetime import UTC, datetime

import redis
from apiflask import APIBlueprint
from flask import Response, request

from service import metrics, sse
from service.admission import Admission
from service.catchup import CatchUp, FeedCatchUp, JobCatchUp, JobGone, JobListCatchUp, Page, cursor_fault
from service.context import OWNER, Context, context
from service.contract.events import ZERO, BadEventId, EventId
from service.hub import Hub
from service.problems import Problem, job_not_found
from service.sockets import Sockets
from service.timelimit import time_limit

bp = APIBlueprint("streams", __name__, tag="Events")

RETRY_MS = (1000, 2000)
"""A client that lost its stream waits between these before it comes back: not all at the same moment."""
FULL_RETRY_MS = (5_000, 15_000)
"""The same for one that found no room."""
OPEN_S = 0.5
"""How long a request waits for the store before it opens as behind: the first bytes must not depend
on Redis. If the hub has no connection either, there is nothing to wait for."""
STORE_RETRY_S = 0.5
MAX_JOBS = 1000
POLL_LIMIT = 1000
POLL_WAIT_S = 60.0


class EventStream:
    """One client's stream, as an iterable of chunks of bytes: the portable path, for any WSGI server.

    `open` may be called first, to know what the answer will be. `close` must be called in the end,
    iterated or not; WSGI servers do.
    """

    def __init__(
        self,
        hub: Hub,
        admission: Admission,
        caller: str,
        catchup: CatchUp,
        heartbeat_s: float,
        heartbeat: Callable[[], bytes],
    ) -> None:
        """The caller was admitted; its place is given back by `close`."""
        self._admission: Admission | None = admission
        self._caller = caller
        self.topics = catchup.topics
        self.cursor = ZERO
        self.generation = -1
        self._woken = threading.Event()
        self._hub = hub
        self._catchup = catchup
        self._heartbeat_s = heartbeat_s
        self._heartbeat = heartbeat
        self._start: Callable[[], Page] | None = None
        self._first: Page | None = None
        self._written = time.monotonic()
        hub.join(self)

    def begin(self, cursor: EventId | None, fault: str | None) -> None:
        """Where the reader stands: at a cursor, or with nothing, or with something useless."""
        if fault is not None:
            self._start = lambda: self._catchup.reset(fault)
        elif cursor is None:
            self._start = self._catchup.start
        else:
            self.cursor = cursor

    def open(self) -> Page:
        """The first piece. Raises JobGone, and RedisError while the store or the hub is away."""
        self._first = self._catch_up(OPEN_S)
        return self._first

    def close(self) -> None:
        self._hub.leave(self)
        if self._admission is not None:
            self._admission.release(self._caller)
            self._admission = None

    def notify(self) -> None:
        self._woken.set()

    def hand_over(self, sockets: Sockets, sock: socket.socket, head: bytes) -> None:
        """Have the hub write to the socket, instead of being iterated. Raises OSError if it is gone."""
        sockets.adopt(
            sock,
            head + sse.retry(random.randint(*RETRY_MS)),  # noqa: S311
            self._catchup,
            self._heartbeat,
            self._caller,
            self._start,
            self.cursor,
            self._first,
            self.generation,
        )
        self._admission = None

    def _catch_up(self, timeout_s: float) -> Page:
        deadline = time.monotonic() + timeout_s
        while (generation := self._hub.ready(self)) is None:
            if not self._woken.wait(max(0.0, deadline - time.monotonic())):
                raise redis.ConnectionError("the hub is not connected")
            self._woken.clear()
        page = self._start() if self._start is not None else self._catchup.after(self.cursor)
        self._start = None
        self.cursor = page.cursor
        # Live in the generation that was ready before the read: if the connection was lost since,
        # this is an old one, and the hub says behind.
        self.generation = generation if page.complete else -1
        return page

    def __iter__(self) -> Iterator[bytes]:
        """Chunks to write. It ends after `end` of a single job, and when the process drains."""
        yield sse.retry(random.randint(*RETRY_MS))  # noqa: S311
        page = self._first
        try:
            while not self._hub.draining:
                if page is None:
                    try:
                        page = self._catch_up(STORE_RETRY_S)
                    except redis.RedisError:
                        self._woken.clear()
                        yield from self._wait(STORE_RETRY_S)
                        continue
                if page.frames:
                    yield self._write(page.frames)
                if page.closed:
                    return
                if page.complete:
                    closed = yield from self._live()
                    if closed:
                        return
                page = None
        except JobGone:
            return
        delay = self._hub.goodbye_delay()
        time.sleep(delay)
        yield sse.shutdown(random.randint(*RETRY_MS) + round(delay * 1000))  # noqa: S311

    def _live(self) -> Generator[bytes, None, bool]:
        """Hand on what comes until the stream is behind, or closed (True)."""
        while not self._hub.draining:
            self._woken.clear()
            messages = self._hub.collect(self)
            if messages is None:
                return False
            if not messages:
                yield from self._wait(self._heartbeat_s)
                continue
            self.cursor = messages[-1].id
            metrics.EVENTS_DELIVERED.inc(len(messages))
            yield self._write(b"".join(message.frame for message in messages))
            if self._catchup.ends and messages[-1].type == b"end":
                return True
        return False

    def _wait(self, timeout_s: float) -> Iterator[bytes]:
        """Until somebody wakes us, at most so long; a heartbeat if it is time for one."""
        beat_in = self._written + self._heartbeat_s - time.monotonic()
        if not self._woken.wait(max(0.0, min(timeout_s, beat_in))) and beat_in <= timeout_s:
            yield self._write(self._heartbeat())

    def _write(self, chunk: bytes) -> bytes:
        self._written = time.monotonic()
        return chunk


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


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _cursor() -> tuple[EventId | None, str | None]:
    """The reader's cursor, and why it is none. A browser sends the header by itself and could do nothing
    about a refusal, so rubbish there is answered by `reset`; on the query it is the caller's mistake."""
    header = request.headers.get("Last-Event-ID", "").strip()
    if header:
        try:
            return EventId.parse(header), None
        except BadEventId:
            return None, "cursor_invalid"
    text = request.args.get("last_event_id", "").strip()
    if not text:
        return None, None
    return _event_id(text, "last_event_id"), None


def _event_id(text: str, parameter: str) -> EventId:
    try:
        return EventId.parse(text)
    except BadEventId as error:
        raise Problem(400, f"{parameter} is {error}: give `<ms>-<n>` as an event had it, or `0`") from None


def _stream(here: Context, catchup: CatchUp) -> Response:
    cursor, fault = _cursor()
    kind = request.args.get("heartbeat", "comment")
    if kind not in ("comment", "event"):
        raise Problem(400, "heartbeat is `comment` or `event`")
    caller = request.remote_addr or ""
    if not here.admission.admit(caller):
        # An error status would stop a browser for good: it is told to come back, and when.
        metrics.STREAMS_REFUSED.inc()
        body = sse.retry(random.randint(*FULL_RETRY_MS)) + b"\n"  # noqa: S311
        return Response(body, content_type=sse.CONTENT_TYPE, headers=sse.HEADERS)
    metrics.STREAMS_OPENED.inc()
    if cursor is not None or fault is not None:
        metrics.STREAMS_RESUMED.inc()
    stream = EventStream(
        here.hub,
        here.admission,
        caller,
        catchup,
        here.settings.heartbeat_s,
        (lambda: sse.heartbeat_event(_now(), here.settings.heartbeat_s))
        if kind == "event"
        else (lambda: sse.HEARTBEAT_COMMENT),
    )
    try:
        stream.begin(cursor, fault)
        first = None
        if here.hub.connected:
            with time_limit(OPEN_S):
                first = stream.open()
        if first is not None and first.closed and not first.frames:
            stream.close()
            return Response(status=204)
    except redis.RedisError:
        pass  # it opens as behind, and catches up when the store is back
    except BaseException:
        stream.close()
        raise
    # Passed through as it is, so that service/handover.py can recognise it.
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
        return _stream(here, JobCatchUp(here.reads, job_id))
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
    after = _event_id(request.args.get("after") or "0", "after")
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

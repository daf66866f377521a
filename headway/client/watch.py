"""One stream of events that survives its connections."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Literal, Self
from urllib.parse import urlencode

from headway.client.errors import BadAnswer, ClientError, Unavailable, Unreachable, WaitTimeout
from headway.client.job import Event, Job, is_event_id, is_live, order
from headway.client.sse import Decoder, Frame
from headway.client.transport import ANSWER_S, PATIENCE_S, Answer, Backoff, Server, path

DEFAULT_HEARTBEAT_S = 15.0
LONGEST_S = 3600.0
RETRY_S = 1.0
"""Between the end of a connection and the next, if the server has not said how long."""
LONGEST_RETRY_S = 300.0
"""However long a server wants to be left alone."""


Status = Literal["connecting", "live", "reconnecting", "closed"]


def silence_s(interval_s: float) -> float:
    """How long silence may last between such heartbeats: more means that the connection is dead. Until
    then what is known may be out of date, so that one which is late by half is not waited for. Short ones
    are late by more."""
    return max(1.5 * interval_s, interval_s + 2)


class Watch(Iterator[Event]):
    """The events of one job, of a list of jobs, of a group or of all, each once and in order.

    It ends after the `end` of all jobs that were named; a group never does. `snapshot` and `reset` carry
    whole jobs; a `reset` says that something was missed for good. Heartbeats and goodbyes are not given
    out. Iterated by one thread; `status`, `cursor`, `heard_at` and `problem` may be read by any.
    Raises what `next` met: Unreachable if nobody was there to begin with, or nobody for `give_up_s`;
    NotFound; another Problem; WaitTimeout. After that it is closed, and another one goes on from `cursor`.
    """

    def __init__(
        self,
        server: Server,
        jobs: Sequence[str] = (),
        *,
        group: str | None = None,
        cursor: str | None = None,
        timeout_s: float | None = None,
        give_up_s: float | None = None,
        lost: Callable[[ClientError], object] | None = None,
    ) -> None:
        """`cursor`: the last id that is known, "0" for everything that is kept, None to begin with
        snapshots. `timeout_s`: for the whole; None (as for `give_up_s`): never. `lost` is told once for
        each time without a connection, when it begins and if its cause is known."""
        if jobs and group is not None:
            raise ClientError("watch jobs or a group, not both")
        if cursor is not None and cursor != "0" and not is_event_id(cursor):
            raise ClientError(f"{cursor!r} is no cursor: give the id of an event, or 0")
        self.cursor = cursor
        self.status: Status = "connecting"
        self.heard_at = time.monotonic()
        """When the service was last heard of, on the monotonic clock."""
        self.problem: ClientError | None = None
        """Why it is reconnecting, if it knows."""
        self._server = server
        self._jobs = list(dict.fromkeys(jobs))
        self._group = group
        self._open = set(jobs)
        self._timeout_s = timeout_s
        self._until = None if timeout_s is None else time.monotonic() + timeout_s
        self._give_up_s = give_up_s
        self._lost = lost
        self._told = False
        self._allowed_s = silence_s(DEFAULT_HEARTBEAT_S)
        self._learnt = self._was_live = False
        self._patience_until: float | None = None
        self._retry_s = RETRY_S
        self._backoff = Backoff()
        self._events = self._run()

    def __next__(self) -> Event:
        return next(self._events)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Cut the connection. `cursor` is that of the last event that was given out."""
        self._events.close()
        self.status = "closed"

    def _run(self) -> Generator[Event, None, None]:
        try:
            self._leave_out_ended()
            while self._open or not self._jobs:
                self.problem = None
                said_retry = False
                delay_s = 0.0
                try:
                    with self._server.request(
                        "GET", self._path(), headers=self._headers(), timeout_s=self._patience_s()
                    ) as answer:
                        if answer.status == 204:
                            return
                        self._check(answer)
                        said_retry = yield from self._read(answer)
                except (Unreachable, Unavailable, BadAnswer) as error:
                    if not self._was_live and not self._worth_waiting(error):
                        self._check_time()
                        raise
                    self.problem = error
                    delay_s = min(getattr(error, "retry_after_s", None) or 0.0, LONGEST_RETRY_S)
                    self._tell(error)
                if self._open or not self._jobs:
                    self._pause(said_retry, delay_s)
        finally:
            self.status = "closed"

    def _worth_waiting(self, error: ClientError) -> bool:
        """Before the first connection: for a server that says so, and for one that was there a moment ago
        as long as for any other answer that gets lost."""
        if isinstance(error, Unavailable):
            return True
        now = time.monotonic()
        if self._patience_until is None:
            if not isinstance(error, Unreachable) or not (error.sent or self._server.reached):
                return False
            self._patience_until = now + PATIENCE_S
        return now < self._patience_until

    def _leave_out_ended(self) -> None:
        """A list's stream does not say again what ended before the cursor."""
        if len(self._jobs) < 2 or order(self.cursor) == (0, 0):
            return
        for job_id in self._jobs:
            job: Job = self._server.json("GET", path("jobs", job_id))
            if not is_live(job) and order(job["last_event_id"]) <= order(self.cursor):
                self._open.discard(job_id)

    def _path(self) -> str:
        query = [("heartbeat", "event")]
        if len(self._jobs) == 1:
            return f"{path('jobs', self._jobs[0], 'events')}?{urlencode(query)}"
        query += [("job", job_id) for job_id in self._jobs]
        if self._group is not None:
            query.append(("group", self._group))
        return f"/events?{urlencode(query, errors='replace')}"

    def _headers(self) -> dict[str, str]:
        headers = {"Accept": "text/event-stream", "Cache-Control": "no-store"}
        if self.cursor:
            headers["Last-Event-ID"] = self.cursor
        return headers

    def _check(self, answer: Answer) -> None:
        answer.expect(200)
        if not (answer.header("Content-Type") or "").startswith("text/event-stream"):
            raise BadAnswer(f"{self._server.url} does not answer with an event stream")
        self._was_live = True

    def _read(self, answer: Answer) -> Generator[Event, None, bool]:
        """Events until the connection ends; whether it said how long to stay away."""
        decoder = Decoder()
        while chunk := self._next_chunk(answer):
            self.status = "live"
            self.heard_at = time.monotonic()
            self._told = False
            for frame in decoder.feed(chunk):
                self._backoff.reset()
                event = self._event(frame)
                if event is not None:
                    yield event
                    if self._jobs and not self._open:
                        return True
            if decoder.retry_ms is not None:
                self._retry_s = min(decoder.retry_ms / 1000, LONGEST_RETRY_S)
            self.cursor = decoder.last_event_id or self.cursor
        return decoder.retry_ms is not None

    def _event(self, frame: Frame) -> Event | None:
        try:
            event = Event(frame.id, frame.event, json.loads(frame.data))
        except (ValueError, RecursionError):
            raise BadAnswer(f"{self._server.url} sent an event {frame.event!r} that is no JSON") from None
        if frame.event == "heartbeat":
            self._learn(event)
            return None
        if frame.event == "shutdown":
            self.status = "reconnecting"
            return None
        self.cursor = frame.id or self.cursor
        if frame.event == "end":
            self._open.discard(event.job_id or "")
        elif frame.event == "reset" and len(self._jobs) > 1:
            # Their ends are in there, and do not come again.
            self._open -= {job["id"] for job in event.data.get("jobs", ()) if not is_live(job)}
        return event

    def _learn(self, heartbeat: Event) -> None:
        interval = heartbeat.data.get("interval_s") if isinstance(heartbeat.data, dict) else None
        if isinstance(interval, int | float) and interval > 0:
            self._allowed_s = min(silence_s(interval), LONGEST_S)
            self._learnt = True

    def _next_chunk(self, answer: Answer) -> bytes:
        answer.limit(self._allowance_s())
        try:
            return answer.read()
        except TimeoutError:
            self._check_time()
            silent_s = self._allowed_s
            if not self._learnt:
                # A service whose beat is slower than we think must not be cut off for ever.
                self._allowed_s = min(2 * self._allowed_s, LONGEST_S)
            raise Unreachable(f"{self._server.url} was silent for {silent_s:.0f} s", sent=True) from None

    def _allowance_s(self) -> float:
        """For the next thing to be heard."""
        left_s = self._allowed_s if self._until is None else self._until - time.monotonic()
        return max(min(self._allowed_s, left_s), 0.001)

    def _patience_s(self) -> float:
        """For a connection, and for the head of its answer."""
        left_s = self._allowance_s()
        if self._give_up_s is not None:
            left_s = min(left_s, self.heard_at + self._give_up_s - time.monotonic())
        return max(min(left_s, ANSWER_S), 0.001)

    def _tell(self, error: ClientError) -> None:
        if self._lost is not None and not self._told:
            self._lost(error)
        self._told = True

    def _check_time(self) -> None:
        if self._until is not None and time.monotonic() >= self._until:
            raise WaitTimeout(f"not within {self._timeout_s:g} s")

    def _pause(self, said_retry: bool, delay_s: float) -> None:
        self.status = "reconnecting" if self._was_live else "connecting"
        # What the server asks for; and a server that lets nobody in, or goes away at once, is asked ever
        # more rarely.
        first = self._backoff.failures == 0
        jittered_s = self._backoff.next_s()
        delay_s += self._retry_s if said_retry or (first and self._was_live) else jittered_s
        away_s = time.monotonic() - self.heard_at
        if self._give_up_s is not None and away_s + delay_s > self._give_up_s:
            why = self.problem or f"{self._server.url} closes every stream"
            raise Unreachable(f"gave up after {away_s:.0f} s: {why}", sent=True)
        if self._until is not None:
            delay_s = min(delay_s, max(0.0, self._until - time.monotonic()))
        time.sleep(delay_s)
        self._check_time()

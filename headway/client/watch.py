"""Watch and AsyncWatch: a stream of events that reconnects and resumes."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from typing import Any, Literal, Self
from urllib.parse import urlencode

from headway.client.driving import each
from headway.client.errors import BadAnswer, ClientError, Unavailable, Unreachable, WaitTimeout
from headway.client.job import Event, is_event_id, is_live, order
from headway.client.listing import find
from headway.client.retrying import PATIENCE_S, Backoff
from headway.client.sse import Decoder, Frame
from headway.client.transport import ANSWER_S, Response, Transport, path

DEFAULT_HEARTBEAT_S = 15.0
LONGEST_S = 3600.0
RETRY_S = 1.0
"""Pause before reconnecting, unless the server said how long."""
LONGEST_RETRY_S = 300.0
"""Longest pause that a server can ask for."""


Status = Literal["connecting", "live", "reconnecting", "closed"]


def silence_s(interval_s: float) -> float:
    """Return how long a stream with this heartbeat interval may be silent before its connection counts as
    dead: half an interval more, and at least two seconds more."""
    return max(1.5 * interval_s, interval_s + 2)


class Watching:
    """What Watch and AsyncWatch do: it connects, reads, resumes, and decides when it is done.

    It does not know them: one that nobody holds any more is closed then, and not when a cycle is found.
    """

    def __init__(
        self,
        transport: Transport,
        jobs: Sequence[str] = (),
        *,
        group: str | None = None,
        cursor: str | None = None,
        timeout_s: float | None = None,
        give_up_s: float | None = None,
        lost: Callable[[ClientError], object] | None = None,
    ) -> None:
        """`cursor`: the last event id seen, "0" for all stored events, None to start with snapshots.
        `timeout_s` limits the whole watch and `give_up_s` a time without a connection; None: no limit.
        `lost` is called with the error once for each time the connection is lost."""
        if jobs and group is not None:
            raise ClientError("watch jobs or a group, not both")
        if cursor is not None and cursor != "0" and not is_event_id(cursor):
            raise ClientError(f"{cursor!r} is not a cursor: use an event id, or 0")
        self.cursor = cursor
        self.status: Status = "connecting"
        self.heard_at = time.monotonic()
        """When the service was last heard from (monotonic seconds)."""
        self.problem: ClientError | None = None
        """Why it is reconnecting, if known."""
        self._transport = transport
        self._jobs = list(dict.fromkeys(jobs))
        self._group = group
        self._open = set(jobs)
        self._group_ended = False
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

    async def run(self) -> AsyncGenerator[Event, None]:
        try:
            await self._skip_ended()
            while not self._done:
                self.problem = None
                decoder = Decoder()
                said_retry = False
                delay_s = 0.0
                try:
                    async with self._transport.request(
                        "GET", self._path(), headers=self._headers(), timeout_s=self._patience_s()
                    ) as answer:
                        if answer.status == 204:
                            return
                        await self._check(answer)
                        while not self._done and (chunk := await self._next_chunk(answer)):
                            for event in self._take(chunk, decoder):
                                yield event
                        said_retry = decoder.retry_ms is not None
                except (Unreachable, Unavailable, BadAnswer) as error:
                    if not self._was_live and not self._worth_waiting(error):
                        self._check_time()
                        raise
                    self.problem = error
                    delay_s = min(getattr(error, "retry_after_s", None) or 0.0, LONGEST_RETRY_S)
                    self._tell(error)
                if not self._done:
                    await self._pause(said_retry, delay_s)
        finally:
            self.status = "closed"

    @property
    def _done(self) -> bool:
        return self._group_ended or bool(self._jobs and not self._open)

    def _worth_waiting(self, error: ClientError) -> bool:
        """Whether to go on trying before the first connection: if the server asks for it, or, for
        PATIENCE_S, if it has answered this client before."""
        if isinstance(error, Unavailable):
            return True
        now = time.monotonic()
        if self._patience_until is None:
            if not isinstance(error, Unreachable) or not (error.sent or self._transport.reached):
                return False
            self._patience_until = now + PATIENCE_S
        return now < self._patience_until

    async def _skip_ended(self) -> None:
        """Do not wait for jobs that ended before the cursor: a stream of several does not repeat that."""
        if len(self._jobs) < 2 or order(self.cursor) == (0, 0):
            return
        async for job in find(self._transport, self._jobs):
            if not is_live(job) and order(job["last_event_id"]) <= order(self.cursor):
                self._open.discard(job["id"])

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

    async def _check(self, answer: Response) -> None:
        await answer.expect(200)
        if not (answer.header("Content-Type") or "").startswith("text/event-stream"):
            raise BadAnswer(f"{self._transport.url} does not answer with an event stream")
        self._was_live = True

    def _take(self, chunk: bytes, decoder: Decoder) -> Iterator[Event]:
        """Yield the events that the chunk completes, up to the last one that is waited for."""
        self.status = "live"
        self.heard_at = time.monotonic()
        self._told = False
        for frame in decoder.feed(chunk):
            self._backoff.reset()
            event = self._event(frame)
            if event is not None:
                yield event
                if self._done:
                    return
        if decoder.retry_ms is not None:
            self._retry_s = min(decoder.retry_ms / 1000, LONGEST_RETRY_S)
        self.cursor = decoder.last_event_id or self.cursor

    def _event(self, frame: Frame) -> Event | None:
        try:
            event = Event(frame.id, frame.event, json.loads(frame.data))
        except (ValueError, RecursionError):
            raise BadAnswer(f"{self._transport.url} sent an event {frame.event!r} without JSON") from None
        if frame.event == "heartbeat":
            self._learn(event)
            return None
        if frame.event == "shutdown":
            self.status = "reconnecting"
            return None
        self.cursor = frame.id or self.cursor
        if frame.event == "end":
            self._open.discard(event.job_id or "")
        elif frame.event == "group-end" and self._group is not None:
            self._group_ended = True
        elif frame.event == "reset" and len(self._jobs) > 1:
            # Ended jobs are in the reset; their `end` does not come again.
            self._open -= {job["id"] for job in event.data.get("jobs", ()) if not is_live(job)}
        return event

    def _learn(self, heartbeat: Event) -> None:
        interval = heartbeat.data.get("interval_s") if isinstance(heartbeat.data, dict) else None
        if isinstance(interval, int | float) and interval > 0:
            self._allowed_s = min(silence_s(interval), LONGEST_S)
            self._learnt = True

    async def _next_chunk(self, answer: Response) -> bytes:
        answer.limit(self._allowance_s())
        try:
            return await answer.read()
        except TimeoutError:
            self._check_time()
            silent_s = self._allowed_s
            if not self._learnt:
                # A service with a slower heartbeat than the default must not be cut off for ever.
                self._allowed_s = min(2 * self._allowed_s, LONGEST_S)
            raise Unreachable(f"{self._transport.url} was silent for {silent_s:.0f} s", sent=True) from None

    def _allowance_s(self) -> float:
        """How long the next read may take."""
        left_s = self._allowed_s if self._until is None else self._until - time.monotonic()
        return max(min(self._allowed_s, left_s), 0.001)

    def _patience_s(self) -> float:
        """How long a connection and the head of its response may take."""
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

    async def _pause(self, said_retry: bool, delay_s: float) -> None:
        self.status = "reconnecting" if self._was_live else "connecting"
        # As long as the server asks for; a server that refuses or disconnects at once is asked ever more
        # rarely.
        first = self._backoff.failures == 0
        jittered_s = self._backoff.next_s()
        delay_s += self._retry_s if said_retry or (first and self._was_live) else jittered_s
        away_s = time.monotonic() - self.heard_at
        if self._give_up_s is not None and away_s + delay_s > self._give_up_s:
            why = self.problem or f"{self._transport.url} closes every stream"
            raise Unreachable(f"gave up after {away_s:.0f} s: {why}", sent=True)
        if self._until is not None:
            delay_s = min(delay_s, max(0.0, self._until - time.monotonic()))
        await self._transport.sleep(delay_s)
        self._check_time()


class _Handle:
    def __init__(self, transport: Transport, jobs: Sequence[str] = (), **options: Any) -> None:
        self._watching = Watching(transport, jobs, **options)

    @property
    def status(self) -> Status:
        return self._watching.status

    @property
    def cursor(self) -> str | None:
        """The id of the last event that was yielded."""
        return self._watching.cursor

    @property
    def heard_at(self) -> float:
        """When the service was last heard from (monotonic seconds)."""
        return self._watching.heard_at

    @property
    def problem(self) -> ClientError | None:
        """Why it is reconnecting, if known."""
        return self._watching.problem


class Watch(_Handle, Iterator[Event]):
    """Iterates over the events of one job, of several, of a group or of all jobs: each once, in order.

    It ends after the `end` of all jobs that were named, or the `group-end` of the group; that of a group of
    which nobody has said how many jobs it will have never ends. `snapshot` and `reset`
    carry whole jobs; a `reset` says that events were missed for good. Heartbeats and `shutdown` are handled
    here and not yielded. One thread iterates; any thread may read `status`, `cursor`, `heard_at` and
    `problem`.

    `next` raises Unreachable if the first connection fails, or none succeeds for `give_up_s`; NotFound or
    another Problem; WaitTimeout. The watch is closed then; a new one can resume from its `cursor`.
    """

    def __init__(self, transport: Transport, jobs: Sequence[str] = (), **options: Any) -> None:
        super().__init__(transport, jobs, **options)
        self._events = each(self._watching.run())

    def __next__(self) -> Event:
        return next(self._events)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection. `cursor` is the id of the last event that was yielded."""
        self._events.close()
        self._watching.status = "closed"


class AsyncWatch(_Handle, AsyncIterator[Event]):
    """Like Watch, for `async for`: the same events, resumed in the same way, and the same errors.

    A task that is canceled while it waits for an event leaves no connection. If it may end elsewhere, in
    the body of the loop, use `async with client.watch(…) as watch`, which closes it at once.
    """

    def __init__(self, transport: Transport, jobs: Sequence[str] = (), **options: Any) -> None:
        super().__init__(transport, jobs, **options)
        self._events = self._watching.run()

    async def __anext__(self) -> Event:
        return await anext(self._events)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connection. `cursor` is the id of the last event that was yielded."""
        await self._events.aclose()
        self._watching.status = "closed"

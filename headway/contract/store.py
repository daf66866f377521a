"""JobStore: every read and write of jobs and events.

Each change is one Lua script (lua/*.lua): it checks the fence and the state, changes the job, appends
the event and publishes it. A script repeated because its reply was lost changes nothing more, so the
client may retry any of them.

Every method raises redis.RedisError when the store cannot be reached, and nothing else unless it says so.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

import redis
from redis.backoff import ExponentialWithJitterBackoff
from redis.commands.core import Script
from redis.retry import Retry

from headway.contract.encoding import clip, dumps, rfc3339
from headway.contract.events import ZERO, Event, EventId, EventType
from headway.contract.keys import JobRef, Keys
from headway.contract.records import DOCUMENT, MAX_ERROR_CHARS, MAX_RESULT_BYTES, Artifact, Job, document
from headway.contract.states import LIVE, ErrorCode, State, sources

REQUEUE_MS = 10_000
"""How long a message may take to be claimed before it is sent again (doubled each time, …"""
REQUEUE_MAX_MS = 20_000
"""… up to this)."""
FEED_FACTOR = 10
"""A feed keeps this many times the events of a job."""
_HIGHEST = 2**64 - 1

# What a claim must have to touch anything: waiting states, and the one that is held.
_UNSTARTED = tuple(s for s in sources(State.CANCELED) if s is not State.RUNNING)


class StaleFence(Exception):
    """Another holds the job, or it has ended: the caller must stop working on it."""


class IdempotencyConflict(Exception):
    """The idempotency key belongs to a request with another body."""


@dataclass(frozen=True, slots=True)
class NewJob:
    """What a caller submits, checked. `queue` is where workers of its type listen."""

    owner: str
    type: str
    params: dict[str, Any]
    queue: str
    max_attempts: int
    group: str | None = None
    labels: dict[str, str] = field(default_factory=dict)
    timeout_s: float | None = None
    retry_of: str | None = None
    checkpoint: str = ""


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to work on a job, until the lease runs out."""

    ref: JobRef
    job: Job
    fence: str
    checkpoint: str
    attempts_left: int = 0
    """How many may follow this one."""


@dataclass(frozen=True, slots=True)
class Report:
    """One event of a holder's batch; `field` of the job takes `value` in the same write. Without a type
    only the field is written, and nobody hears of it."""

    type: EventType | Literal[""]
    body: str
    field: str = ""
    value: str = ""


@dataclass(frozen=True, slots=True)
class JobPage:
    """A job and events after a cursor, consistent. `clock` was the last id of all at that moment."""

    clock: EventId
    fields: dict[bytes, bytes]
    events: list[Event]

    @property
    def id(self) -> str:
        return self.fields[b"id"].strip(b'"').decode()

    @property
    def document(self) -> bytes:
        return document(self.fields)

    @property
    def last(self) -> EventId:
        return EventId.of(self.fields[b"last_event_id"].strip(b'"'))

    @property
    def ended(self) -> bool:
        return self.fields.get(b"finished_at", b"null") != b"null"


@dataclass(frozen=True, slots=True)
class FeedPage:
    """What a feed keeps after a cursor, and the ids of its jobs that run or wait for their next attempt,
    consistent."""

    clock: EventId
    now_ms: int
    last: EventId
    begun: list[str]
    events: list[Event]


@dataclass(frozen=True, slots=True)
class FeedSnapshot:
    """The live jobs of a feed in the order of their last ids, consistent. `last` is the feed's last id,
    `clock` the last id of all."""

    clock: EventId
    last: EventId
    jobs: list[JobPage]


@dataclass(frozen=True, slots=True)
class Due:
    """A message to send: the job's alarm found that it waits for somebody."""

    id: str
    type: str
    queue: str
    sends: int
    """How often the alarm has asked for that since somebody last worked on the job; counts from 1."""
    why: str
    """`retry_due`: the delay after a failed attempt is over; `worker_lost`: the lease is; `unclaimed`: its
    last message was lost, or waits its turn."""


@dataclass(frozen=True, slots=True)
class Worker:
    """A living worker, as it described itself."""

    name: str
    host: str
    pid: int
    concurrency: int
    """Jobs that it does at once."""
    types: tuple[str, ...]
    queues: tuple[str, ...]
    started_at: str
    seen_at: str
    """When it last said so. Times are RFC 3339."""


@dataclass(frozen=True, slots=True)
class Running:
    """A job that somebody works on, and who."""

    id: str
    type: str
    attempt: int
    since: str
    """When this attempt began."""
    worker: str


def connect(url: str, *, connections: int = 32, timeout_s: float = 5) -> redis.Redis:
    """A client with a bounded pool whose callers wait for a free connection.

    RESP2, because RESP3 makes each connect log an error on Valkey.
    """
    # A Unix socket has neither, and its connection class refuses them.
    tcp = {} if url.startswith("unix:") else {"socket_keepalive": True, "socket_connect_timeout": timeout_s}
    pool = redis.BlockingConnectionPool.from_url(
        url,
        max_connections=connections,
        timeout=timeout_s,
        protocol=2,
        socket_timeout=timeout_s,
        **tcp,
        retry=Retry(ExponentialWithJitterBackoff(cap=0.5, base=0.05), 2),
    )
    return redis.Redis(connection_pool=pool)


class JobStore:
    """Jobs, events, listings and job types in one Redis or Valkey."""

    def __init__(
        self,
        client: redis.Redis,
        keys: Keys,
        *,
        events_per_job: int = 2000,
        retention_s: float = 7 * 86_400,
    ) -> None:
        self.redis = client
        self.keys = keys
        self._head = (events_per_job, events_per_job * FEED_FACTOR, max(1, round(retention_s)))
        self.retention_ms = round(retention_s * 1000)
        self._scripts: dict[str, Script] = {
            path.stem: client.register_script(_source(path))
            for path in _LUA.glob("*.lua")
            if path.stem != "prelude"
        }

    def _change(self, script: str, ref: JobRef, *args: Any, keys: Sequence[str] = ()) -> list[Any]:
        return cast(
            list[Any],
            self._scripts[script](
                keys=[*self.keys.write_set(ref), *keys], args=[ref.id, *self._head, *args]
            ),
        )

    # -- submitting --------------------------------------------------------------------------------

    def create(self, new: NewJob, *, once: tuple[str, str] | None = None) -> tuple[str, bytes, bool]:
        """Make a job, its first event and its alarm. `once` is an idempotency key and a hash of the
        request. The job's id and document, and whether it is new.

        Raises IdempotencyConflict if the key belongs to another request.
        """
        ref = JobRef(self.keys.new_job_id(new.owner), new.owner, new.queue, new.group)
        fields = {
            "id": dumps(ref.id),
            "type": dumps(new.type),
            "owner": dumps(new.owner),
            "group": dumps(new.group),
            "labels": dumps(new.labels),
            "params": dumps(new.params),
            "max_attempts": dumps(new.max_attempts),
            "timeout_s": dumps(new.timeout_s),
            "retry_of": dumps(new.retry_of),
            "links": dumps({"self": f"/jobs/{ref.id}", "events": f"/jobs/{ref.id}/events"}),
            "_queue": new.queue,
            "_checkpoint": new.checkpoint,
        }
        key, request_hash = once or ("", "")
        reply = self._change(
            "create",
            ref,
            request_hash,
            REQUEUE_MS,
            *(part for pair in fields.items() for part in pair),
            keys=[self.keys.once(new.owner, key)] if once else [],
        )
        if reply[0] == b"conflict":
            raise IdempotencyConflict(key)
        if reply[0] == b"same":
            job_id = reply[1].decode()
            found = self.documents([job_id])[0]
            if found is not None:
                return job_id, found, False
            # Its job was swept away between two steps; the key goes with it.
            self.redis.delete(self.keys.once(new.owner, key))
            return self.create(new, once=once)
        return ref.id, bytes(reply[1]), True

    # -- working -----------------------------------------------------------------------------------

    def ref(self, job_id: str) -> JobRef | None:
        """The unchanging facts of a job, or None if there is no such job."""
        if not self.keys.holds(job_id):
            return None
        owner, group, queue = cast(
            list[bytes | None], self.redis.hmget(self.keys.job(job_id), "owner", "group", "_queue")
        )
        if owner is None or group is None or queue is None:
            return None
        return JobRef(job_id, json.loads(owner), queue.decode(), json.loads(group))

    def claim(self, ref: JobRef, *, token: str, lease_s: float, worker: str) -> Claim | None:
        """Take a job that waits: one attempt more, a new fence, a lease. None if it cannot be had."""
        reply = self._change(
            "claim", ref, _csv(sources(State.RUNNING)), token, round(lease_s * 1000), dumps(worker)
        )
        if reply[0] != b"claimed":
            return None
        job = Job.model_validate_json(reply[2])
        return Claim(ref, job, str(int(reply[1])), reply[3].decode(), int(reply[4]))

    def renew(self, claim: Claim, *, lease_s: float) -> bool:
        """Renew the lease; True if cancellation was asked for. Raises StaleFence."""
        return self._held(self._change("renew", claim.ref, claim.fence, round(lease_s * 1000)))

    def append(self, claim: Claim, batch: int, reports: Iterable[Report]) -> bool:
        """Write a batch of events; True if cancellation was asked for. Raises StaleFence.

        `batch` counts up from 1 within a claim; the caller repeats a batch whose fate it does not
        know under the same number.
        """
        parts = [part for r in reports for part in (r.type, r.body, r.field, r.value)]
        return self._held(self._change("append", claim.ref, claim.fence, batch, *parts))

    def end(
        self,
        claim: Claim,
        state: State,
        *,
        result: Any = None,
        error: tuple[ErrorCode, str] | None = None,
        progress: str = "",
    ) -> None:
        """End the job. Raises StaleFence, RecordError for a result that is no JSON or too large."""
        self._held(
            self._change(
                "end",
                claim.ref,
                claim.fence,
                # Not all that may lead there: an attempt that was given up holds nothing any more, even
                # while no other has begun and its token is still the newest.
                _csv(s for s in sources(state) if s is State.RUNNING),
                state,
                dumps(result, MAX_RESULT_BYTES, "the result"),
                "null" if error is None else _error(*error),
                progress,
            )
        )

    def retry(self, claim: Claim, *, delay_s: float, reason: str, counts: bool = True) -> None:
        """Give up this attempt; the next may start after the delay. If cancellation was asked for, the
        job ends instead. An attempt that does not count leaves as many others as there were before it.
        Raises StaleFence."""
        self._held(
            self._change(
                "retry",
                claim.ref,
                claim.fence,
                _csv(sources(State.RETRYING)),
                round(delay_s * 1000),
                dumps(clip(reason, MAX_ERROR_CHARS)),
                "" if counts else "1",
                _CANCELED,
            )
        )

    @staticmethod
    def _held(reply: list[Any]) -> bool:
        if reply[0] != b"ok":
            raise StaleFence
        return len(reply) > 1 and bool(reply[1])

    def cancel(self, job_id: str) -> tuple[bytes, bool] | None:
        """End a job that waits, flag one that runs. Its document, and whether it had ended before;
        None if there is no such job."""
        ref = self.ref(job_id)
        if ref is None:
            return None
        reply = self._change(
            "cancel",
            ref,
            _csv(_UNSTARTED),
            _csv(sources(State.CANCELED)),
            _CANCELED,
            dumps("cancellation was asked for"),
        )
        if reply[0] == b"gone":
            return None
        return bytes(reply[1]), reply[0] == b"ended"

    # -- reading -----------------------------------------------------------------------------------

    def get(self, job_id: str) -> Job | None:
        found = self.documents([job_id])[0]
        return None if found is None else Job.model_validate_json(found)

    def documents(self, job_ids: Sequence[str]) -> list[bytes | None]:
        """The jobs' documents, None where there is no such job."""
        return [
            None if page is None else page.document
            for page in self.read_jobs([(job_id, None) for job_id in job_ids], 0)
        ]

    def read(self, job_id: str, cursor: EventId | None, limit: int) -> JobPage | None:
        """A job and up to `limit` events after `cursor` (None: no events); None if there is no such job."""
        return self.read_jobs([(job_id, cursor)], limit)[0]

    def read_jobs(
        self,
        wanted: Sequence[tuple[str, EventId | None]],
        limit: int,
        *,
        together: bool = True,
        brief: bool = False,
    ) -> list[JobPage | None]:
        """The same for many, as they are at one moment; or each at its own, if not `together`. A `brief`
        page of a job with a cursor knows only where the job stands, and has no document."""
        here = [(job_id, cursor) for job_id, cursor in wanted if self.keys.holds(job_id)]
        if not here:
            return [None] * len(wanted)
        with self.redis.pipeline(transaction=together and len(here) > 1) as pipe:
            for job_id, cursor in here:
                after = "" if cursor is None or max(cursor) > _HIGHEST else str(cursor)
                keys = [self.keys.clock_of(job_id), self.keys.job(job_id), self.keys.events(job_id)]
                self._scripts["read"](
                    keys=keys,
                    args=[after, limit, "brief" if brief and cursor is not None else ""],
                    client=pipe,
                )
            replies = iter(pipe.execute())
        pages: list[JobPage | None] = []
        for job_id, _ in wanted:
            if not self.keys.holds(job_id):
                pages.append(None)
                continue
            clock, job, entries = next(replies)
            fields = dict(zip(job[::2], job[1::2], strict=True))
            pages.append(
                JobPage(EventId.of(clock), fields, [Event.of(entry) for entry in entries])
                if fields
                else None
            )
        return pages

    def last_events(self, job_ids: Sequence[str]) -> list[Event | None]:
        """The newest event of each job, None where there is none."""
        with self.redis.pipeline(transaction=False) as pipe:
            for job_id in job_ids:
                pipe.xrevrange(self.keys.events(job_id), count=1)
            found = pipe.execute() if job_ids else []
        return [_event(*entries[0]) if entries else None for entries in found]

    def last_ids(self, topics: Sequence[str]) -> list[EventId]:
        """The last id of each stream of events or feed, ZERO where there is none."""
        with self.redis.pipeline(transaction=False) as pipe:
            for topic in topics:
                pipe.hget(*self.keys.last_of(topic))
            found = pipe.execute()
        return [EventId.of(raw.strip(b'"')) if raw else ZERO for raw in found]

    def read_feed(self, owner: str, group: str | None, cursor: EventId, limit: int) -> FeedPage:
        """Up to `limit` of the events that the feed keeps after `cursor`."""
        clock, now_ms, last, begun, entries = cast(
            list[Any],
            self._scripts["read_feed"](
                keys=[
                    self.keys.clock(self.keys.partition(owner)),
                    self.keys.feed(owner, group),
                    self.keys.feed_last(owner, group),
                    self.keys.feed_jobs(owner, group),
                    self.keys.jobs(owner, State.RUNNING),
                    self.keys.jobs(owner, State.RETRYING),
                ],
                args=[str(min(cursor, EventId(_HIGHEST, _HIGHEST))), limit],
            ),
        )
        return FeedPage(
            EventId.of(clock),
            int(now_ms),
            EventId.of(last),
            [job_id.decode() for job_id in begun],
            [Event.of(entry) for entry in entries],
        )

    def latest_progress(self, job_ids: Sequence[str]) -> list[Event]:
        """Returns the newest progress event of each of these jobs that has one."""
        with self.redis.pipeline(transaction=False) as pipe:
            for job_id in job_ids:
                pipe.hget(self.keys.job(job_id), "_progress_id")
            known = pipe.execute() if job_ids else []
            newest = [(job_id, last) for job_id, last in zip(job_ids, known, strict=True) if last]
            for job_id, last in newest:
                pipe.xrange(self.keys.events(job_id), last, last)
            found = pipe.execute() if newest else []
        return [_event(*entry) for entries in found for entry in entries]

    def snapshot_feed(self, owner: str, group: str | None) -> FeedSnapshot:
        """Returns a feed's live jobs, as they are at one moment."""
        clock, last, *jobs = cast(
            list[Any],
            self._scripts["snapshot_feed"](
                keys=[
                    self.keys.clock(self.keys.partition(owner)),
                    self.keys.feed_last(owner, group),
                    self.keys.feed_jobs(owner, group),
                    *(self.keys.jobs(owner, state) for state in LIVE),
                ],
                args=[self.keys.job_head(owner)],
            ),
        )
        at = EventId.of(clock)
        pages = [JobPage(at, dict(zip(j[::2], j[1::2], strict=True)), []) for j in jobs]
        return FeedSnapshot(at, EventId.of(last), sorted(pages, key=lambda page: page.last))

    def list_jobs(
        self,
        owner: str,
        *,
        state: State | None = None,
        type: str | None = None,
        group: str | None = None,
        limit: int = 50,
        cursor: int | None = None,
    ) -> tuple[list[bytes], int | None]:
        """Documents, newest first, that match all filters, and the cursor of the next page."""
        index = self.keys.jobs(owner, state)
        if group is not None and state is None:
            index = self.keys.group(owner, group)
        found: list[bytes] = []
        while True:
            highest = "+inf" if cursor is None else f"({cursor}"
            chunk = cast(
                list[tuple[bytes, float]],
                self.redis.zrange(
                    index, highest, "-inf", desc=True, byscore=True, offset=0, num=limit + 1,
                    withscores=True,
                ),
            )  # fmt: skip
            pages = self.read_jobs([(job_id.decode(), None) for job_id, _ in chunk[:limit]], 0)
            for (job_id, score), page in zip(chunk, pages, strict=False):
                cursor = int(score)
                if page is None:
                    self.redis.zrem(index, job_id)  # its TTL was faster than the sweep
                    continue
                # The index was read a moment before the job: a job that moved on since is not listed.
                if (
                    (state is None or page.fields[b"state"] == dumps(state).encode())
                    and (type is None or page.fields[b"type"] == dumps(type).encode())
                    and (group is None or page.fields[b"group"] == dumps(group).encode())
                ):
                    found.append(page.document)
                if len(found) == limit:
                    more = score != chunk[-1][1]
                    return found, cursor if more else None
            if len(chunk) <= limit:
                return found, None

    # -- alarms ------------------------------------------------------------------------------------

    def due(self, partition: int, limit: int = 100) -> list[str]:
        """Jobs whose alarm is due, the longest first."""
        return self._due(self.keys.alarms(partition), limit)

    def expired(self, partition: int, limit: int = 100) -> list[str]:
        """Ended jobs whose retention is over."""
        return self._due(self.keys.expiring(partition), limit)

    def _due(self, key: str, limit: int) -> list[str]:
        seconds, micros = self.redis.time()
        now_ms = seconds * 1000 + micros // 1000
        found = self.redis.zrange(key, "-inf", now_ms, byscore=True, offset=0, num=limit)
        return [job_id.decode() for job_id in cast(list[bytes], found)]

    def watch(self, partition: int, *, silence_s: float, grace_s: float) -> None:
        """Say that an alarm loop reaches the store. After `silence_s` in which none said so, leases that
        are over are left alone for `grace_s`: a healthy worker could not renew them."""
        self._scripts["watch"](
            keys=[self.keys.watch(partition)], args=[round(silence_s * 1000), round(grace_s * 1000)]
        )

    def answer_alarm(self, job_id: str) -> Due | None:
        """Do what a due alarm asks for, and set the next; a message to send is the caller's."""
        ref = self.ref(job_id)
        if ref is None:
            partition = int(job_id.partition("-")[0])
            self.redis.zrem(self.keys.alarms(partition), job_id)
            return None
        reply = self._change(
            "alarm",
            ref,
            REQUEUE_MS,
            REQUEUE_MAX_MS,
            _error(ErrorCode.WORKER_LOST, "the worker was lost, and no attempt is left"),
            _error(ErrorCode.TIMEOUT, "the job took longer than its timeout_s"),
            _CANCELED,
            dumps("worker_lost"),
            keys=[self.keys.watch(self.keys.partition(ref.owner))],
        )
        if reply[0] != b"send":
            return None
        return Due(job_id, json.loads(reply[1]), reply[2].decode(), int(reply[3]), reply[4].decode())

    def sweep(self, job_id: str) -> bool:
        """Remove an ended job whose retention is over; the caller removes its files first."""
        ref = self.ref(job_id)
        if ref is None:
            partition = int(job_id.partition("-")[0])
            self.redis.zrem(self.keys.expiring(partition), job_id)
            return False
        return bool(self._change("sweep", ref)[0] == b"swept")

    # -- workers and job types ---------------------------------------------------------------------

    def register_types(
        self, worker: str, types: Mapping[str, str], alive_s: float, about: Mapping[str, Any] | None = None
    ) -> None:
        """Describe the job types (name → JSON) that a worker serves, for the next `alive_s` seconds.

        `about` is what `workers` tells of it: host, pid, concurrency, queues, started_at.
        """
        seconds, micros = self.redis.time()
        with self.redis.pipeline(transaction=True) as pipe:
            for name, text in types.items():
                pipe.hset(self.keys.types, name, text)
            if about is not None:
                seen_at = rfc3339(seconds * 1000 + micros // 1000)
                pipe.hset(self.keys.workers, worker, dumps({**about, "seen_at": seen_at}))
            pipe.zadd(self.keys.alive, {f"{name} {worker}": seconds + alive_s for name in types})
            pipe.zremrangebyscore(self.keys.alive, "-inf", seconds - 3600)
            pipe.execute()

    def forget_worker(self, worker: str, types: Iterable[str]) -> None:
        """The worker has gone: it no longer counts as alive for these types."""
        self.redis.zrem(self.keys.alive, *(f"{name} {worker}" for name in types))
        self.redis.hdel(self.keys.workers, worker)

    def workers(self) -> list[Worker]:
        """The living workers, by name."""
        with self.redis.pipeline(transaction=True) as pipe:
            pipe.hgetall(self.keys.workers)
            pipe.time()
            pipe.zrange(self.keys.alive, 0, -1, withscores=True)
            described, (seconds, micros), alive = pipe.execute()
        now = seconds + micros / 1e6
        serves: dict[bytes, list[str]] = {}
        known = set()
        for member, until in alive:
            type_name, _, worker = member.partition(b" ")
            known.add(worker)
            if until > now:
                serves.setdefault(worker, []).append(type_name.decode())
        killed = described.keys() - known
        if killed:
            self.redis.hdel(self.keys.workers, *killed)
        found = []
        for name, text in sorted(described.items()):
            if name in serves:
                about = json.loads(text)
                found.append(
                    Worker(
                        name.decode(),
                        about["host"],
                        about["pid"],
                        about["concurrency"],
                        tuple(sorted(serves[name])),
                        tuple(about["queues"]),
                        about["started_at"],
                        about["seen_at"],
                    )
                )
        return found

    def running(self, owner: str) -> list[Running]:
        """The owner's jobs that somebody works on, the oldest job first."""
        ids = cast(list[bytes], self.redis.zrange(self.keys.jobs(owner, State.RUNNING), 0, -1))
        with self.redis.pipeline(transaction=False) as pipe:
            for job_id in ids:
                pipe.hmget(self.keys.job(job_id.decode()), "state", "type", "attempt", "_since", "_worker")
            rows = pipe.execute() if ids else []
        return [
            Running(job_id.decode(), *(json.loads(value) for value in row[1:]))
            for job_id, row in zip(ids, rows, strict=True)
            # The index was read a moment before.
            if row[0] == b'"running"'
        ]

    def waiting(self, queues: Sequence[str]) -> dict[str, int]:
        """How many jobs wait for a worker of each queue, whoever owns them."""
        with self.redis.pipeline(transaction=False) as pipe:
            for queue in queues:
                for partition in range(self.keys.partitions):
                    pipe.zcard(self.keys.waiting(partition, queue))
            counts = pipe.execute() if queues else []
        of_each = self.keys.partitions
        return {queue: sum(counts[n * of_each : (n + 1) * of_each]) for n, queue in enumerate(queues)}

    def not_before(self, job_ids: Sequence[str]) -> list[int]:
        """When each job's next attempt may start, in ms since 1970; 0 if at any time."""
        with self.redis.pipeline(transaction=False) as pipe:
            for job_id in job_ids:
                pipe.hget(self.keys.job(job_id), "_not_before")
            found = pipe.execute() if job_ids else []
        return [int(raw or 0) for raw in found]

    def types(self) -> dict[str, tuple[dict[str, Any], bool]]:
        """Each known job type: its description, and whether a worker that serves it is alive."""
        with self.redis.pipeline(transaction=True) as pipe:
            pipe.hgetall(self.keys.types)
            pipe.time()
            pipe.zrange(self.keys.alive, 0, -1, withscores=True)
            described, (seconds, micros), alive = pipe.execute()
        now = seconds + micros / 1e6
        living = {member.split(b" ")[0] for member, until in alive if until > now}
        return {
            name.decode(): (json.loads(text), name in living) for name, text in sorted(described.items())
        }


def artifacts_value(artifacts: Iterable[Artifact]) -> str:
    """The text of a job's `artifacts` field."""
    return dumps([artifact.model_dump() for artifact in artifacts])


def _event(raw_id: bytes, fields: dict[bytes, bytes]) -> Event:
    """An entry as redis-py decodes it outside of scripts."""
    return Event(EventId.of(raw_id), EventId.of(fields[b"p"]), fields[b"e"].decode(), fields[b"d"])


def _error(code: ErrorCode, message: str) -> str:
    return dumps({"code": code, "message": clip(message, MAX_ERROR_CHARS)})


_CANCELED = _error(ErrorCode.CANCELED, "the job was canceled")


def _csv(states: Iterable[State]) -> str:
    return ",".join(states)


_LUA = Path(__file__).parent / "lua"
_ALONE = {"read", "read_feed", "snapshot_feed", "watch"}
"""Scripts that change no job."""


def _source(path: Path) -> str:
    """A script, led by the prelude if it changes a job."""
    text = path.read_text()
    if path.stem in _ALONE:
        return text
    prelude = (_LUA / "prelude.lua").read_text()
    for mark, names in (("@STATES@", State), ("@DOCUMENT@", DOCUMENT)):
        prelude = prelude.replace(mark, ",".join(f"'{name}'" for name in names))
    return prelude + text

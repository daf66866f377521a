"""JobStore: every read and write of jobs and their events.

Every method, here and in the stores below it, raises redis.RedisError when the store cannot be reached,
and nothing else unless it says so.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import redis

from headway.contract.access import Access
from headway.contract.alarms import REQUEUE_MS, Alarms
from headway.contract.database import Call, Database
from headway.contract.encoding import clip, dumps
from headway.contract.events import Event, EventId, EventType
from headway.contract.feeds import Feeds
from headway.contract.groups import Groups
from headway.contract.keys import JobRef, Keys, partition_of
from headway.contract.layout import StoredLayout
from headway.contract.limits import NO_LIMITS, ROOM_S, Limits, TooManyJobs
from headway.contract.listings import Listings
from headway.contract.messages import Messages
from headway.contract.new_job import NewJob
from headway.contract.outcomes import Outcomes
from headway.contract.pages import PAGE_BYTES, UNBOUNDED, JobPage, fields_of
from headway.contract.pauses import Pauses
from headway.contract.records import (
    CANCELED,
    MAX_ERROR_CHARS,
    MAX_RESULT_BYTES,
    Artifact,
    Job,
    error_json,
)
from headway.contract.registry import Registry
from headway.contract.resumable import ResumableUploads
from headway.contract.servers import servers_of
from headway.contract.settings import Settings
from headway.contract.states import ErrorCode, State
from headway.contract.webhooks import Webhooks

Wanted = tuple[str, EventId | None] | tuple[str, EventId | None, str | None]
"""What is to be read: a job, the cursor of its events, and the only owner whose it may be."""


class StaleFence(Exception):
    """Another attempt holds the job, or it has ended: the caller must stop working on it."""


class IdempotencyConflict(Exception):
    """The idempotency key belongs to a request with another body."""


class JobLive(Exception):
    """The job has not ended, so it cannot be removed."""


@dataclass(frozen=True, slots=True)
class Hold:
    """The right to write to a job, until the lease runs out."""

    ref: JobRef
    fence: str


@dataclass(frozen=True, slots=True)
class Claim(Hold):
    """A hold on a job, and what a worker needs to work on it."""

    job: Job
    checkpoint: str
    attempts_left: int = 0
    """How many attempts may follow this one."""
    woken: str = ""
    """What ended the last wait of this attempt: `children`, `message` or `timeout`; empty for none."""
    trace: str = ""
    """The context of the span that submitted it; empty for none."""

    @property
    def decoded_checkpoint(self) -> Any:
        return json.loads(self.checkpoint) if self.checkpoint else None


@dataclass(frozen=True, slots=True)
class Report:
    """One event of a holder's batch; `field` of the job takes `value` in the same write. Without a type
    only the field is written, and no event is published; `_read` marks messages up to that id as read."""

    type: EventType | Literal[""]
    body: str
    field: str = ""
    value: str = ""


class JobStore:
    """Jobs and their events. What else the store holds is read through its attributes."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.redis = database.redis
        self.servers = database.servers
        self.keys = database.keys
        self.retention_ms = database.retention_ms
        self.feeds = Feeds(database)
        self.listings = Listings(database)
        self.alarms = Alarms(database)
        self.registry = Registry(database)
        self.pauses = Pauses(database)
        self.outcomes = Outcomes(database)
        self.access = Access(database)
        self.webhooks = Webhooks(database)
        self.messages = Messages(database)
        self.groups = Groups(database)
        self.resumable = ResumableUploads(database)

    @classmethod
    def of(cls, settings: Settings, *, connections: int = 32, timeout_s: float = 5) -> JobStore:
        """Return the store that the settings name, with connections of its own (`connect`). It must not be
        shared across a fork."""
        servers = servers_of(
            settings.redis_url, tls=settings.tls, connections=connections, timeout_s=timeout_s
        )
        layout = StoredLayout(servers.at, settings.key_prefix, settings.partitions)
        return cls(
            Database(
                servers,
                Keys(settings.key_prefix, layout),
                events_per_job=settings.events_per_job,
                keep_progress=settings.keep_progress,
                retention_s=settings.retention_s,
            )
        )

    # -- submitting and removing -------------------------------------------------------------------

    def create(
        self,
        new: NewJob,
        *,
        once: tuple[str, str] | None = None,
        limits: Limits = NO_LIMITS,
        replicas: int = 0,
    ) -> tuple[str, bytes, bool]:
        """Make a job, its first event and its alarm.

        `once` is an idempotency key and a hash of the request: the job that the key made before is
        returned instead, as long as it is kept. Returns the job's id, its document, and whether it is new.
        Raises IdempotencyConflict if the key belongs to another request, TooManyJobs for a new job beyond
        the owner's limits, StaleFence for the child of a job that another holds, RecordTooLarge for
        parameters of more than MAX_PARAMS_BYTES; TooFewReplicas if the job is there, but not yet on so many
        `replicas`.
        """
        key, request_hash = once or ("", "")
        ref = new.ref(self.keys.new_job_id(new.owner), key)
        keys = [self.keys.rate(new.owner), *([self.keys.once(new.owner, key)] if once else [])]
        args = [
            request_hash,
            # Nobody sends a message for a child: its alarm does.
            0 if new.parent else REQUEUE_MS,
            *(limits.rate, limits.burst, limits.live),
            *(new.parent or "", new.parent_fence),
            round((new.expires_s or 0) * 1000),
            *(part for pair in new.fields(ref).items() for part in pair),
        ]
        reply = self.database.run_kept(
            "create",
            self.database.keys_of(ref, keys),
            self.database.args_of(ref, args),
            replicas,
            self.keys.ready(partition_of(ref.id)),
        )
        if reply[0] == b"stale":
            raise StaleFence
        _check_creation(reply, limits, 1)
        if reply[0] == b"same":
            return reply[2].decode(), bytes(reply[1]), False
        return ref.id, bytes(reply[1]), True

    def made_before(self, owner: str, once: tuple[str, str]) -> tuple[str, bytes] | None:
        """Return the id and document of the job that `once` (see `create`) has made already, or None."""
        job_id = self._held(self.keys.once(owner, once[0]), once[1])
        document = self.documents([job_id])[0]
        return None if document is None else (job_id, document)

    def create_many(
        self,
        jobs: Sequence[NewJob],
        *,
        once: tuple[str, str] | None = None,
        limits: Limits = NO_LIMITS,
        replicas: int = 0,
    ) -> tuple[list[tuple[str, bool]], bool]:
        """Make many jobs of one owner in one step, or none.

        Returns for each job its id and whether it is new (another may have its unique key), and whether
        `once`, which is kept for the retention, has made them now. Raises like `create`.
        """
        owner = jobs[0].owner
        key, request_hash = once or ("", "")
        places: dict[tuple[str, str | None, str | None], int] = {}
        shared: list[str] = []
        sizes, own, described, fields = list[int](), list[str](), list[Any](), list[Any]()
        for new in jobs:
            ref = new.ref(self.keys.new_job_id(owner))
            place = places.setdefault((ref.queue, ref.group, ref.parent), len(places) + 1)
            if place > len(sizes):
                at_place = self.keys.write_set(ref)
                shared += at_place
                sizes.append(len(at_place))
            own += (self.keys.job(ref.id), self.keys.events(ref.id), self.keys.unread(ref.id))
            given = [part for pair in new.fields(ref).items() for part in pair]
            fields += given
            described.append((ref.id, place, round((new.expires_s or 0) * 1000), len(given)))
        reply = self.database.run_kept(
            "create_many",
            [*shared, *own, self.keys.rate(owner), *([self.keys.batch(owner, key)] if once else [])],
            [
                *(described[0][0], *self.database.limits, request_hash, REQUEUE_MS),
                *(limits.rate, limits.burst, limits.live, dumps(sizes), dumps(described)),
                *fields,
            ],
            replicas,
            self.keys.ready(self.keys.partition(owner)),
        )
        _check_creation(reply, limits, len(jobs))
        return _made(reply[1].decode()), reply[0] == b"created"

    def many_made_before(self, owner: str, once: tuple[str, str]) -> list[tuple[str, bool]]:
        """Return what `create_many` has made for `once` already, as it would; [] if that is nothing."""
        return _made(self._held(self.keys.batch(owner, once[0]), once[1]))

    def _held(self, key: str, request_hash: str) -> str:
        """Return what was made for an idempotency key; "" if nothing was, or by another request."""
        held = cast(bytes | None, self.database.at(key).get(key)) or b""
        held_hash, _, made = held.decode().partition(" ")
        return made if held_hash == request_hash else ""

    def remove(self, job_id: str) -> bool:
        """Remove an ended job, its events and its idempotency key; the caller removes its files first.

        Returns False if there is no such job. Raises JobLive if it has not ended.
        """
        ref = self.ref(job_id)
        if ref is None:
            return False
        outcome = self.database.remove(ref, only_if_due=False)
        if outcome == b"live":
            raise JobLive(job_id)
        return outcome == b"swept"

    # -- working -----------------------------------------------------------------------------------

    def ref(self, job_id: str) -> JobRef | None:
        """Return the unchanging facts of a job, or None if there is no such job."""
        return self.database.ref(job_id)

    def waiting(self, jobs: Iterable[tuple[str, str]]) -> set[str]:
        """Return those of the jobs, each given with a queue, whose messages a worker is to take a job for:
        they wait, or another does in the line of the queue."""
        asked = [(job_id, queue) for job_id, queue in jobs if self.keys.holds(job_id)]
        keys = [self.keys.job(job_id) for job_id, _ in asked]
        lines = [self.keys.line(partition_of(job_id), queue) for job_id, queue in asked]
        states: list[tuple[str, tuple[Any, ...]]] = [(key, ("HGET", key, "state")) for key in keys]
        found = self.database.each([*states, *((line, ("EXISTS", line)) for line in lines)])
        return {
            job_id
            for (job_id, _), state, has_others in zip(asked, found, found[len(asked) :], strict=False)
            if has_others or state in (b'"queued"', b'"retrying"')
        }

    def next(self, partition: int, queue: str, types: Iterable[str] = ()) -> tuple[JobRef, str] | None:
        """Return the job that is next in the line of a queue, and its type; None if there is none to take.

        Owners take turns, and each owner's jobs go by priority, then in the order in which they were
        submitted. With `types` only jobs of these count.
        """
        reply = self.database.run(
            "next",
            [self.keys.line(partition, queue), self.keys.paused(partition)],
            [self.keys.job_head(partition), queue, *map(dumps, types)],
        )
        if not reply or reply[1] is None:
            return None
        job_id, owner, group, once, job_type, parent = reply
        ref = JobRef(
            job_id.decode(),
            json.loads(owner),
            queue,
            json.loads(group),
            (once or b"").decode(),
            json.loads(parent or b"null"),
        )
        return ref, json.loads(job_type)

    def claim(self, ref: JobRef, *, token: str, lease_s: float, worker: str) -> Claim | None:
        """Take a job that waits: one attempt more, a new fence, a lease.

        Returns None if it cannot be had.
        """
        reply = self.database.change("claim", ref, token, round(lease_s * 1000), dumps(worker))
        if reply[0] != b"claimed":
            return None
        return self.claimed(ref, Job.model_validate_json(reply[2]), reply)

    @staticmethod
    def claimed(ref: JobRef, job: Job, reply: Sequence[Any]) -> Claim:
        """Return the claim that a script's reply tells of (lua/claiming.lua)."""
        checkpoint, woken = reply[3].decode(), reply[5].decode()
        trace = reply[7].decode()
        return Claim(ref, reply[1].decode(), job, checkpoint, int(reply[4]), woken, trace)

    def renew(self, claim: Hold, *, lease_s: float) -> bool:
        """Renew the lease. Returns whether cancellation was requested. Raises StaleFence."""
        return self.held(self.database.change("renew", claim.ref, claim.fence, round(lease_s * 1000)))

    def append(self, claim: Hold, batch: int, reports: Iterable[Report]) -> bool:
        """Write a batch of events. Returns whether cancellation was requested. Raises StaleFence.

        `batch` counts up from 1 within a claim. To retry a batch whose outcome is unknown, reuse
        its number.
        """
        return self.held(self.database.change("append", claim.ref, claim.fence, batch, *_parts_of(reports)))

    def publish(self, claim: Claim, artifact: Artifact) -> bool:
        """Show an artifact whose file is in its place. Returns whether cancellation was requested.

        Raises StaleFence. `append` is for a holder that numbers what it sends; this is for one whose files
        come over connections of their own.
        """
        body = dumps(artifact.model_dump(exclude={"attempt"}))
        while True:
            key = self.keys.job(claim.ref.id)
            text = self.database.at(key).hget(key, "artifacts")
            if text is None:
                raise StaleFence
            shown = {one["name"]: one for one in json.loads(text)}
            shown[artifact.name] = artifact.model_dump()
            reply = self.database.change(
                "publish", claim.ref, claim.fence, text, dumps([*shown.values()]), body
            )
            if reply[0] != b"changed":
                return self.held(reply)

    def end(
        self,
        claim: Hold,
        state: State,
        *,
        result: Any = None,
        error: tuple[ErrorCode, str] | None = None,
        progress: str = "",
    ) -> None:
        """End the job. Raises StaleFence, or RecordError for a result that is not JSON or is too large."""
        self.held(
            self.database.run(*self.ending(claim, state, result=result, error=error, progress=progress))
        )

    def ending(
        self,
        claim: Hold,
        state: State,
        *,
        result: Any = None,
        error: tuple[ErrorCode, str] | None = None,
        progress: str = "",
        last: tuple[int, Sequence[Report]] | None = None,
    ) -> Call:
        """Return the call that ends the job, to be read with `held`. `last` is the number of a batch, as in
        `append`, and its events, which come before the end. Raises RecordError, as `end` does."""
        args: list[Any] = [
            claim.fence,
            state,
            dumps(result, MAX_RESULT_BYTES, "the result"),
            "null" if error is None else error_json(*error),
            progress,
        ]
        if last is not None:
            args += [last[0], *_parts_of(last[1])]
        return "end", self.database.keys_of(claim.ref), self.database.args_of(claim.ref, args)

    def retry(self, claim: Hold, *, delay_s: float, reason: str, counts: bool = True) -> None:
        """Give up this attempt; the next may start after the delay.

        If cancellation was requested, the job ends instead. An attempt that does not count leaves as many
        others as there were before it. Raises StaleFence.
        """
        self.held(
            self.database.change(
                "retry",
                claim.ref,
                claim.fence,
                round(delay_s * 1000),
                dumps(clip(reason, MAX_ERROR_CHARS)),
                "" if counts else "1",
                CANCELED,
            )
        )

    def wait(
        self,
        claim: Claim,
        what: Literal["children", "message"],
        *,
        reason: str,
        limit_s: float | None = None,
        bar: str = "",
    ) -> None:
        """Give the place back until all children have ended, or until there is a message that is not read;
        then the attempt goes on, wherever it is claimed.

        `bar` is the children's place in the job's bar (groups.py). If cancellation was requested, the job
        ends instead. Raises StaleFence.
        """
        limit_ms = "" if limit_s is None else round(limit_s * 1000)
        self.held(
            self.database.change(
                "wait", claim.ref, claim.fence, what, limit_ms, dumps(reason), bar, CANCELED
            )
        )

    @staticmethod
    def held(reply: list[Any]) -> bool:
        """Returns whether cancellation was requested, as the reply of a holder's script says. Raises
        StaleFence."""
        if reply[0] != b"ok":
            raise StaleFence
        return len(reply) > 1 and bool(reply[1])

    def cancel(self, job_id: str, *, asked_here: bool = True) -> tuple[bytes, bool] | None:
        """End a job that waits, flag one that runs; once it has ended, so are its children, if this was
        `asked_here` and not learnt of another system. Returns its document and whether it had ended before,
        or None if there is no such job."""
        ref = self.ref(job_id)
        if ref is None:
            return None
        reply = self.database.run(*self.groups.cancellation(ref, asked_here=asked_here))
        if reply[0] == b"gone":
            return None
        return bytes(reply[1]), reply[0] == b"ended"

    def cancel_many(self, refs: Sequence[JobRef]) -> list[bool]:
        """Cancel jobs in one round trip. Returns for each whether it was live."""
        calls = [self.groups.cancellation(ref) for ref in refs]
        replies = self.database.run_many(calls) if calls else []
        for reply in replies:
            if isinstance(reply, Exception):
                raise reply
        return [reply[0] in (b"canceled", b"requested") for reply in replies]

    # -- reading -----------------------------------------------------------------------------------

    def get(self, job_id: str) -> Job | None:
        """Return the job, or None if there is no such job."""
        found = self.documents([job_id])[0]
        return None if found is None else Job.model_validate_json(found)

    def documents(self, job_ids: Sequence[str]) -> list[bytes | None]:
        """Return the jobs' documents, None where there is no such job."""
        return [
            None if page is None else page.document
            for page in self.read_jobs([(job_id, None) for job_id in job_ids], 0)
        ]

    def read(
        self,
        job_id: str,
        cursor: EventId | None,
        limit: int,
        owner: str | None = None,
        most_bytes: int = UNBOUNDED,
    ) -> JobPage | None:
        """Return a job and its events after `cursor` (None: no events): up to `limit` of them, fewer if
        they reach `most_bytes`, but at least one. Return None if there is no such job; with an `owner`,
        also if it is another's, which takes just as long.

        Raises redis.RedisError, also if there might be one that a former primary does not know."""
        return self.read_jobs([(job_id, cursor, owner)], limit, most_bytes)[0]

    def read_jobs(
        self, wanted: Sequence[Wanted], limit: int, most_bytes: int = UNBOUNDED
    ) -> list[JobPage | None]:
        """Read many jobs like `read`, those of one partition as they are at one moment."""
        pages: list[JobPage | None] = []
        for page in self._read_jobs(wanted, limit, most_bytes, together=True):
            if isinstance(page, redis.RedisError):
                raise page
            pages.append(page)
        return pages

    def read_each(self, wanted: Sequence[Wanted], limit: int) -> list[JobPage | redis.RedisError | None]:
        """Read many jobs like `read`, each as it is at a moment of its own; of one whose server cannot be
        reached, return the error.

        The page of a job with a cursor is brief: it knows only whose the job is and where it stands. It has
        at most PAGE_BYTES.
        """
        return self._read_jobs(wanted, limit, PAGE_BYTES, together=False)

    def _read_jobs(
        self, wanted: Sequence[Wanted], limit: int, most_bytes: int, *, together: bool
    ) -> list[JobPage | redis.RedisError | None]:
        calls: list[Call] = []
        for job_id, cursor, *owner in wanted:
            if self.keys.holds(job_id):
                after = "" if cursor is None else cursor.start
                keys = [self.keys.clock_of(job_id), self.keys.job(job_id), self.keys.events(job_id)]
                how = "" if together or cursor is None else "brief"
                only = dumps(owner[0]) if owner and owner[0] is not None else ""
                calls.append(("read", keys, [after, limit, how, only, most_bytes]))
        replies = iter(self.database.run_many(calls, together=together))
        pages = [_page_of(next(replies)) if self.keys.holds(job_id) else None for job_id, *_ in wanted]
        if any(
            page is None and self.keys.holds(job_id)
            for page, (job_id, *_) in zip(pages, wanted, strict=True)
        ):
            self.database.servers.confirm()
        return pages

    def last_events(self, job_ids: Sequence[str]) -> list[Event | None]:
        """Return the newest event of each job, None where there is none."""
        streams = [self.keys.events(job_id) for job_id in job_ids]
        found = self.database.each(
            [(stream, ("XREVRANGE", stream, "+", "-", "COUNT", 1)) for stream in streams]
        )
        return [Event.decoded(*entries[0]) if entries else None for entries in found]


def _made(text: str) -> list[tuple[str, bool]]:
    """Parse what lua/create_many.lua returns: the jobs' ids, and whether each is new."""
    parts = text.split()
    return [(job_id, flag == "1") for flag, job_id in zip(parts[::2], parts[1::2], strict=True)]


def _parts_of(reports: Iterable[Report]) -> Iterable[Any]:
    return [part for r in reports for part in (r.type, r.body, r.field, r.value)]


def _check_creation(reply: list[Any], limits: Limits, count: int) -> None:
    """Raise IdempotencyConflict or TooManyJobs if that is why none of `count` jobs was made."""
    if reply[0] == b"conflict":
        raise IdempotencyConflict
    if reply[0] == b"too_fast":
        raise TooManyJobs(f"more than {limits.rate:g} jobs were submitted per second", reply[1] / 1000)
    if reply[0] == b"too_many":
        there = (
            f"{limits.live} jobs have not ended yet"
            if count == 1
            else (f"with these, more than {limits.live} jobs would not have ended")
        )
        raise TooManyJobs(f"{there}, which is the limit", ROOM_S)


def _page_of(reply: Any) -> JobPage | redis.RedisError | None:
    """What read.lua returned."""
    if isinstance(reply, redis.RedisError):
        return reply
    clock, job, entries, more = reply
    fields = fields_of(job)
    if not fields:
        return None
    return JobPage(EventId.of(clock), fields, [Event.of(entry) for entry in entries], bool(more))

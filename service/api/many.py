"""POST /jobs:cancel, /jobs:retry and /jobs:delete: what is done to all jobs that match a filter.

Each is a job itself, which the web processes do: it has progress, a result, can be canceled, and goes on in
another process if the first is killed.
"""

from __future__ import annotations

import logging
import os
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal, Self

import redis
from flask import Response
from pydantic import BaseModel, ConfigDict, Field, model_validator

from headway import tracing
from headway.contract.encoding import dumps
from headway.contract.events import IDS_PER_MS, EventType
from headway.contract.files import FilesUnavailable
from headway.contract.keys import SERVICE_QUEUE, JobRef
from headway.contract.logs import about
from headway.contract.new_job import NewJob
from headway.contract.pages import JobPage
from headway.contract.records import MAX_LABELS, Job, Progress
from headway.contract.states import ErrorCode, State
from headway.contract.store import Claim, Report, StaleFence
from headway.loops import forever
from service.api.context import Context, caller, context
from service.api.idempotency import Submitting
from service.api.jobs import CannotRepeat, again, remove, retry_once
from service.api.names import Name
from service.api.operation import Answer, Resource
from service.api.problems import Problem
from service.api.submission import LabelValue
from service.api.submissions import answer_new, create, refuse_when_full

bp = Resource("many", "Jobs")

log = logging.getLogger(__name__)

Action = Literal["cancel", "retry", "delete"]

PREFIX = "jobs."
"""Of the types of these jobs."""
PERIOD_S = 0.5
"""Between two looks for one."""
BEAT_S = 0.3
"""Between two reports of its progress, each of which renews its lease."""
AT_ONCE = 50
"""Jobs canceled in one round trip."""
PAGE = 200
"""Jobs read at once."""
ATTEMPTS = 5
FULL_S = 0.5
"""After the owner's limits have refused a retry, before the next try."""
TURN_S = 2.0
"""How long one of these jobs is done while others wait. One that the owner's limits hold up would keep all
owners' from being done."""
AWAY_S = 10.0
"""How long it is then away: jobs that come back are first, and must not pass the turn among them."""


class Selection(BaseModel):
    """Which jobs: those that match all that is given. `older_s` of 0 alone matches all."""

    model_config = ConfigDict(extra="forbid")

    # Not State: strict validation takes an enumeration's own members alone.
    state: Literal["queued", "running", "retrying", "waiting", "succeeded", "failed", "canceled"] | None = (
        None
    )
    type: Annotated[str, Field(min_length=1, max_length=128)] | None = None
    group: Name | None = None
    labels: Annotated[dict[Name, LabelValue], Field(max_length=MAX_LABELS)] = Field(default_factory=dict)
    older_s: Annotated[float, Field(ge=0, le=1e10, allow_inf_nan=False)] | None = None
    """Made at least so many seconds ago."""
    dry_run: bool = False
    """Only count them: `matched` of the result."""

    @model_validator(mode="after")
    def _selects(self) -> Self:
        if (self.state, self.type, self.group, self.older_s) == (None,) * 4 and not self.labels:
            raise ValueError('name a state, type, group, label or age; {"older_s": 0} is all jobs')
        return self


def _operation(action: str) -> Callable[[Callable[..., Response]], Callable[..., Response]]:
    return bp.operation(
        "POST",
        f"/jobs:{action}",
        headers=Submitting,
        body=Selection,
        answers={
            202: Answer.json("the job that does it", Job, Location="the job's path"),
            200: Answer.json(
                "the job that this Idempotency-Key made before", Job, Location="the job's path"
            ),
        },
        problems={
            422: "the body does not fit, or the Idempotency-Key belongs to another one; `errors` says why",
            429: "the owner submits too fast or has too many live jobs; nothing was done",
            503: "Redis cannot be reached, or it or the disk is nearly full; nothing was done",
        },
    )


@_operation("cancel")
def cancel_jobs(headers: Submitting, body: Selection) -> Response:
    """Cancel all live jobs that match.

    Its result is `{matched, done, skipped, dry_run}`. Jobs that are made after it do not count.
    """
    return _submit("cancel", headers, body)


@_operation("retry")
def retry_jobs(headers: Submitting, body: Selection) -> Response:
    """Submit all failed and canceled jobs that match again, or those of a `state` that is given.

    A job that was retried so before, and whose retry is kept, is not retried again.
    """
    return _submit("retry", headers, body)


@_operation("delete")
def delete_jobs(headers: Submitting, body: Selection) -> Response:
    """Remove all ended jobs that match, with their events and artifacts."""
    return _submit("delete", headers, body)


def _submit(action: Action, headers: Submitting, body: Selection) -> Response:
    here, who = context(), caller()
    # It would not see the job that does it.
    who.check_group(None)
    makes = action == "retry"
    if makes:
        refuse_when_full(here)
    params = body.model_dump(mode="json", exclude_none=True)
    job_type = PREFIX + action
    new = NewJob(who.owner, job_type, params, SERVICE_QUEUE, ATTEMPTS, group=None, trace=headers.trace)
    once = headers.once(lambda: dumps(params), f"{action} ")
    return answer_new(*create(here, new, once, limited=makes))


# -- in the background ---------------------------------------------------------------------------------


class _Canceled(Exception):
    """Cancellation of this job was asked for."""


class _TurnOver(Exception):
    """Others wait, and this job had its turn."""


@dataclass
class _State:
    """How far it is. It is the job's checkpoint, so that another process can go on."""

    matched: int | None = None
    """None: they are not counted yet."""
    done: int = 0
    skipped: int = 0
    cursor: int | None = None
    """Where to go on, in the score of the listing."""


class ManyLoop:
    """Does these jobs, one at a time. Every web process runs one; a claim says which of them has a job."""

    def __init__(self, here: Context) -> None:
        self._here = here

    def start(self) -> None:
        forever("many", self._step, pause_s=PERIOD_S)

    def _step(self) -> float | None:
        for partition in self._occupied():
            found = self._here.store.next(partition, SERVICE_QUEUE)
            if found is not None:
                self._claim(found[0])
                return 0
        return None

    def _occupied(self) -> list[int]:
        """The partitions where jobs wait. Most often there are none: that is asked of all in one round
        trip."""
        store, partitions = self._here.store, self._here.keeper.share
        lines = [store.keys.line(partition, SERVICE_QUEUE) for partition in partitions]
        there = store.database.each([(line, ("EXISTS", line)) for line in lines], tolerant=True)
        return [partition for partition, is_there in zip(partitions, there, strict=True) if is_there]

    def _claim(self, ref: JobRef) -> None:
        store, lease_s = self._here.store, self._here.settings.lease_s
        worker = f"service:{os.getpid()}"
        claim = store.claim(ref, token=secrets.token_urlsafe(16), lease_s=lease_s, worker=worker)
        if claim is None:
            return
        attempt, kind = claim.job.attempt, claim.job.type
        attributes = tracing.about_job(ref.id, ref.owner, kind, attempt)
        with (
            suppress(StaleFence),
            about(job=ref.id, attempt=attempt, owner=ref.owner),
            tracing.span(f"attempt {kind}", claim.trace, kind="consumer", attributes=attributes),
        ):
            try:
                _Work(self._here, claim, self._occupied).do()
            except _TurnOver:
                store.retry(claim, delay_s=AWAY_S, reason="others have their turn", counts=False)
            except _Canceled:
                canceled = (ErrorCode.CANCELED, "the job was canceled")
                store.end(claim, State.CANCELED, error=canceled)
            except (StaleFence, redis.RedisError, FilesUnavailable):
                raise
            except Exception:
                log.exception("job %s failed", ref.id)
                failed = (ErrorCode.ERROR, "the service failed unexpectedly; its log has the reason")
                store.end(claim, State.FAILED, error=failed)


class _Work:
    """One attempt at one of these jobs."""

    def __init__(self, here: Context, claim: Claim, others: Callable[[], list[int]]) -> None:
        """`others` returns where others wait."""
        self._here = here
        self._claim = claim
        self._others = others
        self._turn_over_at = time.monotonic() + TURN_S
        self._action = claim.job.type.removeprefix(PREFIX)
        self._selection = Selection.model_validate(claim.job.params)
        # A retry of an ended one begins anew: there may be other jobs by now.
        checkpoint = claim.decoded_checkpoint if claim.job.attempt > 1 else None
        self._state = _State(**(checkpoint or {}))
        self._batch = 0
        self._beat_at = 0.0

    def do(self) -> None:
        """Do it, and end the job. Raises _Canceled, _TurnOver, StaleFence, RedisError."""
        state = self._state
        if state.matched is None:
            matched = 0
            for page, _ in self._pages(None):
                matched += sum(map(self._matches, page))
                self._beat()
            state.matched, self._beat_at = matched, 0.0
            self._beat()
        if not self._selection.dry_run:
            at_once = AT_ONCE if self._action == "cancel" else 1
            for page, following in self._pages(state.cursor):
                matching = [job for job in page if self._matches(job)]
                for start in range(0, len(matching), at_once):
                    self._beat()
                    jobs = matching[start : start + at_once]
                    done = self._act(jobs)
                    state.done += done
                    state.skipped += len(jobs) - done
                    state.cursor = int(jobs[-1].fields[b"_score"])
                if following is not None:
                    state.cursor = following
                    self._beat()
        result = {
            "matched": state.matched,
            "done": state.done,
            "skipped": state.skipped,
            "dry_run": self._selection.dry_run,
        }
        final = dumps(self._progress(1.0).model_dump())
        self._here.store.end(self._claim, State.SUCCEEDED, result=result, progress=final)

    def _pages(self, cursor: int | None) -> Iterator[tuple[list[JobPage], int | None]]:
        """Yield the jobs that were made before this one and match the filter, and where to go on."""
        store, selection = self._here.store, self._selection
        if cursor is None:
            key = store.keys.job(self._claim.ref.id)
            own: Any = store.database.at(key).hget(key, "_score")
            cursor = int(own)
            if selection.older_s is not None:
                at_ms = cursor // IDS_PER_MS - round(selection.older_s * 1000) + 1
                cursor = max(0, min(cursor, at_ms * IDS_PER_MS))
        following: int | None = cursor
        while following is not None:
            found, following = store.listings.page(
                self._claim.ref.owner,
                state=None if selection.state is None else State(selection.state),
                type=selection.type,
                group=selection.group,
                labels=selection.labels,
                limit=PAGE,
                cursor=following,
            )
            yield found, following

    def _matches(self, job: JobPage) -> bool:
        if self._action == "cancel":
            return not job.ended
        if self._action == "delete":
            return job.ended
        state = State(job.fields[b"state"].decode().strip('"')) if job.ended else None
        if state is None or job.fields[b"type"].startswith(b'"' + PREFIX.encode()):
            return False
        return state in (State.FAILED, State.CANCELED) or self._selection.state is not None

    def _act(self, jobs: list[JobPage]) -> int:
        """Do it to jobs, and return to how many it was done."""
        if self._action == "cancel":
            return sum(self._here.store.cancel_many([job.ref for job in jobs]))
        if self._action == "delete":
            return sum(remove(self._here, job.id) for job in jobs)
        return sum(self._retry(job) for job in jobs)

    def _retry(self, listed: JobPage) -> bool:
        """Submit a job again; waits while the owner's limits do not let it. Returns whether it was done."""
        # A listing has not all that a retry takes over.
        job = self._here.store.read(listed.id, None, 0)
        if job is None or not job.ended:
            return False
        while True:
            try:
                return create(self._here, again(self._here, job), retry_once(job.id))[2]
            except CannotRepeat:
                return False
            except Problem as problem:
                if problem.status not in (429, 503):
                    return False
                time.sleep(FULL_S)
                self._beat()

    def _progress(self, fraction: float | None) -> Progress:
        state = self._state
        return Progress(
            fraction=fraction, current=state.done + state.skipped, total=state.matched, unit="jobs"
        )

    def _beat(self) -> None:
        """Report and renew the lease, if it is time to. Raises _Canceled, and _TurnOver."""
        if time.monotonic() - self._beat_at < BEAT_S:
            return
        state, store = self._state, self._here.store
        fraction = None
        if state.matched:
            fraction = round(min(0.999, (state.done + state.skipped) / state.matched), 5)
        progress = dumps(self._progress(fraction).model_dump())
        self._batch += 1
        reports = [
            Report(EventType.PROGRESS, progress, "progress", progress),
            Report("", "", "_checkpoint", dumps(asdict(state))),
        ]
        canceled = store.append(self._claim, self._batch, reports)
        store.renew(self._claim, lease_s=self._here.settings.lease_s)
        self._beat_at = time.monotonic()
        if canceled:
            raise _Canceled
        # How many match is found out at a stretch: there is no checkpoint in it.
        if state.matched is not None and self._beat_at > self._turn_over_at and self._others():
            raise _TurnOver

"""Run: one execution of a task, from its start to its outcome, as this process knows it."""

from __future__ import annotations

import datetime
import itertools
import os
import secrets
import threading
import time
from collections.abc import Callable
from typing import Any

from celery import states
from celery._state import get_current_task
from celery.exceptions import Ignore, Reject, SoftTimeLimitExceeded, TimeLimitExceeded, WorkerLostError

from headway.celery.redaction import Redaction
from headway.contract.encoding import dumps
from headway.contract.executions import LAST_PLACE, Execution, Outcome
from headway.contract.keys import JobRef
from headway.contract.new_job import NewJob
from headway.contract.states import ErrorCode, State
from headway.contract.store import Hold
from headway.sdk.lease import LeaseKeeper
from headway.sdk.meter import Meter, Stage, StageWeight
from headway.sdk.reporter import Reporter
from headway.sdk.stopping import JobCanceled, Stop

_PROCESS = secrets.token_urlsafe(6)
_numbers = itertools.count()
_TIMEOUTS = (SoftTimeLimitExceeded, TimeLimitExceeded)
_REJECTED = Outcome(State.FAILED, message="the task rejected its message")

RUN = "headway_run"
"""The attribute of a task's request that holds its run: an id may run twice in one process."""
_REPLACEMENT = 10**6
"""How far one task that was put in the place of another is behind it, however often that retried."""
MAX_ATTEMPTS = 100
"""The highest number that a job may have; a task without max_retries has no limit."""


ANNOUNCED_S = 2.0
"""How long the job of a replaced task may not be there yet when what stands in its place has begun."""


def max_attempts(task: Any) -> int:
    """Return how many attempts a task's job has by its retry policy."""
    return MAX_ATTEMPTS if task.max_retries is None else min(MAX_ATTEMPTS, max(0, task.max_retries) + 1)


class Canceled(Ignore):  # type: ignore[misc]
    """The task's job was canceled in Headway, or its time was up there. Celery takes it for the task's own
    wish to end without a result; its state is REVOKED by then."""


class Run:
    """The task's thread makes it, notes progress and sets the outcome; the Recorder does the rest."""

    def __init__(
        self,
        task: Any,
        task_id: str,
        ref: JobRef,
        retries: int,
        make_job: Callable[[], NewJob],
        begin_bar: Callable[[Run], None],
    ) -> None:
        self.task = task
        self.task_id = task_id
        self.ref = ref
        self.first_job = ref.id
        """The job that is named after the task. Another takes its place if the task comes again."""
        self.retries = retries
        self.begin_bar = begin_bar
        """Called with this run when a bar of it begins."""
        self.began_at = time.monotonic()
        self.token = f"{_PROCESS}.{os.getpid()}.{next(_numbers)}"
        self._make_job: Callable[[], NewJob] | None = make_job
        self._new: NewJob | None = None
        self.worker = ""
        self.redelivery_s = 0.0
        self.meter = Meter()
        self.stop = Stop()
        self.thread = threading.get_ident()
        self.resent = False
        """Whether the task sent itself again, to retry or under another name."""
        self.replaced = False
        """Whether it put others in its place."""
        self.nesting = 0
        """How many tasks with this id were replaced, one by the next, until this one."""
        self.only_continues = False
        """Whether it is a task of Celery's own that gives a replaced one its result."""
        self.ends_for: str | None = None
        """The id of the replaced task whose result comes of what follows this one."""
        self.parent_id: str | None = None
        """The id of the task whose child it is."""
        self.following: dict[str, str | None] = {}
        """The tasks that go on where it ends (`task_message.following`)."""
        self.said: tuple[str | None, Any] = (None, None)
        """The state that the task gave itself last, with update_state, and what it said of it."""
        self.outcome: Outcome | None = None
        self.cut_off = False
        """Whether it was ended from outside, so that it has no outcome of its own."""
        self.hold: Hold | None = None
        self.lease: LeaseKeeper | None = None
        self.reporter: Reporter | None = None
        self.over = False
        """Whether there is nothing more to write."""
        self.interrupted = False
        self._leads: object = None
        self._stages = 0

    @property
    def new(self) -> NewJob:
        """The job, should it have to be made because its announcement was lost. Seldom asked for: until
        then it keeps the task's arguments alive."""
        if self._new is None:
            assert self._make_job is not None  # noqa: S101
            self._new, self._make_job = self._make_job(), None
        return self._new

    @new.setter
    def new(self, new: NewJob) -> None:
        self._new, self._make_job = new, None

    # -- in the task's thread ----------------------------------------------------------------------

    def note(
        self,
        bar: object,
        current: float,
        total: float | None,
        *,
        unit: str | None = None,
        message: str | None = None,
        name: str = "",
        leads: bool = False,
    ) -> bool:
        """Note how far a bar of the task is. Returns whether that is the first note of this bar.

        The first bar leads until it is closed; meanwhile the bars within it are not shown, unless one
        `leads` by itself. A second one after it is a stage of which nobody knows how much of the whole it
        is. Raises Canceled if the job was canceled.
        """
        if self.stop.pending:
            self.check()
        first = False
        if self._leads != bar:
            before = self.meter.stage
            complete = before is not None and before.total is not None and before.current >= before.total
            if self._leads is not None and not leads and not complete:
                return False
            first = True
            self._leads = bar
            self._stages += 1
            number = self._stages
            weight = StageWeight() if number == 1 else StageWeight(number, number, share=None)
            self.meter.stage = Stage(name or "work", total, unit, weight, time.monotonic(), self.stop)
        stage = self.meter.stage
        assert stage is not None  # noqa: S101
        stage.total = total
        stage.current = current
        if message:
            stage.message = message
        return first

    def leads(self, bar: object) -> bool:
        """Whether this bar is the one that is shown."""
        return self._leads == bar

    def close(self, bar: object) -> None:
        """Note that a bar is complete or closed: another may lead."""
        if self._leads == bar:
            self._leads = None

    def check(self) -> None:
        """Raise Canceled if the job was canceled, or its time is up.

        Only in the task's own thread: it would end another one, and the task might wait for that for ever.
        """
        if self.unwanted and threading.get_ident() == self.thread:
            raise Canceled("the job was canceled, or its time is up")

    @property
    def unwanted(self) -> bool:
        """Whether the task is to end because its job does, or did."""
        return self.interrupted or self.stop.reason is JobCanceled

    @property
    def in_place(self) -> bool:
        """Whether it may stand in the place of another task, whose job is its own."""
        return self.only_continues or self.nesting > 0

    # -- for the recorder --------------------------------------------------------------------------

    @property
    def may_be_announced(self) -> bool:
        """Whether others are about to make its job, if it is not there. They know its group."""
        return self.in_place and time.monotonic() - self.began_at < ANNOUNCED_S

    def execution(self) -> Execution:
        """What is known of it now."""
        return Execution(
            self.ref,
            self.token,
            self.worker,
            LAST_PLACE if self.only_continues else self.nesting * _REPLACEMENT + self.retries,
            self.nesting + self.retries,
            self.redelivery_s,
            "retried" if self.retries else "replaced" if self.in_place else "redelivered",
            self.outcome,
        )

    def final(self) -> str:
        """The progress of a task that has succeeded, in JSON."""
        return dumps(self.meter.final(time.monotonic()).model_dump()) if self.meter.stage else ""


def current_run() -> Run | None:
    """Return the run of the calling thread's task, if that is a job."""
    task = get_current_task()
    run = None if task is None else getattr(task.request, RUN, None)
    return run if isinstance(run, Run) else None


def outcome_of(run: Run, state: str | None, returned: Any, redaction: Redaction) -> Outcome:
    """Return what an execution came to, from what Celery says of it at its end."""
    name = run.task.name
    if state == states.SUCCESS:
        return Outcome(State.SUCCEEDED, redaction.result(name, returned), progress=run.final())
    if state == states.RETRY:
        return retrying(name, returned, redaction)
    if run.unwanted and state != states.FAILURE:
        return Outcome(State.CANCELED)
    if state == states.FAILURE:
        return failure(name, returned, redaction)
    if state == states.IGNORED and (run.replaced or run.resent):
        return Outcome(State.RETRYING, message="replaced")
    if state == states.REJECTED and getattr(returned, "requeue", False) and run.task.acks_late:
        return Outcome(State.RETRYING, message="requeued")
    if state == states.REJECTED:
        return _REJECTED
    said, meta = run.said
    if state == states.IGNORED and said == states.SUCCESS:
        return Outcome(State.SUCCEEDED, redaction.result(name, meta), progress=run.final())
    if state == states.IGNORED and said == states.FAILURE:
        return Outcome(State.FAILED, message="the task said so itself")
    if state == states.IGNORED:
        return Outcome(State.CANCELED, message="the task ended itself without a result")
    return Outcome(State.CANCELED)


def retrying(name: str, retry: Any, redaction: Redaction) -> Outcome:
    """Return the outcome of a task that is sent again, for a Retry."""
    cause = getattr(retry, "exc", None)
    message = redaction.error(name, cause if isinstance(cause, BaseException) else retry)
    return Outcome(State.RETRYING, message=message, delay_s=_delay_s(getattr(retry, "when", None)))


def failure(name: str, error: Any, redaction: Redaction) -> Outcome:
    """Return the outcome of a task that raised an error, or whose process was lost."""
    if isinstance(error, Reject):
        # Celery 5.7 calls it a failure in the worker's main process, which may be heard of first.
        return _REJECTED
    code = ErrorCode.ERROR
    if isinstance(error, _TIMEOUTS):
        code = ErrorCode.TIMEOUT
    elif isinstance(error, WorkerLostError):
        code = ErrorCode.WORKER_LOST
    if not isinstance(error, BaseException):
        error = Exception(str(error))
    return Outcome(State.FAILED, code=code, message=redaction.error(name, error))


def _delay_s(when: Any) -> float:
    if isinstance(when, datetime.datetime):
        now = datetime.datetime.now(when.tzinfo or datetime.UTC)
        when = (when if when.tzinfo else when.replace(tzinfo=datetime.UTC)) - now
        when = when.total_seconds()
    return max(0.0, float(when)) if isinstance(when, int | float) else 0.0

"""Runtime: what surrounds every task. Claims the job, keeps the lease, ends the job.

One attempt at a time runs in the main thread of a process; beside it are the reporter (reports) and the
keeper (lease, cancellation). Who ends what:

- Cancellation is seen by whoever talks to the store first. The next call of the SDK raises. The keeper
  sends the subprocesses TERM at once and KILL after 2 s, interrupts a task that does not listen after
  2 s by a signal, and gives the process up after 10 s.
- A lost lease ends the work in the same way, and nothing more is written.
- SIGTERM (the worker stops) ends it at once; the job is handed back for another attempt.
"""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

import redis
from pydantic import ValidationError

from headway.contract.encoding import RecordError, dumps
from headway.contract.states import ErrorCode, State
from headway.contract.store import Claim, JobStore, StaleFence
from headway.sdk.job import Job, Place
from headway.sdk.job_type import JobType
from headway.sdk.meter import Meter
from headway.sdk.reporter import Reporter
from headway.sdk.sandbox import Mode
from headway.sdk.stopping import InvalidInput, JobCanceled, JobStopped, LeaseLost, Stop, WorkerStopping
from headway.sdk.subprocesses import GRACE_S, Children

INTERRUPT = signal.SIGUSR2
INTERRUPT_AFTER_S = 2.0
GIVE_UP_AFTER_S = 10.0
"""A task that ignores even the interrupt for this long takes its process with it."""
_TICK_S = 0.1

logger = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Succeeded:
    result: Any

    def __str__(self) -> str:
        return "succeeded"


@dataclass(frozen=True, slots=True)
class Failed:
    code: ErrorCode
    message: str

    def __str__(self) -> str:
        return f"failed ({self.code})"


@dataclass(frozen=True, slots=True)
class TryAgain:
    delay_s: float
    reason: str

    def __str__(self) -> str:
        return f"to be tried again in {self.delay_s:.1f} s"


@dataclass(frozen=True, slots=True)
class HandedBack:
    """The worker stops: another attempt follows at once, and this one does not count."""

    def __str__(self) -> str:
        return "handed back, as this worker stops"


@dataclass(frozen=True, slots=True)
class Canceled:
    def __str__(self) -> str:
        return "canceled"


@dataclass(frozen=True, slots=True)
class Lost:
    """Another attempt owns the job: there is nothing to write."""

    def __str__(self) -> str:
        return "lost to another attempt"


Outcome = Succeeded | Failed | TryAgain | HandedBack | Canceled | Lost


class Attempt:
    """One claim being worked on."""

    def __init__(self, runtime: Runtime, job_type: JobType[Any], claim: Claim) -> None:
        self.claim = claim
        self.stop = Stop()
        self.interruptible = False
        """Whether the task's own code runs: the signal handler may raise into it."""
        self._type = job_type
        self._store = runtime.store
        self._lease_s = runtime.lease_s
        self._place = Place(runtime.data_dir, claim.ref.id, claim.job.attempt)
        self._children = Children(self.stop, runtime.sandbox)
        self._meter = Meter()
        self._reporter = Reporter(runtime.store, claim, self._meter, self.stop)
        self._patience_s = float("inf")
        self._ended = threading.Event()
        self._keeper = threading.Thread(target=self._keep, name="keeper", daemon=True)
        self._main = threading.main_thread().ident if _in_main_thread() else None

    def run(self) -> None:
        """Do the job and end it. Returns when the store knows, or when the lease is lost."""
        logger.info("job %s (%s), attempt %d", self.claim.ref.id, self._type.name, self.claim.job.attempt)
        self._reporter.start()
        self._keeper.start()
        try:
            # Whoever made earlier attempts is gone, perhaps without a chance to clean up.
            remove_attempts(self._place.work.parent, before=self.claim.job.attempt)
            outcome = self._outcome()
            # No process and no file is left when the job's end is seen.
            self._children.close()
            self._remove_files()
            if not self._reporter.close():
                outcome = Lost()
            self._write(outcome)
        finally:
            self._ended.set()
            self._keeper.join()
        logger.info("job %s: %s", self.claim.ref.id, outcome)

    def _outcome(self) -> Outcome:
        job = self.claim.job
        try:
            result = self._do()
        except JobStopped:
            return self._stopped()
        except InvalidInput as error:
            return Failed(ErrorCode.INVALID_INPUT, str(error))
        except Exception as error:
            # A task that fails because its subprocess was ended under it has not failed.
            if self.stop.pending:
                return self._stopped()
            logger.exception("job %s, attempt %d failed", job.id, job.attempt)
            message = _one_line(error)
            if self.claim.attempts_left > 0 and self._type.retry.covers(error):
                return TryAgain(self._type.retry.delay_s(job.attempt), message)
            return Failed(ErrorCode.ERROR, message)
        if self.stop.reason is LeaseLost:
            return Lost()
        if self._children.disturbed:
            return self._stopped()
        return Succeeded(result)

    def _do(self) -> Any:
        try:
            params = self._type.params.model_validate(self.claim.job.params)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ".".join(map(str, first["loc"])) or "params"
            raise InvalidInput(f"{where}: {first['msg']}") from None
        job: Job[Any] = Job(
            params=params,
            owner=self.claim.ref.owner,
            place=self._place,
            store=self._store,
            reports=self._reporter,
            meter=self._meter,
            stop=self.stop,
            children=self._children,
            checkpoint=self.claim.checkpoint,
        )
        try:
            self.interruptible = True
            self.stop.check()
            return self._type.function(job)
        finally:
            self.interruptible = False

    def _stopped(self) -> Outcome:
        if self.stop.reason is JobCanceled:
            return Canceled()
        if self.stop.reason is WorkerStopping:
            return HandedBack()
        return Lost()

    def _write(self, outcome: Outcome) -> None:
        """Write the outcome once, trying as long as Redis is away: only a lost lease makes it void."""
        try:
            match outcome:
                case Succeeded(result):
                    final = dumps(self._meter.final(time.monotonic()).model_dump())
                    try:
                        self._insist(
                            lambda: self._store.end(
                                self.claim, State.SUCCEEDED, result=result, progress=final
                            )
                        )
                    except RecordError as error:
                        self._write(Failed(ErrorCode.ERROR, str(error)))
                case Failed(code, message):
                    self._insist(lambda: self._store.end(self.claim, State.FAILED, error=(code, message)))
                case TryAgain(delay_s, reason):
                    self._insist(lambda: self._store.retry(self.claim, delay_s=delay_s, reason=reason))
                case HandedBack():
                    self._insist(
                        lambda: self._store.retry(
                            self.claim, delay_s=0, reason="worker_shutdown", counts=False
                        )
                    )
                case Canceled():
                    why = (ErrorCode.CANCELED, "the job was canceled")
                    self._insist(lambda: self._store.end(self.claim, State.CANCELED, error=why))
                case Lost():
                    pass
        except StaleFence:
            logger.warning("job %s: another attempt owns it, the outcome is void", self.claim.ref.id)

    def _insist(self, write: Callable[[], None]) -> None:
        insist(write, f"the outcome of job {self.claim.ref.id}", self._patience_s)

    def _remove_files(self) -> None:
        shutil.rmtree(self._place.work, ignore_errors=True)
        with suppress(OSError):
            self._place.work.parent.rmdir()

    # -- the keeper --------------------------------------------------------------------------------

    def _keep(self) -> None:
        """Renew the lease until the job has ended, and ask about every second whether it is to end, unless
        the reporter was told; see that the task ends in time."""
        renew_s = self._lease_s / 4
        ask_s = min(1.0, renew_s)
        renewed = time.monotonic()
        reachable = True
        ending: Ending | None = None
        while not self._ended.wait(_TICK_S):
            now = time.monotonic()
            if now - renewed >= renew_s or now - max(renewed, self._reporter.answered_at) >= ask_s:
                renewed = now
                try:
                    if self._store.renew(self.claim, lease_s=self._lease_s):
                        self.stop.request(JobCanceled)
                    reachable = True
                except StaleFence:
                    self.stop.request(LeaseLost)
                except redis.RedisError as error:
                    if reachable:
                        logger.warning("the lease of job %s is not renewed: %s", self.claim.ref.id, error)
                    reachable = False
            if not self.stop.pending or not self.interruptible:
                ending = None
                continue
            if ending is None:
                ending = Ending(time.monotonic())
            self._press(ending)

    def _press(self, ending: Ending) -> None:
        """Make the task end: subprocesses first, then the task, at last the process."""
        waited = time.monotonic() - ending.since
        if not ending.asked:
            ending.asked = True
            self._children.signal(signal.SIGTERM)
        if waited >= GRACE_S:
            self._children.signal(signal.SIGKILL)
        if waited >= ending.next_interrupt:
            ending.next_interrupt += 1
            if self._main is not None:
                signal.pthread_kill(self._main, INTERRUPT)
        if waited >= GIVE_UP_AFTER_S:
            logger.error("job %s does not end, its process does", self.claim.ref.id)
            self._children.close()
            self._remove_files()
            # Not longer than the lease: then its alarm ends the job, and this process must not go on.
            self._patience_s = self._lease_s
            with suppress(redis.RedisError):
                self._write(self._stopped())
            os._exit(1)


@dataclass(slots=True)
class Ending:
    """How far the keeper has gone with a task that must end."""

    since: float
    asked: bool = False
    next_interrupt: float = INTERRUPT_AFTER_S


class Runtime:
    """Runs jobs in this process, one at a time."""

    def __init__(
        self, store: JobStore, *, worker: str, data_dir: Path, lease_s: float, sandbox: Mode = "auto"
    ) -> None:
        self.store = store
        self.worker = worker
        self.data_dir = data_dir
        self.lease_s = lease_s
        self.sandbox = sandbox
        self._current: Attempt | None = None
        self._stopping = False
        self._handlers = False

    def run(self, job_type: JobType[Any], job_id: str) -> None:
        """Do a job if it can be had; a message for one that cannot be had is dropped."""
        self._handle_signals()
        if self._stopping:
            return
        try:
            claim = self._claim(job_id)
        except redis.RedisError as error:
            # Its alarm sends another message.
            logger.warning("job %s is not claimed: %s", job_id, error)
            return
        if claim is None:
            logger.info("job %s cannot be had, the message is dropped", job_id)
            return
        attempt = Attempt(self, job_type, claim)
        self._current = attempt
        if self._stopping:
            attempt.stop.request(WorkerStopping)
        try:
            attempt.run()
        finally:
            self._current = None

    def _claim(self, job_id: str) -> Claim | None:
        ref = insist(lambda: self.store.ref(job_id), f"job {job_id}", self.lease_s)
        if ref is None:
            return None
        # One token however often we ask: a reply may be lost.
        token = secrets.token_urlsafe(16)
        return insist(
            lambda: self.store.claim(ref, token=token, lease_s=self.lease_s, worker=self.worker),
            f"job {job_id}",
            self.lease_s,
        )

    def _handle_signals(self) -> None:
        """Here and not when the pool starts its process: billiard sets its own handlers after that."""
        if self._handlers or not _in_main_thread():
            return
        signal.signal(INTERRUPT, self._on_interrupt)
        signal.signal(signal.SIGTERM, self._on_terminate)
        self._handlers = True

    def _on_interrupt(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        attempt = self._current
        if attempt is not None and attempt.interruptible:
            attempt.stop.check()

    def _on_terminate(self, number: int, frame: FrameType | None) -> None:
        self._stopping = True
        attempt = self._current
        if attempt is not None:
            attempt.stop.request(WorkerStopping)
            self._on_interrupt(number, frame)


def insist(call: Callable[[], T], what: str, limit_s: float = float("inf")) -> T:
    """Call until Redis answers; after `limit_s` its error is raised."""
    deadline = time.monotonic() + limit_s
    pause = 0.05
    while True:
        try:
            return call()
        except redis.RedisError as error:
            if time.monotonic() + pause > deadline:
                raise
            if pause == 0.05:
                logger.warning("%s waits for Redis: %s", what, error)
            time.sleep(pause)
            pause = min(pause * 2, 1.0)


def remove_attempts(directory: Path, *, before: int) -> None:
    """Remove the work directories of a job's attempts before this one."""
    with suppress(OSError):
        for path in directory.iterdir():
            if path.name.isdigit() and int(path.name) < before:
                shutil.rmtree(path, ignore_errors=True)


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__

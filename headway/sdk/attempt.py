"""Attempt: one attempt at a job, from its claim to its outcome.

The task runs in the thread that calls `run`. Beside it is the process's keeper (headway.sdk.keeper). It
renews the lease (headway.sdk.lease), ends a task that does not end (headway.sdk.escalation), and starts the
reporter's thread (headway.sdk.reporter). An attempt that is over before has needed no thread of its own,
and no round trip but those of its claim and its end.

- Cancellation is noticed by whichever thread talks to the store first. The next call of the SDK raises.
- A lost lease ends the work in the same way, and nothing more is written.
- SIGTERM (the worker shuts down) ends it at once; the job is released for another attempt.
"""

from __future__ import annotations

import contextvars
import errno
import logging
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from headway import tracing
from headway.contract.database import Call
from headway.contract.encoding import RecordError, dumps, one_line
from headway.contract.files import Files
from headway.contract.states import ErrorCode, State
from headway.contract.store import Claim, JobStore, Report, StaleFence
from headway.loops import retry_until_reachable
from headway.sdk.attempt_dirs import AttemptDirs, remove_attempts
from headway.sdk.escalation import Escalation
from headway.sdk.job import Job
from headway.sdk.job_type import JobType
from headway.sdk.keeper import Keeper
from headway.sdk.lease import LeaseKeeper
from headway.sdk.meter import Meter
from headway.sdk.output import Output
from headway.sdk.reporter import Reporter
from headway.sdk.sandbox import Policy
from headway.sdk.stopping import (
    InvalidInput,
    JobCanceled,
    JobStopped,
    JobWaits,
    LeaseLost,
    NoSpace,
    Stop,
    TooMuchOutput,
    WorkerStopping,
)
from headway.sdk.subprocesses import Subprocesses

_AWAITED = {"children": "its children", "message": "a message"}

logger = logging.getLogger(__name__)


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
class RetryLater:
    """The task failed, and its policy has another attempt for it."""

    delay_s: float
    reason: str

    def __str__(self) -> str:
        return f"to be retried in {self.delay_s:.1f} s"


@dataclass(frozen=True, slots=True)
class Released:
    """The worker shuts down: another attempt follows at once, and this one does not count."""

    def __str__(self) -> str:
        return "released, as this worker shuts down"


@dataclass(frozen=True, slots=True)
class Canceled:
    def __str__(self) -> str:
        return "canceled"


@dataclass(frozen=True, slots=True)
class Superseded:
    """Another attempt holds the job, or it has ended: there is nothing to write."""

    def __str__(self) -> str:
        return "superseded by another attempt"


@dataclass(frozen=True, slots=True)
class Waiting:
    """The task waits for its children or for a message, and its place is free."""

    what: Literal["children", "message"]
    limit_s: float | None
    bar: str

    def __str__(self) -> str:
        return f"waits for {_AWAITED[self.what]}"


Outcome = Waiting | Succeeded | Failed | RetryLater | Released | Canceled | Superseded


Last = tuple[int, Sequence[Report]]
"""Number and events of the batch that is written with the end."""


class Attempt:
    """Runs a task for a claim and writes its outcome. Used once, from one thread."""

    def __init__(
        self,
        job_type: JobType[Any],
        claim: Claim,
        store: JobStore,
        *,
        data_dir: Path,
        files: Files,
        lease_s: float,
        sandbox: Policy,
        keeper: Keeper,
        end: Callable[[Call], object],
    ) -> None:
        """`end` writes the end of a job that does not go on: it runs a call of JobStore.ending and raises
        StaleFence."""
        self.claim = claim
        self.stop = Stop()
        self.interruptible = False
        """Whether the task's own code runs: a signal handler may raise into it."""
        self._type = job_type
        self._store = store
        self._files = files
        self._dirs = AttemptDirs(data_dir, claim.ref.id, claim.job.attempt)
        self._output = Output(self._dirs.work, sandbox.output_bytes, self.stop)
        self._subprocesses = Subprocesses(self.stop, self._output, sandbox)
        held = claim.job.progress
        self._meter = Meter(held.fraction or 0.0 if claim.woken and held is not None else 0.0)
        self._reporter = Reporter(store, claim, self._meter, self.stop)
        self._keeper = keeper
        self._end = end
        self._lease_s = lease_s
        self._lease = LeaseKeeper(
            store, claim, self.stop, lease_s=lease_s, answered_at=lambda: self._reporter.answered_at
        )
        self._escalation = Escalation(self.stop, self._subprocesses, self._give_up)
        self._patience_s = float("inf")

    def run(self) -> Outcome:
        """Do the job and end it. Returns its outcome when the store knows it, or when the lease is lost."""
        logger.info("job %s (%s), attempt %d", self.claim.ref.id, self._type.name, self.claim.job.attempt)
        # What the keeper's thread says is about this job.
        look_after = partial(contextvars.copy_context().run, self._look_after)
        with self._keeper.watching(look_after):
            if self.claim.job.attempt > 1:
                # Earlier attempts are over, perhaps killed before they could clean up.
                remove_attempts(self._dirs.work.parent, before=self.claim.job.attempt)
            outcome = self._outcome()
            # No process and no file is left when the job's end is seen.
            self._subprocesses.close()
            self._dirs.remove_work()
            last = self._reporter.close_with_the_end()
            if last is None:
                outcome = Superseded()
            with tracing.span("end"):
                self._write(outcome, last)
        logger.info("job %s: %s", self.claim.ref.id, outcome)
        return outcome

    def _look_after(self) -> None:
        """What is done beside the task, some times a second."""
        self._reporter.start()
        self._lease.renew_if_due()
        self._escalation.step(task_runs=self.interruptible)

    def _outcome(self) -> Outcome:
        job = self.claim.job
        try:
            result = self._do()
        except JobWaits as waits:
            return self._stopped() if self.stop.pending else Waiting(waits.what, waits.limit_s, waits.bar)
        except JobStopped:
            return self._stopped()
        except InvalidInput as error:
            return Failed(ErrorCode.INVALID_INPUT, str(error))
        except NoSpace as error:
            return Failed(ErrorCode.NO_SPACE, str(error))
        except KeyboardInterrupt:
            raise
        # Not only Exception: the SystemExit of argparse, for one, would end the process, and the job would
        # count as lost.
        except BaseException as error:
            # A task that fails because its subprocess was ended under it has not failed.
            if self.stop.pending:
                return self._stopped()
            logger.exception("job %s, attempt %d failed", job.id, job.attempt)
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                return Failed(ErrorCode.NO_SPACE, "the worker's disk is full: try again when there is room")
            message = one_line(error)
            if self.claim.attempts_left > 0 and self._type.retry.covers(error):
                return RetryLater(self._type.retry.delay_s(job.attempt), message)
            return Failed(ErrorCode.ERROR, message)
        if self.stop.reason is LeaseLost:
            return Superseded()
        if self._subprocesses.was_signalled:
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
            claim=self.claim,
            dirs=self._dirs,
            output=self._output,
            store=self._store,
            files=self._files,
            reports=self._reporter,
            meter=self._meter,
            stop=self.stop,
            subprocesses=self._subprocesses,
        )
        try:
            self.interruptible = True
            self.stop.check()
            return self._type.function(job)
        finally:
            self.interruptible = False
            job.files.remove_unpublished()

    def _stopped(self) -> Outcome:
        if self.stop.reason is JobCanceled:
            return Canceled()
        if self.stop.reason is WorkerStopping:
            return Released()
        if self.stop.reason is TooMuchOutput:
            return Failed(
                ErrorCode.INVALID_INPUT,
                f"the files that this job makes are larger than {self._output.limit} bytes together "
                f"(MAX_OUTPUT_BYTES): ask for less, such as a smaller picture or a shorter part",
            )
        return Superseded()

    def _write(self, outcome: Outcome, last: Last | None = None) -> None:
        """Write the last reports and the outcome, trying as long as Redis is unreachable: only a lost lease
        makes it void."""
        claim, retry = self.claim, self._store.retry
        try:
            match outcome:
                case Succeeded(result):
                    final = dumps(self._meter.final(time.monotonic()).model_dump())
                    try:
                        self._finish(State.SUCCEEDED, result=result, progress=final, last=last)
                    except RecordError as error:
                        self._write(Failed(ErrorCode.ERROR, str(error)), last)
                case Failed(code, message):
                    self._finish(State.FAILED, error=(code, message), last=last)
                case RetryLater(delay_s, reason):
                    self._report(last)
                    self._insist(lambda: retry(claim, delay_s=delay_s, reason=reason))
                case Waiting(what, limit_s, bar):
                    self._report(last)
                    why = f"it waits for {_AWAITED[what]}"
                    self._insist(
                        lambda: self._store.wait(claim, what, reason=why, limit_s=limit_s, bar=bar)
                    )
                case Released():
                    self._report(last)
                    self._insist(lambda: retry(claim, delay_s=0, reason="worker_shutdown", counts=False))
                case Canceled():
                    self._finish(
                        State.CANCELED, error=(ErrorCode.CANCELED, "the job was canceled"), last=last
                    )
                case Superseded():
                    pass
        except StaleFence:
            logger.warning("job %s: another attempt holds it, the outcome is void", claim.ref.id)

    def _finish(self, state: State, **end: Any) -> None:
        call = self._store.ending(self.claim, state, **end)
        self._insist(lambda: self._end(call))

    def _report(self, last: Last | None) -> None:
        if last is not None and last[1]:
            self._insist(lambda: self._store.append(self.claim, *last))

    def _insist(self, write: Callable[[], object]) -> None:
        retry_until_reachable(write, f"the outcome of job {self.claim.ref.id}", limit_s=self._patience_s)

    def _give_up(self) -> None:
        """End this process, as its task cannot be ended, and write the outcome before."""
        logger.error("job %s does not end, so its process does", self.claim.ref.id)
        try:
            self._subprocesses.close()
            self._dirs.remove_work()
            # Not longer than the lease: then its alarm ends the job, and this process must not go on.
            self._patience_s = self._lease_s
            self._write(self._stopped())
        except Exception:
            logger.exception("job %s: its outcome is not written", self.claim.ref.id)
        finally:
            os._exit(1)

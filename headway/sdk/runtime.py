"""Runtime: runs jobs in this process, one at a time: claims each and makes an attempt at it."""

from __future__ import annotations

import logging
import secrets
import signal
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

import redis

from headway import tracing
from headway.contract.database import Call
from headway.contract.files import Files, new_files
from headway.contract.keys import partition_of
from headway.contract.line import Line, Place
from headway.contract.logs import about
from headway.contract.store import Claim, JobStore, StaleFence
from headway.loops import retry_until_reachable
from headway.sdk.attempt import Attempt, Failed, RetryLater
from headway.sdk.escalation import INTERRUPT
from headway.sdk.job_type import JobType
from headway.sdk.keeper import Keeper
from headway.sdk.sandbox import Policy
from headway.sdk.stopping import WorkerStopping

logger = logging.getLogger(__name__)

T = TypeVar("T")

TURN_S = 0.1
"""How long a process takes jobs for one message. Then the messages of other queues have their turn."""


class _EndAndTake:
    """Ends a job, and takes the next in the line with the same round trip."""

    def __init__(self, line: Line, place: Place, wanted: Callable[[], bool]) -> None:
        self.taken: Claim | None = None
        self._line = line
        self._place = place
        self._wanted = wanted
        self._token: str | None = None
        """The token of the take; empty if none is wanted, None while that is not decided."""

    def __call__(self, call: Call) -> None:
        """Make the call that ends the job, and take the next one if it is wanted. Raises StaleFence."""
        # Once: when the reply was lost, one may have been taken.
        if self._token is None:
            self._token = secrets.token_urlsafe(16) if self._wanted() else ""
        if not self._token:
            self._line.end(call)
            return
        self.taken, held = self._line.end_and_take(call, self._place, self._token)
        if not held:
            raise StaleFence


class Runtime:
    """What a worker process runs jobs with. In the main thread it takes over SIGTERM, SIGUSR2 and the
    `stop_signal`, which hands the job back. If that is not SIGTERM, SIGTERM does nothing."""

    def __init__(
        self,
        store: JobStore,
        *,
        worker: str,
        data_dir: Path,
        lease_s: float,
        files: Files | None = None,
        sandbox: Policy | None = None,
        stop_signal: signal.Signals = signal.SIGTERM,
        takes_more: Callable[[], bool] = lambda: True,
    ) -> None:
        """`files` are by default those in `data_dir`, where the attempts work. `takes_more` says whether a
        process that has done the job of a message may take the next of the line without one."""
        self.store = store
        self.worker = worker
        self.data_dir = data_dir
        self.files = files or new_files("", data_dir)
        self.lease_s = lease_s
        self.sandbox = sandbox or Policy()
        self._stop_signal = stop_signal
        self._takes_more = takes_more
        self._line = Line(store, worker=worker, lease_s=lease_s)
        self._keeper = Keeper()
        self._current: Attempt | None = None
        self._stopping = False
        self._handlers = False

    def run_next(self, types: Mapping[str, JobType[Any]], type: str, job_id: str) -> None:
        """Do the job that is next in the line of a queue, when a message names a job that waits there; and
        those behind it, for up to TURN_S.

        There is a message for each job that waits, so each job has its turn, but whose turn it is the store
        decides. The message's own job is tried if the store finds none of the `types` near the front.
        """
        self._handle_signals()
        if self._stopping:
            return
        place = Place.of(partition_of(job_id), types[type].queue, types)
        until = time.monotonic() + TURN_S
        asked_ns = tracing.now_ns()
        claim = self._take(place)
        if claim is None:
            # Its own job would be claimed out of turn if a pause ended between the two questions.
            where = (place.partition, place.queue, type)
            if self._reach(lambda: self.store.pauses.hold(*where), f"queue {place.queue}"):
                logger.info("job %s is paused, the message is dropped", job_id, extra={"job": job_id})
                return
            claim = self._take(place)
        if claim is None:
            self.run(types[type], job_id)
        while claim is not None:
            end = _EndAndTake(self._line, place, lambda: time.monotonic() < until and self._may_take())
            self._attempt(types[claim.job.type], claim, end, asked_ns)
            claim, asked_ns = end.taken, tracing.now_ns()

    def _take(self, place: Place) -> Claim | None:
        token = secrets.token_urlsafe(16)
        return self._reach(lambda: self._line.take(place, token), f"queue {place.queue}")

    def _may_take(self) -> bool:
        return not self._stopping and self._takes_more()

    def run(self, job_type: JobType[Any], job_id: str) -> None:
        """Do a job if it can be claimed. A message for any other job is dropped: its alarm sends another
        one if there is need."""
        self._handle_signals()
        if self._stopping:
            return
        # One token however often we ask: a reply may be lost.
        token = secrets.token_urlsafe(16)
        asked_ns = tracing.now_ns()

        def ask() -> Claim | None:
            ref = self.store.ref(job_id)
            if ref is None:
                return None
            return self.store.claim(ref, token=token, lease_s=self.lease_s, worker=self.worker)

        with about(job=job_id):
            claim = self._reach(ask, f"job {job_id}")
            if claim is None:
                logger.info("job %s cannot be claimed, the message is dropped", job_id)
                return
        self._attempt(job_type, claim, self._line.end, asked_ns)

    def _attempt(
        self, job_type: JobType[Any], claim: Claim, end: Callable[[Call], object], asked_ns: int
    ) -> None:
        job = claim.job
        with (
            about(job=job.id, attempt=job.attempt, owner=job.owner),
            tracing.span(
                f"attempt {job_type.name}",
                claim.trace,
                kind="consumer",
                attributes=tracing.about_job(job.id, job.owner, job_type.name, job.attempt),
                since_ns=asked_ns,
            ) as span,
        ):
            with tracing.span("claim", since_ns=asked_ns):
                pass
            self._make(job_type, replace(claim, trace=span.context), end, span)
        if self._stopping:
            tracing.flush()

    def _make(
        self, job_type: JobType[Any], claim: Claim, end: Callable[[Call], object], span: tracing.Span
    ) -> None:
        attempt = Attempt(
            job_type,
            claim,
            self.store,
            data_dir=self.data_dir,
            files=self.files,
            lease_s=self.lease_s,
            sandbox=self.sandbox,
            keeper=self._keeper,
            end=end,
        )
        self._current = attempt
        if self._stopping:
            attempt.stop.request(WorkerStopping)
        try:
            outcome = attempt.run()
        finally:
            self._current = None
        span.set({"headway.outcome": str(outcome)})
        if isinstance(outcome, Failed):
            span.fail(outcome.code, outcome.message)
        elif isinstance(outcome, RetryLater):
            span.fail("error", outcome.reason)

    def _reach(self, ask: Callable[[], T | None], what: str) -> T | None:
        """Returns the store's answer; None too if it cannot be reached for as long as a lease."""
        try:
            return retry_until_reachable(ask, what, limit_s=self.lease_s)
        except redis.RedisError as error:
            logger.warning("%s: the store cannot be reached, the message is dropped: %s", what, error)
            return None

    def _handle_signals(self) -> None:
        """Here and not when the pool starts its process: billiard sets its own handlers after that."""
        if self._handlers or threading.current_thread() is not threading.main_thread():
            return
        signal.signal(INTERRUPT, self._on_interrupt)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(self._stop_signal, self._on_terminate)
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

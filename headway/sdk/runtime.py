"""Runtime: runs jobs in this process, one at a time: claims each and makes an attempt at it."""

from __future__ import annotations

import logging
import secrets
import signal
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

import redis

from headway import tracing
from headway.contract.files import Files, new_files
from headway.contract.keys import JobRef, partition_of
from headway.contract.logs import about
from headway.contract.store import Claim, JobStore
from headway.loops import retry_until_reachable
from headway.sdk.attempt import Attempt, Failed, RetryLater
from headway.sdk.escalation import INTERRUPT
from headway.sdk.job_type import JobType
from headway.sdk.sandbox import Policy
from headway.sdk.stopping import WorkerStopping

logger = logging.getLogger(__name__)

T = TypeVar("T")

RACES = 5
"""How often another worker may be first before the message's own job is tried."""


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
    ) -> None:
        """`files` are by default those in `data_dir`, where the attempts work."""
        self.store = store
        self.worker = worker
        self.data_dir = data_dir
        self.files = files or new_files("", data_dir)
        self.lease_s = lease_s
        self.sandbox = sandbox or Policy()
        self._stop_signal = stop_signal
        self._current: Attempt | None = None
        self._stopping = False
        self._handlers = False

    def run_next(self, types: Mapping[str, JobType[Any]], type: str, job_id: str) -> None:
        """Do the job that is next in the line of a queue, when a message names a job that waits there.

        There is a message for each job that waits, so each job has its turn, but whose turn it is the store
        decides. The message's own job is tried if the store finds none of the `types` near the front.
        """
        queue, partition = types[type].queue, partition_of(job_id)
        in_vain = 0
        for _ in range(RACES):
            found = self._reach(lambda: self.store.next(partition, queue, types), f"queue {queue}")
            if found is None:
                # Its own job would be claimed out of turn if a pause ended between the two questions.
                if self._reach(lambda: self.store.pauses.hold(partition, queue, type), f"queue {queue}"):
                    logger.info("job %s is paused, the message is dropped", job_id, extra={"job": job_id})
                    return
                in_vain += 1
                if in_vain == 2:
                    break
                continue
            ref, next_type = found
            if self._attempt(types[next_type], ref):
                return
        self.run(types[type], job_id)

    def run(self, job_type: JobType[Any], job_id: str) -> None:
        """Do a job if it can be claimed. A message for any other job is dropped: its alarm sends another
        one if there is need."""
        with about(job=job_id):
            ref = self._reach(lambda: self.store.ref(job_id), f"job {job_id}")
            if ref is None or not self._attempt(job_type, ref):
                logger.info("job %s cannot be claimed, the message is dropped", job_id)

    def _attempt(self, job_type: JobType[Any], ref: JobRef) -> bool:
        """Claim the job and make an attempt at it. Returns False if it cannot be had."""
        with about(job=ref.id, owner=ref.owner):
            return self._claim(job_type, ref)

    def _claim(self, job_type: JobType[Any], ref: JobRef) -> bool:
        self._handle_signals()
        if self._stopping:
            return True
        # One token however often we ask: a reply may be lost.
        token = secrets.token_urlsafe(16)
        asked_ns = tracing.now_ns()
        claim = self._reach(
            lambda: self.store.claim(ref, token=token, lease_s=self.lease_s, worker=self.worker),
            f"job {ref.id}",
        )
        if claim is None:
            return False
        with (
            about(attempt=claim.job.attempt),
            tracing.span(
                f"attempt {job_type.name}",
                claim.trace,
                kind="consumer",
                attributes=tracing.about_job(ref.id, ref.owner, job_type.name, claim.job.attempt),
                since_ns=asked_ns,
            ) as span,
        ):
            with tracing.span("claim", since_ns=asked_ns):
                pass
            self._make(job_type, replace(claim, trace=span.context), span)
        if self._stopping:
            tracing.flush()
        return True

    def _make(self, job_type: JobType[Any], claim: Claim, span: tracing.Span) -> None:
        attempt = Attempt(
            job_type,
            claim,
            self.store,
            data_dir=self.data_dir,
            files=self.files,
            lease_s=self.lease_s,
            sandbox=self.sandbox,
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

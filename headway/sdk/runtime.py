"""Runtime: runs jobs in this process, one at a time: claims each and makes an attempt at it."""

from __future__ import annotations

import logging
import secrets
import signal
import threading
from pathlib import Path
from types import FrameType
from typing import Any

import redis

from headway.contract.store import Claim, JobStore
from headway.loops import retry_until_reachable
from headway.sdk.attempt import Attempt
from headway.sdk.escalation import INTERRUPT
from headway.sdk.job_type import JobType
from headway.sdk.sandbox import Policy
from headway.sdk.stopping import WorkerStopping

logger = logging.getLogger(__name__)


class Runtime:
    """What a worker process runs jobs with. In the main thread it takes over SIGTERM and SIGUSR2."""

    def __init__(
        self, store: JobStore, *, worker: str, data_dir: Path, lease_s: float, sandbox: Policy | None = None
    ) -> None:
        self.store = store
        self.worker = worker
        self.data_dir = data_dir
        self.lease_s = lease_s
        self.sandbox = sandbox or Policy()
        self._current: Attempt | None = None
        self._stopping = False
        self._handlers = False

    def run(self, job_type: JobType[Any], job_id: str) -> None:
        """Do a job if it can be claimed. A message for any other job is dropped: its alarm sends another
        one if there is need."""
        self._handle_signals()
        if self._stopping:
            return
        try:
            claim = self._claim(job_id)
        except redis.RedisError as error:
            logger.warning("job %s is not claimed: %s", job_id, error)
            return
        if claim is None:
            logger.info("job %s cannot be claimed, the message is dropped", job_id)
            return
        attempt = Attempt(
            job_type,
            claim,
            self.store,
            data_dir=self.data_dir,
            lease_s=self.lease_s,
            sandbox=self.sandbox,
        )
        self._current = attempt
        if self._stopping:
            attempt.stop.request(WorkerStopping)
        try:
            attempt.run()
        finally:
            self._current = None

    def _claim(self, job_id: str) -> Claim | None:
        what = f"job {job_id}"
        ref = retry_until_reachable(lambda: self.store.ref(job_id), what, limit_s=self.lease_s)
        if ref is None:
            return None
        # One token however often we ask: a reply may be lost.
        token = secrets.token_urlsafe(16)
        return retry_until_reachable(
            lambda: self.store.claim(ref, token=token, lease_s=self.lease_s, worker=self.worker),
            what,
            limit_s=self.lease_s,
        )

    def _handle_signals(self) -> None:
        """Here and not when the pool starts its process: billiard sets its own handlers after that."""
        if self._handlers or threading.current_thread() is not threading.main_thread():
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

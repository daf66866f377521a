"""The loop that answers alarms, and tells feeds of groups that have changed. Every web process runs it, for
its share of the partitions.

Answering an alarm is atomic in the store, so any number of loops may run; nobody can watch a job without a
web process, so nobody is told a lie while none runs. It waits for the store alone: messages are handed to
`Dispatch`, and files are removed by the `Sweeper`.
"""

from __future__ import annotations

import logging
from contextlib import AbstractContextManager

import redis

from headway import tracing
from headway.contract.alarms import Due, Ended
from headway.contract.logs import about
from headway.contract.store import JobStore
from headway.loops import forever
from service.scheduling.dispatch import Dispatch
from service.scheduling.keeper import Keeper
from service.scheduling.store_memory import StoreMemory

log = logging.getLogger(__name__)

PERIOD_S = 0.5
"""Between two looks."""
SILENCE_S = 3.0
"""When no loop has reached the store for this long, no worker may have either."""
PAGE = 25
"""Alarms of a partition that are answered together. Redis answers nobody else meanwhile."""


class AlarmLoop:
    """Answers the alarms of the partitions that it keeps, until the process ends."""

    def __init__(
        self,
        store: JobStore,
        keeper: Keeper,
        dispatch: Dispatch,
        lease_s: float,
        memory: StoreMemory | None = None,
    ) -> None:
        """`memory` is kept up to date."""
        self._store = store
        self._keeper = keeper
        self._dispatch = dispatch
        self._memory = memory
        # A worker renews every second and gives a call that hangs a third of the lease.
        self._grace_s = lease_s / 2

    def start(self) -> None:
        forever("alarms", self._step, pause_s=PERIOD_S)

    def _step(self) -> float | None:
        return 0 if self.look() else None

    def look(self) -> bool:
        """Answer what is due now. Returns whether there was more than fits into one look.

        Raises RedisError, when the other partitions are done, if one cannot be looked at."""
        more = False
        if self._memory is not None:
            self._memory.look()
        error: redis.RedisError | None = None
        for look in self._store.alarms.look(
            self._keeper.share, silence_s=SILENCE_S, grace_s=self._grace_s, limit=PAGE
        ):
            if isinstance(look, redis.RedisError):
                error = look
                continue
            more = more or PAGE in (len(look.due), len(look.groups))
            answers = self._store.alarms.answer_each(look.due, _say_ended)
            for job_id, answer in answers.items():
                if isinstance(answer, redis.RedisError) and not isinstance(answer, redis.ResponseError):
                    error = answer
                else:
                    self._answered(job_id, answer)
            for job_id in look.orphans:
                self._store.groups.cancel_orphans(job_id)
            for tally in look.groups:
                self._tell(tally)
        if error is not None:
            raise error
        return more

    def _tell(self, tally: str) -> None:
        try:
            self._store.groups.tell(tally)
        except redis.ResponseError as error:
            self._store.groups.postpone(tally)
            log.error("%s: its feed cannot be told of it: %s", tally, error)

    def _answered(self, job_id: str, message: Due | redis.ResponseError | None) -> None:
        if isinstance(message, redis.ResponseError):
            # If the store refuses every write, it refuses this one too, and the look is over.
            self._store.alarms.postpone(job_id)
            log.error("job %s: its alarm cannot be answered: %s", job_id, message, extra={"job": job_id})
            return
        if message is None:
            return
        if message.why == "worker_lost":
            with _span("worker lost", message) as span:
                span.fail("worker_lost", "the worker was lost; another attempt follows")
        self._dispatch.send_again(message)


def _say_ended(job: Ended) -> None:
    with about(job=job.id, attempt=job.attempt, owner=job.owner), _span("end", job) as span:
        span.set({"headway.outcome": job.state})
        if job.state == "failed":
            span.fail(job.code, job.message)
        log.info("job %s: its alarm ends it as %s (%s)", job.id, job.state, job.code)


def _span(name: str, job: Due | Ended) -> AbstractContextManager[tracing.Span]:
    """Record what no worker can record, as none is there."""
    attributes = tracing.about_job(job.id, job.owner, job.type, job.attempt)
    return tracing.span(name, job.trace, attributes=attributes)

"""The loop that answers alarms and sweeps away what is over its retention. Every web process runs it.

Taking an alarm is atomic in the store, so any number of loops may run; nobody can watch a job without
a web process, so nobody is told a lie while none runs.
"""

from __future__ import annotations

import logging
import random
import shutil
import threading
import time
from pathlib import Path

import redis

from headway.contract.store import JobStore
from service import metrics
from service.scheduling.dispatch import Dispatch

log = logging.getLogger(__name__)

PERIOD_S = 0.5
"""Between two looks, jittered so that processes do not look at the same moment."""
SILENCE_S = 3.0
"""When no loop has reached the store for this long, no worker may have either."""
PAGE = 100
"""Alarms answered in one go."""
CROWDED = 100
"""With so many messages in a queue, one more of a job that had its own makes nobody find it sooner …"""
RARELY = 16
"""… and it might have been lost, so one in so many is sent all the same."""
_SAID = {
    "retry_due": "its next attempt is due, sending its message",
    "worker_lost": "its worker was lost, sending its message for another attempt",
    "unclaimed": "no worker has taken it yet, sending its message again",
}


class AlarmLoop:
    """Answers the alarms of every partition until the process ends."""

    def __init__(self, store: JobStore, dispatch: Dispatch, data_dir: Path, lease_s: float) -> None:
        self._store = store
        self._dispatch = dispatch
        # A worker renews every second and gives a call that hangs a third of the lease.
        self._grace_s = lease_s / 2
        self._artifacts = data_dir / "artifacts"

    def start(self) -> None:
        threading.Thread(target=self._run, name="alarms", daemon=True).start()

    def _run(self) -> None:
        while True:
            more = False
            try:
                more = self.look()
            except redis.RedisError as error:
                log.warning("alarms cannot be answered: %s", error)
            except Exception:
                # Without this loop no job is ever missed again: it must outlive any one job's trouble.
                log.exception("an alarm could not be answered")
            if not more:
                time.sleep(PERIOD_S * random.uniform(0.5, 1.5))  # noqa: S311

    def look(self) -> bool:
        """Answer what is due now; whether there was more than fits into one look."""
        more = False
        for partition in range(self._store.keys.partitions):
            self._store.watch(partition, silence_s=SILENCE_S, grace_s=self._grace_s)
            due = self._store.due(partition, PAGE)
            more = more or len(due) == PAGE
            backlogs: dict[str, int] = {}
            for job_id in due:
                message = self._store.answer_alarm(job_id)
                if message is None:
                    continue
                if message.sends > 1 and message.sends % RARELY:
                    if message.queue not in backlogs:
                        backlogs[message.queue] = self._dispatch.backlog(message.queue)
                    if backlogs[message.queue] >= CROWDED:
                        continue
                log.info("job %s: %s", job_id, _SAID[message.why])
                metrics.ALARMS_ANSWERED.inc()
                self._dispatch.send(message.id, message.type, message.queue)
            for job_id in self._store.expired(partition):
                shutil.rmtree(self._artifacts / job_id, ignore_errors=True)
                self._store.sweep(job_id)
        return more

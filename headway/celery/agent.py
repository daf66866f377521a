"""Agent: a thread beside a project's worker that makes its tasks job types, and starts those submitted."""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from celery import Celery
from celery.worker import state as worker_state
from kombu.exceptions import OperationalError, SerializationError

from headway import tracing
from headway.celery.redaction import Redaction
from headway.celery.run import failure, max_attempts
from headway.celery.selection import Selection
from headway.celery.signature import TaskSignature
from headway.celery.task_message import place_headers
from headway.contract.encoding import RecordError, dumps, rfc3339
from headway.contract.executions import Executions
from headway.contract.foreign import task_id_of
from headway.contract.records import Job
from headway.contract.settings import Settings
from headway.contract.states import ErrorCode
from headway.contract.store import JobStore
from headway.loops import forever

REGISTER_S = 3.0
ALIVE_S = 10.0
"""A worker counts as alive this long after it registered last."""
LOOK_S = 0.5
"""Seconds between two looks for submitted and for canceled jobs."""
PAGE = 100
STOP_S = 1.0

logger = logging.getLogger("headway.celery")


class Agent:
    """Runs in a worker's main process. Several workers have one each: they share the work."""

    def __init__(
        self,
        app: Celery,
        store: Callable[[], JobStore],
        settings: Settings,
        owner: str,
        queue: str,
        selection: Selection,
        redaction: Redaction,
    ) -> None:
        self._app = app
        self._store = store
        self._settings = settings
        self._owner = owner
        self._queue = queue
        self._selection = selection
        self._redaction = redaction
        self._stopped = threading.Event()
        self._registration: threading.Thread | None = None
        self._worker = ""
        self._types: dict[str, str] = {}
        self._revoked_until = 0

    def start(self, consumer: Any) -> None:
        """Begin, for the worker of this consumer."""
        # The consumer comes back after each loss of its broker.
        if self._worker:
            return
        self._worker = consumer.hostname
        self._types = self._describe()
        pool = getattr(consumer, "pool", None)
        about = {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "concurrency": getattr(pool, "limit", None) or 1,
            "queues": [self._queue],
            "started_at": rfc3339(time.time() * 1000),
            "sandbox": {"mode": "off", "missing": []},
            "dropped_messages": 0,
        }

        def register() -> None:
            self._store().registry.register(self._worker, self._types, ALIVE_S, about)

        def forget() -> None:
            self._store().registry.forget(self._worker, self._types)

        self._registration = forever(
            "headway registration", register, pause_s=REGISTER_S, stop=self._stopped, at_end=forget
        )
        forever("headway agent", self._look, pause_s=LOOK_S, stop=self._stopped)

    def stop(self) -> None:
        """Take no more jobs, and no longer count as alive. Waits for nothing: signals' handlers call it."""
        self._stopped.set()

    def join(self) -> None:
        """Wait, after `stop`, until it no longer counts as alive; for STOP_S at most."""
        if self._registration is not None:
            self._registration.join(STOP_S)

    def _describe(self) -> dict[str, str]:
        """The job types: each task's name and its description, in JSON."""
        types = {}
        for name, task in sorted(self._app.tasks.items()):
            # The registry separates a type from its worker by a space.
            if not self._selection.takes_type(name) or name.startswith("celery.") or " " in name:
                continue
            described = {
                "name": name,
                "title": name.rpartition(".")[2].replace("_", " ").capitalize(),
                "queue": self._queue,
                "params": TaskSignature(task.run).schema(),
                "max_attempts": max_attempts(task),
                "foreign": True,
                "owner": self._owner,
            }
            try:
                types[name] = dumps(described)
            except RecordError:  # a default that JSON does not have
                types[name] = dumps({**described, "params": {"type": "object"}})
        return types

    def _look(self) -> None:
        executions = Executions(self._store(), self._settings.lease_s)
        self._learn_of_revoked(executions)
        for _ in range(PAGE):
            if self._stopped.is_set() or not self._types or not self._hand_over(executions):
                return

    def _learn_of_revoked(self, executions: Executions) -> None:
        """Have this worker drop the tasks whose jobs were canceled before they began."""
        # Once more from a moment before: a write may have come late.
        for task_id, at in executions.revoked(self._owner, self._revoked_until - 1000):
            worker_state.revoked.add(task_id)
            self._revoked_until = max(self._revoked_until, at)

    def _hand_over(self, executions: Executions) -> bool:
        """Start the task of a job that was submitted. Returns whether there may be more."""
        # Another version of the project, in another worker, may know the other types.
        found = executions.waiting(self._owner, self._queue, self._types)
        if found is None:
            return False
        ref, name = found
        if not executions.take(ref):
            return False
        page = self._store().read(ref.id, None, 0)
        if page is None:
            return True
        job = Job.model_validate_json(page.document)
        task = self._app.tasks[name]
        try:
            args, kwargs = TaskSignature(task.run).to_call(job.params)
            headers = {
                **tracing.headers(page.fields.get(b"_trace", b"").decode()),
                **place_headers(ref.group, ref.parent),
            }
            more = {"headers": headers} if headers else {}
            task.apply_async(args, kwargs, task_id=task_id_of(job.id), retry=False, **more)
        except Exception as error:  # noqa: BLE001 - any transport's, and the project's own apply_async
            if isinstance(error, self._passing()):
                # Its alarm puts it back into the line.
                about = {"job": job.id, "owner": job.owner}
                logger.warning("job %s: task %s cannot be sent now: %s", job.id, name, error, extra=about)
                return False
            outcome = failure(name, error, self._redaction)
            if isinstance(error, TypeError | SerializationError):
                outcome = replace(outcome, code=ErrorCode.INVALID_INPUT)
            executions.abandon(job.id, outcome)
            return True
        executions.sent(ref)
        return True

    def _passing(self) -> tuple[type[BaseException], ...]:
        """The errors of the broker's transport: another try may succeed."""
        broker = self._app.connection_for_write()
        return (OperationalError, OSError, *broker.connection_errors, *broker.channel_errors)

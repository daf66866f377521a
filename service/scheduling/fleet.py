"""Workforce: who works on what now, and why a job waits.

Read from the store when somebody asks, and kept for a second: the answers are about now, and no event
tells of them.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

from headway.contract.encoding import dumps, rfc3339
from headway.contract.states import State
from headway.contract.store import JobStore, Running, Worker

FRESH_S = 1.0
"""How old this process's view may be."""


@dataclass(frozen=True, slots=True)
class View:
    """The living workers, and what each does (for the caller that asks)."""

    workers: list[Worker]
    running: dict[str, list[Running]]
    """By the worker's name."""

    def why_waiting(self, type: str, not_before_ms: int) -> str | None:
        """Why a job of this type does not run now; None if nothing is in its way."""
        serving = [worker for worker in self.workers if type in worker.types]
        if not serving:
            return f"no living worker serves {type}"
        if not_before_ms > time.time() * 1000:
            return f"the next attempt is due at {rfc3339(not_before_ms)}"
        if all(len(self.running.get(worker.name, ())) >= worker.concurrency for worker in serving):
            return f"all workers that serve {type} are busy"
        return None


class Workforce:
    """Views of the workers, read at most every FRESH_S seconds."""

    def __init__(self, store: JobStore, owner: str) -> None:
        self._store = store
        self._owner = owner
        self._lock = threading.Lock()
        self._read_at = float("-inf")
        self._view = View([], {})

    def view(self, *, fresh: bool = False) -> View:
        """Raises RedisError."""
        with self._lock:
            if fresh or time.monotonic() - self._read_at > FRESH_S:
                running: dict[str, list[Running]] = {}
                for job in self._store.running(self._owner):
                    # A process of the worker's pool claims in the worker's name: "<worker>:<pid>".
                    running.setdefault(job.worker.rpartition(":")[0], []).append(job)
                self._view = View(self._store.workers(), running)
                self._read_at = time.monotonic()
            return self._view

    def explain(self, documents: Sequence[bytes]) -> list[bytes]:
        """The jobs' documents with `waiting_reason`: why a queued or retrying job does not run now."""
        jobs = [json.loads(document) for document in documents]
        waits = [job["id"] for job in jobs if job["state"] in (State.QUEUED, State.RETRYING)]
        reasons: dict[str, str | None] = {}
        if waits:
            view = self.view()
            times = dict(zip(waits, self._store.not_before(waits), strict=True))
            reasons = {
                job["id"]: view.why_waiting(job["type"], times[job["id"]])
                for job in jobs
                if job["id"] in times
            }
        return [
            b'%s,"waiting_reason":%s}' % (document[:-1], dumps(reasons.get(job["id"])).encode())
            for job, document in zip(jobs, documents, strict=True)
        ]

"""The fleet: which workers are alive, what each works on for an owner, and why that owner's jobs wait.

Read from the store on request and kept for a second: they describe the present moment, and no event
announces a change.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import redis

from headway.contract.encoding import dumps, rfc3339
from headway.contract.keys import SERVICE_QUEUE, is_own_queue
from headway.contract.listings import Running
from headway.contract.pages import JobPage
from headway.contract.pauses import Kind, Pause
from headway.contract.registry import Worker
from headway.contract.states import State
from headway.contract.store import JobStore
from service.scheduling.job_types import JobTypes

FRESH_S = 1.0
"""How old this process's view may be."""
MAX_VIEWS = 1000
_AWAITED = {b"children": "it waits for its children", b"message": "it waits for a message"}


@dataclass(frozen=True, slots=True)
class View:
    """The living workers, and what each does for one owner."""

    workers: list[Worker]
    running: dict[str, list[Running]]
    """By the worker's name."""
    pauses: Mapping[tuple[Kind, str], Pause] = field(default_factory=dict)
    """By what is paused. Of other owners' own there is nothing."""

    def why_paused(self, type: str, queue: str) -> str | None:
        """Return why claims of such a job are refused for now, or None."""
        if (pause := self.pauses.get(("type", type))) is not None:
            return f"the type {type} is paused since {pause.since}"
        if (pause := self.pauses.get(("queue", queue))) is not None:
            return f"the queue {queue} is paused since {pause.since}"
        return None

    def why_waiting(self, type: str, queue: str, not_before_ms: int, attempt: int = 1) -> str | None:
        """Return why a job does not run now, or None if nothing is in its way."""
        if (paused := self.why_paused(type, queue)) is not None:
            return paused
        if (early := why_early(not_before_ms, attempt)) is not None and attempt == 0:
            return early
        serving = [worker for worker in self.workers if type in worker.types]
        if not serving:
            return f"no living worker serves {type}"
        serving = [worker for worker in serving if queue in worker.queues]
        if not serving:
            return f"no worker that serves {type} takes from queue {queue}"
        if early is not None:
            return early
        serving = [worker for worker in serving if ("worker", worker.name) not in self.pauses]
        if not serving:
            return f"all workers that serve {type} are draining"
        serving = [worker for worker in serving if not worker.disk_full]
        if not serving:
            return f"the disks of all workers that serve {type} are full"
        if all(len(self.running.get(worker.name, ())) >= worker.concurrency for worker in serving):
            return f"all workers that serve {type} are busy"
        return None


def why_early(not_before_ms: int, attempt: int) -> str | None:
    """Return that it is not the job's time yet, or None."""
    if not_before_ms <= time.time() * 1000:
        return None
    what = "it is to run at" if attempt == 0 else "the next attempt is due at"
    return f"{what} {rfc3339(not_before_ms)}"


class Fleet:
    """Views of the workers, read at most every FRESH_S seconds."""

    def __init__(self, store: JobStore, types: JobTypes) -> None:
        self._store = store
        self._types = types
        self._lock = threading.Lock()
        self._views: dict[str, tuple[float, View]] = {}

    def view(self, owner: str, *, fresh: bool = False) -> View:
        """Return the living workers and what each does for this owner. Raises RedisError."""
        with self._lock:
            read_at, view = self._views.get(owner, (float("-inf"), None))
            if view is None or fresh or time.monotonic() - read_at > FRESH_S:
                running: dict[str, list[Running]] = {}
                for job in self._store.listings.running(owner):
                    # A process of the worker's pool claims in the worker's name: "<worker>:<pid>".
                    running.setdefault(job.worker.rpartition(":")[0], []).append(job)
                pauses = {
                    (pause.kind, pause.name): pause
                    for pause in self._store.pauses.all()
                    if pause.owner in (None, owner)
                }
                view = View(self._store.registry.workers(), running, pauses)
                if len(self._views) >= MAX_VIEWS:
                    self._views.clear()
                self._views[owner] = time.monotonic(), view
            return view

    def explain(self, pages: Sequence[JobPage]) -> list[bytes]:
        """Return the jobs' documents with `waiting_reason`, why a job that waits does not run now, and
        `children`, how many of them are in which state.

        Raises RedisError.
        """
        return [
            b'%s,"waiting_reason":%s,"children":%s}'
            % (page.document[:-1], dumps(self._reason(page)).encode(), self._children(page))
            for page in pages
        ]

    def _children(self, page: JobPage) -> bytes:
        if b"_children" not in page.fields:
            return b"null"
        group = self._store.groups.get(page.owner, page.id)
        return b"null" if group is None else dumps({"counts": json.loads(group)["counts"]}).encode()

    def _reason(self, page: JobPage) -> str | None:
        try:
            return self._why_it_waits(page)
        except redis.RedisError:
            # The job was read, so another server is away: the one that knows all workers.
            return "why is not known: the workers cannot be looked up now"

    def _why_it_waits(self, page: JobPage) -> str | None:
        fields = page.fields
        if json.loads(fields[b"state"]) == State.WAITING:
            return _AWAITED.get(fields.get(b"_waits_for", b""))
        if json.loads(fields[b"state"]) not in (State.QUEUED, State.RETRYING):
            return None
        if is_own_queue(fields[b"_queue"].decode()):
            return self._why_unclaimed(page)
        name = json.loads(fields[b"type"])
        not_before_ms, attempt = int(fields.get(b"_not_before", 0)), int(fields[b"attempt"])
        # Another system has it, whose workers say of some of their tasks only that they are types.
        if b"_sent" in fields and name not in self._types.all():
            return why_early(not_before_ms, attempt)
        return self.view(page.owner).why_waiting(name, fields[b"_queue"].decode(), not_before_ms, attempt)

    def _why_unclaimed(self, page: JobPage) -> str | None:
        """Return why a job that is claimed over HTTP waits."""
        not_before_ms = int(page.fields.get(b"_not_before", 0))
        name = json.loads(page.fields[b"type"])
        if page.fields[b"_queue"].decode() == SERVICE_QUEUE:
            return None
        early = why_early(not_before_ms, int(page.fields[b"attempt"]))
        paused = self.view(page.owner).why_paused(name, page.fields[b"_queue"].decode())
        if paused is not None:
            return paused
        known = self._types.get(name, page.owner)
        if known is None or not known.alive:
            return f"no worker asks for jobs of the type {name} (POST /claims)"
        if early is not None:
            return early
        return "no worker has claimed it yet"

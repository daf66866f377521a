"""Those who deal with the stack from outside, and note what they see: clients, readers, the watch."""

from __future__ import annotations

import http.client
import json
import random
import threading
import time
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any

import redis

from headway.contract.states import State
from headway.contract.store import JobStore
from tests.faults.history import (
    Answer,
    Connection,
    Delivered,
    Held,
    Look,
    Reading,
    Said,
    Submission,
    Waiting,
)
from tests.faults.plan import JobPlan
from tests.faults.services import Owner, Services
from tests.support import processes
from tests.support.sse import Reader

ANSWER_S = 4.0
SILENCE_S = 3.5
"""A stream without a heartbeat for so long is dead: three were due."""
LATE_S = 12.0
"""A request that was not answered in ANSWER_S is carried out later by so much at most."""


def ask(
    address: str, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
) -> tuple[int, Any]:
    """Status and JSON; 0 and None if no answer came, or only a part of one."""
    connection = http.client.HTTPConnection(address, timeout=ANSWER_S)
    try:
        text = None if body is None else json.dumps(body)
        connection.request(method, path, text, {"Content-Type": "application/json", **(headers or {})})
        with connection.getresponse() as response:
            return response.status, json.loads(response.read())
    except (OSError, http.client.HTTPException, ValueError):
        return 0, None
    finally:
        connection.close()


class Client(threading.Thread):
    """Submits one job, perhaps several times; cancels it, if it is to."""

    def __init__(self, plan: JobPlan, addresses: list[str], owner: Owner, over: threading.Event) -> None:
        super().__init__(name=plan.key, daemon=True)
        self.plan = plan
        self.submissions = [Submission(one["labels"]["key"], one) for one in bodies(plan)]
        """One, or those of a batch."""
        self.said: list[Said] = []
        self.job: str | None = None
        self.accepted_at: float | None = None
        self._addresses = addresses
        self.owner = owner
        self._over = over
        self._rng = random.Random(plan.key)

    def run(self) -> None:
        while not self._over.is_set():
            self._submit()
            if self.job is not None or not self.plan.patient:
                break
            self._over.wait(self._rng.uniform(0.1, 0.6))
        if self.job is None:
            return
        if self.plan.again:
            self._submit()
        for n in range(self.plan.says):
            self._say(Said(self.job, f"{self.plan.key} {n}"))
        if self.plan.cancel_after is not None:
            self._over.wait(self.plan.cancel_after)
            self.submissions[0].canceled = True
            while not self._over.is_set():
                address, path = self._rng.choice(self._addresses), f"/jobs/{self.job}/cancel"
                status, _ = ask(address, "POST", path, headers=self.owner.headers)
                # 404: a failover has lost it.
                if status in (200, 202, 404):
                    break
                self._over.wait(0.3)

    def _say(self, said: Said) -> None:
        """Send a message until it is answered, and now and then once more."""
        self.said.append(said)
        body = {"name": "said", "data": said.text}
        while not self._over.is_set():
            address = self._rng.choice(self._addresses)
            path = f"/jobs/{said.job}/messages"
            headers = {"Idempotency-Key": said.text, **self.owner.headers}
            status, _ = ask(address, "POST", path, body, headers)
            said.answers.append(status)
            if status in (404, 409) or (status in (200, 201) and self._rng.random() < 0.7):
                break
            self._over.wait(self._rng.uniform(0.02, 0.2))

    def _submit(self) -> None:
        address = self._rng.choice(self._addresses)
        headers = {"Idempotency-Key": self.plan.key, **self.owner.headers}
        sent = [submission.body for submission in self.submissions]
        if self.plan.copies:
            status, answer = ask(address, "POST", "/jobs:batch", {"jobs": sent}, headers)
        else:
            status, answer = ask(address, "POST", "/jobs", sent[0], headers)
        accepted: list[str | None] = [None] * len(sent)
        if status in (200, 202):
            accepted = [one["id"] for one in (answer["items"] if self.plan.copies else [answer])]
        for submission, job in zip(self.submissions, accepted, strict=True):
            submission.answers.append(Answer(status, job))
        if accepted[0] is not None and self.job is None:
            self.job = accepted[0]
            self.accepted_at = time.monotonic()


def bodies(plan: JobPlan) -> list[dict[str, Any]]:
    """What is submitted now: one body, or those of a batch."""
    body = dict(plan.body)
    if plan.run_after is not None:
        at = datetime.now(UTC) + timedelta(seconds=plan.run_after)
        body["run_at"] = at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    if not plan.copies:
        return [body]
    labels = [{"key": f"{plan.key}.{n}", "batch": plan.key} for n in range(plan.copies)]
    return [{**body, "labels": one} for one in labels]


class Hold(threading.Thread):
    """Pauses a queue or a job type for some seconds."""

    def __init__(self, what: str, seconds: float, addresses: list[str], over: threading.Event) -> None:
        super().__init__(name=f"hold {what}", daemon=True)
        self.held: Held | None = None
        self._lost_until = 0.0
        """Until then a request whose answer was lost may still be carried out."""
        self._what = what
        self._seconds = seconds
        self._addresses = addresses
        self._over = over

    def run(self) -> None:
        self._insist("pause")
        since = time.time()
        self._over.wait(self._seconds)
        kind, _, name = self._what.partition("/")
        self.held = Held(kind, name, since, time.time())
        self._insist("resume")
        # A web process that stood still may have done what it was asked to only now.
        while time.monotonic() < self._lost_until and not self._over.wait(1):
            self._insist("resume")

    def _insist(self, verb: str) -> None:
        """Until it is so. A resume whose answer was lost may have been done: then nothing is paused."""
        while True:
            for address in self._addresses:
                if ask(address, "POST", f"/{self._what}/{verb}", {})[0] in (200, 404):
                    return
                self._lost_until = time.monotonic() + LATE_S
            # Also when the run is over: what is paused would wait for ever.
            time.sleep(0.1)


class Watcher(threading.Thread):
    """Reads a stream through all that happens to it, and comes back with its cursor each time."""

    def __init__(
        self, reading: Reading, address: str, cursor: str | None, owner: Owner, over: threading.Event
    ) -> None:
        super().__init__(name=reading.name, daemon=True)
        self.reading = reading
        self.cursor = cursor
        self.owner = owner
        self._url = f"http://{address}"
        self._over = over
        self._ended: set[str] = set()
        self.until: str | None = None
        """The id at which a stream that stays open is done; set when nothing more will come."""

    @property
    def _path(self) -> str:
        if self.reading.jobs is None:
            return "/events" if self.reading.group is None else f"/events?group={self.reading.group}"
        if len(self.reading.jobs) == 1:
            return f"/jobs/{self.reading.jobs[0]}/events"
        return "/events?" + "&".join(f"job={job_id}" for job_id in self.reading.jobs)

    def run(self) -> None:
        while not self._over.is_set() and not self.reading.done:
            try:
                self._connect()
            except (OSError, ValueError) as error:
                self.reading.connections[-1].error = repr(error)
            if not self.reading.done:
                self._over.wait(0.1)

    def _connect(self) -> None:
        record = Connection(self.cursor, 0)
        self.reading.connections.append(record)
        number = len(self.reading.connections)
        with Reader(self._url, self._path, self.cursor, timeout=SILENCE_S, **self.owner.headers) as reader:
            record.status = reader.status
            if reader.status == 204:
                self.reading.done = True
            if reader.status != 200:
                return
            while not reader.closed and not self._over.is_set() and not self.reading.done:
                last = reader.parser.last_event_id
                for e in reader.receive():
                    # Heartbeats as comments are not events; `shutdown` has no id of its own.
                    if e.event != "shutdown":
                        self.reading.events.append(Delivered(number, e.id, e.event, e.data))
                        if e.event == "end":
                            self._ended.add(e.data["id"])
                        last = e.id
                    self.cursor = e.id or self.cursor
                record.retry_ms = reader.parser.retry_ms
                now = reader.parser.last_event_id
                if now and now != last:
                    self.reading.events.append(Delivered(number, now, "cursor", None))
                    self.cursor = now
                self.reading.done = self._has_all()

    def _has_all(self) -> bool:
        if self.reading.jobs is not None:
            return self._ended.issuperset(self.reading.jobs)
        return (
            self.until is not None and self.cursor is not None and _order(self.cursor) >= _order(self.until)
        )


def _order(event_id: str) -> tuple[int, ...]:
    return tuple(map(int, event_id.split("-"))) if event_id != "0" else (0, 0)


class Watch(threading.Thread):
    """Looks twice a second at who waits, who runs, and what works on it."""

    def __init__(self, stack: Services, store: JobStore, over: threading.Event) -> None:
        super().__init__(name="watch", daemon=True)
        self.looks: list[Look] = []
        self.busy: list[int] = []
        """Pool processes with a job, as the store says."""
        self.live = 0
        self.holding = False
        """Whether something is paused: its jobs wait for that."""
        self._stack = stack
        self._store = store
        self._over = over

    def run(self) -> None:
        while not self._over.wait(0.4):
            try:
                waiting, running = self._jobs()
            except redis.RedisError:
                self.looks.append(Look(time.time(), False, False, [], {}, []))
                continue
            table = processes.table()
            self.busy = [pid for _, pid in running.values()]
            free = False
            for worker in self._stack.of("worker"):
                pool = [p.pid for p in self._stack.pool(worker, table) if not p.stopped]
                free = free or (worker.settled and len(pool) > len(set(pool) & set(self.busy)))
            attempts = {job_id: attempt for job_id, (attempt, _) in running.items()}
            encoders = self._stack.encoders(table)
            calm = self._stack.calm and not self.holding
            self.looks.append(Look(time.time(), calm, free, waiting, attempts, encoders))

    def _jobs(self) -> tuple[list[Waiting], dict[str, tuple[int, int]]]:
        keys, at = self._store.keys, self._store.servers.at
        now_ms = time.time() * 1000
        waiting, running = [], {}
        live = 0
        for owner, state in product(self._stack.owners, (State.QUEUED, State.RETRYING, State.RUNNING)):
            index = keys.jobs(owner.name, state)
            ids: Any = at(index).zrange(index, 0, -1)
            live += len(ids)
            for raw in ids:
                job_id = raw.decode()
                key = keys.job(job_id)
                found: Any = at(key).hmget(key, "attempt", "_not_before", "_worker", "state")
                attempt, not_before, worker, now = found
                if now is None or json.loads(now) != state:
                    continue
                if state is State.RUNNING:
                    running[job_id] = (int(attempt), int(json.loads(worker).rpartition(":")[2]))
                elif float(not_before or 0) <= now_ms:
                    waiting.append(Waiting(job_id, int(attempt)))
        self.live = live
        return waiting, running

"""A run: the stack, those who use it, the faults; then what all of them saw."""

from __future__ import annotations

import json
import random
import re
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import redis

from headway.contract.events import ZERO, Event
from headway.contract.states import LIVE
from headway.contract.store import JobStore
from tests.faults.clients import OWNER, Client, Hold, Watch, Watcher, ask
from tests.faults.history import Attempt, File, History, Reading, Stored
from tests.faults.plan import GROUPS, Fault, JobPlan, Plan, draw_fate
from tests.faults.stack import FaultStack
from tests.support.faulty_proxy import FaultyProxy

STEP_S = 0.05
CROWD = 16
"""More live jobs than this, and neither jobs nor faults are added: the stack would only fall behind."""
FEW = 3
"""Fewer than this, and jobs come faster than their share, so that something is there to be broken."""
CHOICE = 12
"""So many of the faults to come are looked at for one that can be done now."""
READY_S = 60.0
END_S = 150.0
"""Until all jobs must have ended, once nothing is broken any more. After many attempts the wait for the
next is long: up to 16 s after the fifth, and a lost message costs 10 s, then 20."""
READERS_S = 20.0
SWEEP_S = 40.0
"""Until workers have removed what killed attempts left: they look every 30 s."""


JOIN_S = 8.0


class TimeIsUp(Exception):
    """The run took longer than it may."""


class Run:
    """One run in a directory. `history` fills as it goes."""

    def __init__(self, plan: Plan, directory: Path, limit_s: float, say: Callable[[str], None]) -> None:
        self.history = History()
        self._plan = plan
        self._directory = directory
        self._until = time.monotonic() + limit_s
        self._say = say
        self._over = threading.Event()
        self._clients: list[Client] = []
        self._holds: list[Hold] = []
        self._watchers: list[Watcher] = []
        self._unwatched: list[Client] = []

    def run(self, *, wait_for_sweep: bool = True) -> None:
        """Do it all; afterwards nothing that it started is left, whatever happens."""
        stack = FaultStack(self._directory)
        self._ports = stack.ports
        self._proxy = FaultyProxy(
            *stack.ports, fate=partial(draw_fate, random.Random(f"{self._plan.seed}-wire"))
        )
        try:
            self._go(stack, wait_for_sweep)
        finally:
            self._over.set()
            stack.close()
            self._proxy.close()
            for client in self._clients:
                self.history.submissions += client.submissions
                self.history.said += client.said
            for watcher in self._watchers:
                watcher.join(JOIN_S)
                self.history.readings.append(watcher.reading)

    def _go(self, stack: FaultStack, wait_for_sweep: bool) -> None:
        store = stack.new_store(timeout_s=2)
        self._await(stack, READY_S, "the stack to be ready", lambda: _ready(stack, store))
        watch = Watch(stack, store, self._over)
        watch.start()
        for name, group, cursor in (("feed", None, None), ("feed0", None, "0"), ("red", "red", None)):
            self._read(Reading(name, None, group), cursor)
        self._break(stack, watch)
        self._say("all faults are done; waiting for the jobs to end")
        self._await(
            stack, END_S, "what is paused to be resumed", lambda: not any(h.is_alive() for h in self._holds)
        )
        watch.holding = False
        stack.supervise(all_well=True)
        try:
            self._finish(stack, store, watch, wait_for_sweep)
        finally:
            self.history.looks = watch.looks
            self.history.holds = [hold.held for hold in self._holds if hold.held is not None]
            self.history.stops = stack.stops
            stack.supervise(all_well=True)
            self._collect(stack, store)
            self.history.left += stack.end()
            self.history.attempts = attempts(self._directory)

    def _finish(self, stack: FaultStack, store: JobStore, watch: Watch, wait_for_sweep: bool) -> None:
        for client in self._clients:
            self._await(stack, END_S, "the clients", lambda c=client: not c.is_alive())  # type: ignore[misc]
            self._start_watchers()
        if not self._await(stack, END_S, "the jobs to end", lambda: _live(store) == 0, fatal=False):
            return
        for name in GROUPS:
            body = {"expected": max(1, int(store.redis.zcard(store.keys.group(OWNER, name))))}
            self._await(
                stack,
                READERS_S,
                f"PUT /groups/{name}",
                lambda n=name, b=body: ask(stack.ports[0], "PUT", f"/groups/{n}", b)[0] == 200,  # type: ignore[misc]
            )
        for watcher in self._watchers:
            group = watcher.reading.group
            if watcher.reading.jobs is None:
                watcher.until = str(store.feeds.read(OWNER, group, ZERO, 1).last)
        readers = list(self._watchers)
        self._await(
            stack, READERS_S, "the readers", lambda: not any(w.is_alive() for w in readers), fatal=False
        )
        if wait_for_sweep:
            work = self._directory / "work"
            self._await(stack, SWEEP_S, "the sweep", lambda: not any(work.rglob("*")), fatal=False)
            self.history.left += [str(path) for path in work.rglob("*") if path.is_file()]
        self.history.left += [
            f"encoder {e.pid} of {e.job}" for e in (watch.looks[-1].encoders if watch.looks else [])
        ]

    # -- the steps ---------------------------------------------------------------------------------

    def _await(
        self, stack: FaultStack, seconds: float, what: str, holds: Callable[[], bool], *, fatal: bool = True
    ) -> bool:
        deadline = min(time.monotonic() + seconds, self._until)
        while not holds():
            if time.monotonic() > deadline:
                if fatal:
                    raise TimeIsUp(f"waited for {what}")
                self._say(f"waited in vain for {what}")
                return False
            self._step(stack)
        return True

    def _step(self, stack: FaultStack) -> None:
        stack.supervise()
        self._start_watchers()
        time.sleep(STEP_S)

    def _break(self, stack: FaultStack, watch: Watch) -> None:
        """Jobs and faults side by side: as large a part of the ones as of the others."""
        jobs, faults = list(self._plan.jobs), list(self._plan.faults)
        lead = 4
        next_at = time.monotonic() + 0.5
        said = submitted_at = time.monotonic()
        while faults:
            if time.monotonic() > self._until:
                raise TimeIsUp(f"{len(faults)} faults were still to come")
            done = 1 - len(faults) / len(self._plan.faults)
            wanted = min(len(self._plan.jobs), round(done * len(self._plan.jobs)) + lead)
            crowded = watch.live > CROWD
            few = watch.live < FEW and time.monotonic() > submitted_at + 0.5
            ahead = len(self._plan.jobs) - len(jobs) - wanted
            if jobs and not crowded and (ahead < 0 or (few and (ahead < CROWD or not watch.live))):
                submitted_at = time.monotonic()
                self._submit(jobs.pop(0))
            if time.monotonic() >= next_at and not crowded:
                if not jobs and not watch.live:
                    # Nobody works any more: what is left are those who serve.
                    faults = [replace(fault, act="kill", what="web") for fault in faults]
                # There may be no encoder just now, say: then the next, and that one as soon as there is.
                for fault in faults[:CHOICE]:
                    did = self._hold(fault) if fault.act == "hold" else stack.break_(fault, watch.busy)
                    if did is not None:
                        faults.remove(fault)
                        next_at = time.monotonic() + fault.after
                        self.history.faults.append(f"{time.time():.3f} {did}")
                        break
            if time.monotonic() - said > 20:
                said = time.monotonic()
                self._say(
                    f"{len(self.history.faults)} faults, {len(self._clients)} jobs, {watch.live} live"
                )
            watch.holding = any(hold.is_alive() for hold in self._holds)
            self._step(stack)
        for job in jobs:
            self._submit(job)

    def _hold(self, fault: Fault) -> str | None:
        """Pause a queue or a type, unless something is paused: with both nothing would be left to do."""
        if any(hold.is_alive() for hold in self._holds):
            return None
        hold = Hold(fault.what, fault.seconds, self._ports, self._over)
        self._holds.append(hold)
        hold.start()
        return f"held {fault.what} for {fault.seconds:.1f} s"

    def _submit(self, plan: JobPlan) -> None:
        # Two thirds of the requests meet what networks do.
        ports = [self._proxy.port, self._proxy.port, self._ports[len(self._clients) % 2]]
        client = Client(plan, ports, self._over)
        self._clients.append(client)
        client.start()
        self._unwatched.append(client)

    def _start_watchers(self) -> None:
        """A reader for each job that was accepted and is to have one; for every fifth, one of five jobs."""
        for client in list(self._unwatched):
            late = (
                client.accepted_at is None
                or time.monotonic() < client.accepted_at + client.plan.watch_after
            )
            if late and (client.is_alive() or client.job is not None):
                continue
            self._unwatched.remove(client)
            if client.job is not None:
                self._start_watcher(client)

    def _start_watcher(self, client: Client) -> None:
        assert client.job is not None
        plan = client.plan
        if plan.watch:
            cursors = {"0": "0", "nothing": None, "foreign": "1-1"}
            reading = Reading(
                f"reader of {client.job}", [client.job], None, foreign=plan.watch == "foreign"
            )
            self._read(reading, cursors[plan.watch])
        accepted = list(dict.fromkeys(c.job for c in self._clients if c.job is not None))
        if len(accepted) >= 5 and len(accepted) % 5 == 0:
            self._read(Reading(f"list up to {client.job}", accepted[-5:], None), None)

    def _read(self, reading: Reading, cursor: str | None) -> None:
        watcher = Watcher(reading, self._proxy.port, cursor, self._over)
        self._watchers.append(watcher)
        watcher.start()

    # -- collecting --------------------------------------------------------------------------------

    def _collect(self, stack: FaultStack, store: JobStore) -> None:
        h = self.history
        ids: Any = store.redis.zrange(store.keys.jobs(OWNER), 0, -1)
        for raw in ids:
            job_id = raw.decode()
            page = store.read(job_id, ZERO, 1_000_000)
            assert page is not None
            h.events[job_id] = [_stored(e) for e in page.events]
            self._await(
                stack,
                20,
                f"GET /jobs/{job_id}",
                lambda i=job_id: self._document(stack, i),  # type: ignore[misc]
            )
        h.feed = [_stored(e) for e in store.feeds.read(OWNER, None, ZERO, 1_000_000).events]
        for group in GROUPS:
            h.groups[group] = [_stored(e) for e in store.feeds.read(OWNER, group, ZERO, 1_000_000).events]
        root = self._directory / "artifacts"
        for path in root.rglob("*") if root.is_dir() else ():
            # Beside the jobs lies the mark of whose files these are.
            if path.is_file() and path.parent != root:
                job_id, attempt, *name = path.relative_to(root).parts
                h.files.append(File(job_id, int(attempt), "/".join(name), path.stat().st_size))

    def _document(self, stack: FaultStack, job_id: str) -> bool:
        for port in stack.ports:
            status, document = ask(port, "GET", f"/jobs/{job_id}")
            if status == 200:
                # Why it waits is about the moment, and no event tells it.
                document.pop("waiting_reason", None)
                document.pop("children", None)
                self.history.documents[job_id] = document
                return True
        return False


def _stored(e: Event) -> Stored:
    return Stored(str(e.id), str(e.prev), e.type, json.loads(e.data))


def _live(store: JobStore) -> int:
    try:
        return sum(int(store.redis.zcard(store.keys.jobs(OWNER, state))) for state in LIVE)
    except redis.RedisError:
        return -1


def _ready(stack: FaultStack, store: JobStore) -> bool:
    try:
        alive = cast("list[bytes]", store.redis.zrange(store.keys.alive, 0, -1))
        workers = {member.split(b" ")[1] for member in alive}
    except redis.RedisError:
        return False
    return len(workers) >= 2 and all(ask(port, "GET", "/readyz")[0] == 200 for port in stack.ports)


_BEGUN = re.compile(r"job (\S+) \(\S+\), attempt (\d+)")
_DONE = re.compile(r"job (\S+): (succeeded|failed|to be retried|released|canceled|superseded)(?:,? .*)?")
_VOID = re.compile(r"job (\S+): another attempt holds it, the outcome is void")


def attempts(directory: Path) -> list[Attempt]:
    """What the workers' logs say of attempts. In one process they follow one another."""
    found: list[Attempt] = []
    for log in sorted(directory.glob("worker*.log")):
        current: dict[int, Attempt] = {}
        for line in log.read_text(errors="replace").splitlines():
            try:
                said = json.loads(line)
            except ValueError:
                continue
            if not isinstance(said, dict) or said.get("logger") != "headway.sdk.attempt":
                continue
            pid, message = said["pid"], said["message"]
            if begun := _BEGUN.fullmatch(message):
                current[pid] = Attempt(begun[1], int(begun[2]), pid)
                found.append(current[pid])
            elif (done := _DONE.fullmatch(message)) and pid in current:
                current.pop(pid).outcome = done[2]
            elif _VOID.fullmatch(message) and pid in current:
                current[pid].void = True
    return found


def upper_bound(faults: int) -> float:
    """The rule of three: no violation in n independent faults, so with 95 % confidence their rate is below
    3/n (Hanley and Lippman-Hand, JAMA 1983)."""
    return 3 / faults

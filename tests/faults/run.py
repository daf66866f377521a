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
from itertools import product
from pathlib import Path
from typing import Any, cast

import redis

from headway.contract.events import ZERO
from headway.contract.states import LIVE
from headway.contract.store import JobStore
from tests.faults.clients import Client, Hold, Watch, Watcher, ask
from tests.faults.history import Attempt, History, Reading, Stored
from tests.faults.plan import GROUPS, Fault, JobPlan, Plan, draw_fate
from tests.faults.services import Owner, Services
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
    """One run in a directory, on a stack that is started there. `histories` has one for each owner of jobs,
    and fills as it goes."""

    def __init__(
        self,
        plan: Plan,
        directory: Path,
        limit_s: float,
        say: Callable[[str], None],
        start: Callable[[Path], Services] = FaultStack,
    ) -> None:
        self.histories: dict[str, History] = {}
        self.faults: list[str] = []
        self._start = start
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
        stack = self._start(self._directory)
        self._addresses, self._owners = stack.addresses, stack.owners
        self.histories = {o.name: History(faults=self.faults, owner=o.name) for o in stack.owners}
        self._proxy = FaultyProxy(
            *stack.through, fate=partial(draw_fate, random.Random(f"{self._plan.seed}-wire"))
        )
        try:
            self._go(stack, wait_for_sweep)
        finally:
            self._over.set()
            stack.close()
            self._proxy.close()
            for client in self._clients:
                self.histories[client.owner.name].submissions += client.submissions
                self.histories[client.owner.name].said += client.said
            for watcher in self._watchers:
                watcher.join(JOIN_S)
                self.histories[watcher.owner.name].readings.append(watcher.reading)
            for history in self.histories.values():
                history.lossy = stack.lossy

    def _go(self, stack: Services, wait_for_sweep: bool) -> None:
        store = stack.new_store(timeout_s=2)
        self._await(stack, READY_S, "the stack to be ready", lambda: _ready(stack, store))
        watch = Watch(stack, store, self._over)
        watch.start()
        for owner in stack.owners:
            for name, group, cursor in (("feed", None, None), ("feed0", None, "0"), ("red", "red", None)):
                self._read(owner, Reading(name, None, group), cursor)
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
            stack.supervise(all_well=True)
            for owner in stack.owners:
                self._collect(stack, store, owner)
            left, begun = stack.end(), attempts(self._directory)
            for history in self.histories.values():
                history.looks, history.attempts = watch.looks, begun
                history.holds = [hold.held for hold in self._holds if hold.held is not None]
                history.stops = stack.stops
                history.left += left

    def _finish(self, stack: Services, store: JobStore, watch: Watch, wait_for_sweep: bool) -> None:
        for client in self._clients:
            self._await(stack, END_S, "the clients", lambda c=client: not c.is_alive())  # type: ignore[misc]
            self._start_watchers()
        if not self._await(
            stack, END_S, "the jobs to end", lambda: _live(store, stack.owners) == 0, fatal=False
        ):
            return
        for owner, name in product(stack.owners, GROUPS):
            self._await(
                stack,
                READERS_S,
                f"PUT /groups/{name}",
                partial(_close_group, stack, store, owner, name),
            )
        for watcher in self._watchers:
            group = watcher.reading.group
            if watcher.reading.jobs is None:
                watcher.until = str(store.feeds.read(watcher.owner.name, group, ZERO, 1).last)
        readers = list(self._watchers)
        self._await(
            stack, READERS_S, "the readers", lambda: not any(w.is_alive() for w in readers), fatal=False
        )
        if wait_for_sweep:
            swept = lambda: not any(any(work.rglob("*")) for work in stack.work)  # noqa: E731
            self._await(stack, SWEEP_S, "the sweep", swept, fatal=False)
            left = [str(path) for work in stack.work for path in work.rglob("*") if path.is_file()]
            for history in self.histories.values():
                history.left += left
        for history in self.histories.values():
            history.left += [
                f"encoder {e.pid} of {e.job}" for e in (watch.looks[-1].encoders if watch.looks else [])
            ]

    # -- the steps ---------------------------------------------------------------------------------

    def _await(
        self, stack: Services, seconds: float, what: str, holds: Callable[[], bool], *, fatal: bool = True
    ) -> bool:
        deadline = min(time.monotonic() + seconds, self._until + END_S)
        while not holds():
            if time.monotonic() > deadline:
                if fatal:
                    raise TimeIsUp(f"waited for {what}")
                self._say(f"waited in vain for {what}")
                return False
            self._step(stack)
        return True

    def _step(self, stack: Services) -> None:
        stack.supervise()
        self._start_watchers()
        time.sleep(STEP_S)

    def _break(self, stack: Services, watch: Watch) -> None:
        """Jobs and faults side by side: as large a part of the ones as of the others."""
        jobs, faults = list(self._plan.jobs), list(self._plan.faults)
        lead = 4
        next_at = time.monotonic() + 0.5
        said = submitted_at = time.monotonic()
        while faults:
            if time.monotonic() > self._until:
                self._say(f"the time is up: {len(faults)} faults were still to come")
                break
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
                    served = {"stop": "kill", "hold": "kill"}
                    faults = [
                        replace(fault, act=served.get(fault.act, fault.act), what="web")
                        if fault.act in served or fault.what in ("pool", "encoder")
                        else fault
                        for fault in faults
                    ]
                # There may be no encoder just now, say: then the next, and that one as soon as there is.
                for fault in faults[:CHOICE]:
                    did = self._hold(fault) if fault.act == "hold" else stack.break_(fault, watch.busy)
                    if did is not None:
                        faults.remove(fault)
                        next_at = time.monotonic() + fault.after
                        self.faults.append(f"{time.time():.3f} {did}")
                        break
            if time.monotonic() - said > 20:
                said = time.monotonic()
                self._say(f"{len(self.faults)} faults, {len(self._clients)} jobs, {watch.live} live")
            watch.holding = any(hold.is_alive() for hold in self._holds)
            self._step(stack)
        for job in jobs if not faults else ():
            self._submit(job)

    def _hold(self, fault: Fault) -> str | None:
        """Pause a queue or a type, unless something is paused: with both nothing would be left to do."""
        if any(hold.is_alive() for hold in self._holds):
            return None
        hold = Hold(fault.what, fault.seconds, self._addresses, self._over)
        self._holds.append(hold)
        hold.start()
        return f"held {fault.what} for {fault.seconds:.1f} s"

    def _submit(self, plan: JobPlan) -> None:
        # Two thirds of the requests meet what networks do.
        n = len(self._clients)
        through = f"127.0.0.1:{self._proxy.port}"
        addresses = [through, through, self._addresses[n % len(self._addresses)]]
        client = Client(plan, addresses, self._owners[n % len(self._owners)], self._over)
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
            self._read(client.owner, reading, cursors[plan.watch])
        own = (c.job for c in self._clients if c.job is not None and c.owner == client.owner)
        accepted = list(dict.fromkeys(own))
        if len(accepted) >= 5 and len(accepted) % 5 == 0:
            self._read(client.owner, Reading(f"list up to {client.job}", accepted[-5:], None), None)

    def _read(self, owner: Owner, reading: Reading, cursor: str | None) -> None:
        watcher = Watcher(reading, f"127.0.0.1:{self._proxy.port}", cursor, owner, self._over)
        self._watchers.append(watcher)
        watcher.start()

    # -- collecting --------------------------------------------------------------------------------

    def _collect(self, stack: Services, store: JobStore, owner: Owner) -> None:
        h = self.histories[owner.name]
        index = store.keys.jobs(owner.name)
        ids: Any = store.servers.at(index).zrange(index, 0, -1)
        for raw in ids:
            job_id = raw.decode()
            page = store.read(job_id, ZERO, 1_000_000)
            assert page is not None
            h.events[job_id] = [Stored.of(e) for e in page.events]
            self._await(stack, 20, f"GET /jobs/{job_id}", partial(self._document, owner, job_id))
        h.feed = [Stored.of(e) for e in store.feeds.read(owner.name, None, ZERO, 1_000_000).events]
        for group in GROUPS:
            h.groups[group] = [
                Stored.of(e) for e in store.feeds.read(owner.name, group, ZERO, 1_000_000).events
            ]
        h.files = stack.files()

    def _document(self, owner: Owner, job_id: str) -> bool:
        for address in self._addresses:
            status, document = ask(address, "GET", f"/jobs/{job_id}", headers=owner.headers)
            if status == 200:
                # Why it waits is about the moment, and no event tells it.
                document.pop("waiting_reason", None)
                document.pop("children", None)
                self.histories[owner.name].documents[job_id] = document
                return True
        return False


def _close_group(stack: Services, store: JobStore, owner: Owner, name: str) -> bool:
    key = store.keys.group(owner.name, name)
    body = {"expected": max(1, int(store.servers.at(key).zcard(key)))}
    return ask(stack.addresses[0], "PUT", f"/groups/{name}", body, owner.headers)[0] == 200


def _live(store: JobStore, owners: list[Owner]) -> int:
    keys = [store.keys.jobs(owner.name, state) for owner in owners for state in LIVE]
    try:
        return sum(int(store.servers.at(key).zcard(key)) for key in keys)
    except redis.RedisError:
        return -1


def _ready(stack: Services, store: JobStore) -> bool:
    key = store.keys.alive
    try:
        alive = cast("list[bytes]", store.servers.at(key).zrange(key, 0, -1))
        workers = {member.split(b" ")[1] for member in alive}
    except redis.RedisError:
        return False
    return len(workers) >= 2 and all(ask(at, "GET", "/readyz")[0] == 200 for at in stack.addresses)


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

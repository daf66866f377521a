"""`python -m tests.faults.shop`: breaks what an instrumented Celery project and Headway need. README.md."""

from __future__ import annotations

import argparse
import json
import os
import random
import secrets
import shutil
import signal
import sys
import tempfile
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Collection
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import redis

from headway.contract.events import ZERO
from headway.contract.states import State
from service.process import valkey
from tests.faults.clients import Watcher, ask
from tests.faults.history import Reading, Stored
from tests.faults.run import upper_bound
from tests.faults.services import Owner, Service
from tests.faults.shop_checker import COMPLAINTS, LEASE_S, Look, ShopHistory, Span, check, read_ledger
from tests.support import processes
from tests.support.credentials import OWNER
from tests.support.shop_stack import TASKS, ShopStack
from tests.support.stack import free_port

KILLS = {"pool": 5, "shop": 2, "broker": 2, "valkey": 3, "web": 1}
PAUSES = {"pool": 2, "shop": 1, "broker": 1, "valkey": 3, "web": 1}
LONGEST_S = {"pool": 5.0, "shop": 5.0, "broker": 2.0, "valkey": 5.0, "web": 3.0}
DOWN_S = 2.5
CALM_S = 5.0
LOOK_S = 0.25
END_S = 90.0
SAME_S = 15.0
DEAF_S = 25.0
"""A worker that has begun nothing for so long, while something is to be done, is started again."""


class ShopFaults(ShopStack):
    """The project with two workers and its own broker; Headway's web process and Redis."""

    def __init__(self, directory: Path) -> None:
        os.environ["HEADWAY_FAULTS"] = secrets.token_hex(8)
        self._mark = f"HEADWAY_FAULTS={os.environ['HEADWAY_FAULTS']}"
        directory = directory.resolve()
        (directory / "tmp").mkdir()
        self._broker_port = free_port()
        self._broker = valkey.start(directory / "broker", port=self._broker_port, fsync="always")
        super().__init__(
            directory,
            broker=f"redis://127.0.0.1:{self._broker_port}/0",
            fsync="always",
            AUTH="none",
            TMPDIR=str(directory / "tmp"),
            LEASE_S=str(LEASE_S),
            SHOP_VISIBILITY_S="5",
        )
        self.shop_environ["SHOP_BACKEND"] = ""
        self.services: dict[str, Service] = {}
        self._later: list[tuple[float, Callable[[], None]]] = []
        self.spans: list[Span] = []
        try:
            self.start_web()
            self.services["valkey"] = Service("valkey", self._valkey_again, self.valkey.process)
            self.services["broker"] = Service("broker", self._broker_again, self._broker.process)
            web = partial(self.start, "web", "-m", "service", "web")
            self.services["web"] = Service("web", web, self.processes["web"])
            for name in ("shop1", "shop2"):
                self.services[name] = Service(name, partial(self._worker, name), self.start_shop(name=name))
        except BaseException:
            self.close()
            raise

    def _worker(self, name: str) -> Any:
        command = ("-m", "celery", "-A", TASKS, "worker", "-c", "2", "-l", "INFO", "-n", f"{name}@%h")
        return self.start(name, *command, **self.shop_environ)

    def _valkey_again(self) -> Any:
        self.start_valkey()
        return self.valkey.process

    def _broker_again(self) -> Any:
        self._broker = valkey.start(self.directory / "broker", port=self._broker_port, fsync="always")
        return self._broker.process

    @property
    def calm(self) -> bool:
        now = time.monotonic()
        needed = [self.services[name] for name in ("valkey", "web")]
        return all(service.up and now - service.well_since > CALM_S for service in needed)

    def break_(self, rng: random.Random, victims: Collection[str]) -> str | None:
        """Kill or pause something; what was done, or None if there was nothing to do it to."""
        act = rng.choices(["kill", "pause"], [6, 4])[0]
        odds = {what: n for what, n in (KILLS if act == "kill" else PAUSES).items() if what in victims}
        what = rng.choices(list(odds), list(odds.values()))[0]
        longest = LONGEST_S[what] if act == "pause" else DOWN_S
        seconds = rng.uniform(0.1, longest)
        name = rng.choice(["shop1", "shop2"]) if what in ("pool", "shop") else what
        service = self.services[name]
        if not service.up:
            return None
        pid = service.process.pid
        table = processes.table()
        pids = [pid, *(p.pid for p in table.values() if p.session == pid and p.pid != pid)]
        if what == "pool":
            children = [p.pid for p in table.values() if p.parent == pid]
            if not children:
                return None
            pids = [rng.choice(children)]
        now = time.time()
        if act == "kill":
            processes.signal_all(pids, signal.SIGKILL)
            self.spans += [Span("killed", now, float("inf"), p) for p in pids]
            if what != "pool":
                service.again_at = time.monotonic() + seconds
                self.spans.append(Span(what, now, now + seconds + 1.5))
        else:
            processes.signal_all(pids, signal.SIGSTOP)
            self.spans += [Span("paused", now, now + seconds, p) for p in pids]
            self.spans.append(Span(what, now, now + seconds + 0.5))
            service.paused = what != "pool"

            def resume() -> None:
                processes.signal_all(pids, signal.SIGCONT)
                service.paused = False
                service.well_since = time.monotonic()

            self._later.append((time.monotonic() + seconds, resume))
        return f"{act} {what} {pids} {seconds:.1f} s"

    def supervise(self, *, all_well: bool = False) -> None:
        now = time.monotonic()
        due = [call for at, call in self._later if all_well or at <= now]
        self._later = [(at, call) for at, call in self._later if not (all_well or at <= now)]
        for call in due:
            call()
        for service in self.services.values():
            if all_well and service.again_at is not None:
                service.again_at = 0.0
            service.supervise()

    def close(self) -> None:
        """End everything that was started, whoever its parent is by now."""
        processes.signal_all(processes.ours(self._mark), signal.SIGKILL)
        self._broker.process.kill()
        self._broker.process.wait()
        for process in self.processes.values():
            process.wait()
        self.processes.clear()
        if self._sender is not None:
            with suppress(BrokenPipeError):
                self._sender.communicate(timeout=10)
            self._sender = None
        self.kill_valkey()
        self._broker.stop()
        super().close()
        os.environ.pop("HEADWAY_FAULTS", None)


class ShopRun:
    """One run in a directory. `history` fills as it goes."""

    def __init__(
        self,
        seed: int,
        tasks: int,
        faults: int,
        gap_s: float,
        directory: Path,
        say: Callable[[str], None],
        victims: Collection[str] = tuple(KILLS),
    ) -> None:
        self.history = ShopHistory()
        self._rng = random.Random(seed)
        self._tasks, self._faults, self._gap_s, self._victims = tasks, faults, gap_s, victims
        self._directory = directory
        self._ledger = directory / "ledger"
        self._ledger.touch()
        self._say = say
        self._over = threading.Event()
        self._calls = [self._call(n) for n in range(tasks)]
        self.did: list[str] = []

    def _call(self, n: int) -> str:
        rng = self._rng
        ends = rng.choices(["returns", "raises", "retries", "sends"], [5, 2, 2, 2])[0]
        task = "audited_late" if ends != "retries" and rng.random() < 0.25 else "audited"
        args = (str(self._ledger), round(rng.uniform(0.01, 2), 2), ends)
        return f"patient({task}, {args!r}, {str(uuid.UUID(int=rng.getrandbits(128), version=4))!r})"

    def run(self) -> None:
        """Do it all; afterwards nothing that it started is left, whatever happens."""
        stack = ShopFaults(self._directory)
        reading = Reading("feed", None, None)
        watcher = Watcher(reading, f"127.0.0.1:{stack.port}", "0", Owner(OWNER), self._over)
        sender = threading.Thread(target=self._send, args=(stack,), daemon=True)
        watch = threading.Thread(target=self._watch, args=(stack,), daemon=True)
        try:
            for thread in (watcher, sender, watch):
                thread.start()
            self._break(stack, sender)
            stack.supervise(all_well=True)
            self._say("all faults are done; waiting for tasks and jobs to end")
            self._await_end(stack, sender)
            watcher.until = str(stack.store.feeds.read(OWNER, None, ZERO, 1).last)
            watcher.join(20)
            self._collect(stack)
        finally:
            self._over.set()
            stack.close()
        watcher.join(8)
        h = self.history
        h.headway.readings.append(reading)
        h.spans = stack.spans
        read_ledger(self._ledger.read_text(), h)
        for log in ("shop1", "shop2", "sender"):
            path = self._directory / f"{log}.log"
            lines = path.read_text(errors="replace").splitlines() if path.exists() else []
            h.complaints += [line for line in lines if any(c in line for c in COMPLAINTS)]

    def _send(self, stack: ShopFaults) -> None:
        for call in self._calls:
            if self._over.is_set():
                return
            task_id, seconds = stack.send(call)
            self.history.sent[task_id] = seconds
            self.history.sent_at[task_id] = time.time()
            # As fast as faults come, so that there is always something to be broken.
            self._over.wait(self._gap_s * self._faults / self._tasks)

    def _watch(self, stack: ShopFaults) -> None:
        store = stack.new_store(timeout_s=2)
        while not self._over.wait(LOOK_S):
            calm = stack.calm
            with suppress(redis.RedisError):
                running = {}
                for job in store.listings.running(OWNER):
                    pid = int(job.worker.rpartition(":")[2])
                    labels = json.loads(str(store.redis.hget(store.keys.job(job.id), "labels"), "utf-8"))  # type: ignore[arg-type]
                    running[labels["task_id"]] = (pid, Path(f"/proc/{pid}").exists())
                self.history.looks.append(Look(time.time(), calm, running))

    def _break(self, stack: ShopFaults, sender: threading.Thread) -> None:
        next_at = time.monotonic() + 1
        while len(self.did) < self._faults:
            stack.supervise()
            if time.monotonic() >= next_at and sender.is_alive():
                did = stack.break_(self._rng, self._victims)
                if did is not None:
                    self.did.append(did)
                    next_at = time.monotonic() + self._rng.uniform(0, 2 * self._gap_s)
            elif not sender.is_alive():
                return
            time.sleep(0.05)

    def _await_end(self, stack: ShopFaults, sender: threading.Thread) -> None:
        deadline = time.monotonic() + END_S
        size, moved_at = -1, time.monotonic()
        before: Any = None
        while time.monotonic() < deadline:
            stack.supervise()
            if self._ledger.stat().st_size != size:
                size, moved_at = self._ledger.stat().st_size, time.monotonic()
            seen = ShopHistory(sent=dict(self.history.sent))
            read_ledger(self._ledger.read_text(), seen)
            ran = seen.of_tasks()
            waits = [t for t in seen.sent if t not in ran or ran[t][-1].how == "retried"]
            keys, client = stack.store.keys, stack.store.redis
            lives: Any = [job for s in LIVE for job in client.zrange(keys.jobs(OWNER, s), 0, -1)]
            if lives != before:
                before, lives_since = lives, time.monotonic()
            # Those of which nobody knows that they were begun stay.
            if (
                not sender.is_alive()
                and not waits
                and (not lives or time.monotonic() - lives_since > SAME_S)
            ):
                return
            if waits and time.monotonic() - moved_at > DEAF_S:
                self._say(f"{len(waits)} tasks wait, and no worker begins one: workers are started again")
                moved_at = time.monotonic()
                for name in ("shop1", "shop2"):
                    processes.signal_all([stack.services[name].process.pid], signal.SIGTERM)
            time.sleep(0.2)
        self._say(f"waited in vain for {waits} to run and {lives} to end")

    def _collect(self, stack: ShopFaults) -> None:
        h, store = self.history.headway, stack.store
        ids: Any = store.redis.zrange(store.keys.jobs(OWNER), 0, -1)
        for raw in ids:
            job_id = raw.decode()
            page = store.read(job_id, ZERO, 1_000_000)
            assert page is not None
            h.events[job_id] = [Stored.of(e) for e in page.events]
            h.documents[job_id] = ask(f"127.0.0.1:{stack.port}", "GET", f"/jobs/{job_id}")[1]
        h.feed = [Stored.of(e) for e in store.feeds.read(OWNER, None, ZERO, 1_000_000).events]


LIVE = (State.QUEUED, State.RUNNING, State.RETRYING)


def summary(run: ShopRun) -> str:
    h = run.history
    acts = Counter(" ".join(did.split()[:2]) for did in run.did)
    how = Counter(str(e.how or "cut off") for e in h.executions)
    states = Counter(d["state"] for d in h.headway.documents.values())
    return "\n".join(
        (
            f"faults: {dict(acts)}",
            f"tasks: {len(h.sent)}, executions: {dict(how)}",
            f"jobs: {dict(states)}; looks: {len(h.looks)}, calm {sum(look.calm for look in h.looks)}",
        )
    )


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.shop", description=__doc__)
    parser.add_argument("--faults", type=int, default=60, help="kills and pauses (60)")
    parser.add_argument("--tasks", type=int, default=120, help="tasks that are sent (120)")
    parser.add_argument("--seed", type=int, help="draws tasks and faults (random)")
    parser.add_argument("--gap", type=float, default=1.4, help="mean seconds between faults (1.4)")
    given = parser.parse_args()
    seed = secrets.randbelow(10**6) if given.seed is None else given.seed
    directory = Path(tempfile.mkdtemp(prefix="headway-faults-shop-"))
    print(f"seed {seed}: {given.faults} faults over {given.tasks} tasks, in {directory}", flush=True)
    run = ShopRun(
        seed, given.tasks, given.faults, given.gap, directory, lambda text: print(text, flush=True)
    )
    run.run()
    print(summary(run))
    violations = check(run.history)
    for violation in violations:
        print(f"VIOLATION {violation}")
    if violations:
        print(f"{len(violations)} violations after {len(run.did)} faults; seed {seed}; {directory}")
        return 1
    shutil.rmtree(directory, ignore_errors=True)
    print(
        f"no violation in {len(run.did)} faults: with 95 % confidence a fault causes one with a "
        f"probability below {upper_bound(max(1, len(run.did))):.2%} (rule of three)"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())

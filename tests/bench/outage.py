"""Redis paused for half a minute, then killed and started again 20 times, under readers and load."""

from __future__ import annotations

import os
import signal
import threading
import time
from contextlib import closing
from functools import partial

from headway.contract.events import EventType
from headway.contract.store import Report
from headway.loops import retry_until_reachable
from service.process import valkey
from tests.bench.bench import Bench
from tests.bench.peers import Headway
from tests.bench.publisher import body
from tests.bench.storm import hand_over, start

NAME = "outage"
TITLE = "Redis paused and killed again and again under its readers"
JOBS = 100
RATE = 500.0
"""Log lines a second, over all jobs in turn; what the outage holds up is made up for afterwards."""
LINES = 5
"""In one append: what it holds is there as a whole, or not at all."""
PAUSE_S = 30.0
KILLS = 20
UP_S = 2.0
"""Between two kills."""
GIVE_UP_S = 60.0
"""How long after the last event a reader may still be behind."""


def run(bench: Bench) -> None:
    pause_s, kills = (3.0, 2) if bench.quick else (PAUSE_S, KILLS)
    for _ in range(bench.runs):
        with closing(Headway(bench.fresh(), JOBS, fsync="always")) as server:
            measure(bench, server, pause_s, kills)


class Publisher:
    """Appends in a thread until it is told to stop, each batch until Redis has taken it."""

    def __init__(self, server: Headway) -> None:
        self._store = server.stack.new_store()
        self._claims = server.jobs.claims()
        self._stop = threading.Event()
        self._rounds = 0
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def finish(self) -> int:
        """Stop after the same number of lines for every job; the number of each job's last line."""
        self._stop.set()
        self._thread.join()
        self._store.redis.close()
        return self._rounds * LINES - 1

    def _run(self) -> None:
        while not self._stop.is_set():
            due = time.monotonic() + JOBS * LINES / RATE
            first = self._rounds * LINES
            for claim in self._claims:
                lines = [body(n, 0, "log") for n in range(first, first + LINES)]
                reports = [Report(EventType.LOG, t) for t in lines]
                retry_until_reachable(
                    partial(self._store.append, claim, self._rounds + 1, reports), "the publisher"
                )
                time.sleep(max(0.0, LINES / RATE - 0.001))
            self._rounds += 1
            time.sleep(max(0.0, due - time.monotonic()))


def measure(bench: Bench, server: Headway, pause_s: float, kills: int) -> None:
    directory = bench.fresh()
    go, opened = directory / "go", directory / "opened"
    long_enough = pause_s + kills * (UP_S + valkey.READY_S) + GIVE_UP_S
    with start(bench, server, JOBS, go, opened, long_enough) as readers:
        readers.wait_for(opened)
        publisher = Publisher(server)
        time.sleep(UP_S)
        pid = server.stack.valkey.process.pid
        os.kill(pid, signal.SIGSTOP)
        time.sleep(pause_s)
        os.kill(pid, signal.SIGCONT)
        for _ in range(kills):
            time.sleep(UP_S)
            server.stack.kill_valkey()
            server.stack.start_valkey()
        time.sleep(UP_S)
        last = publisher.finish()
        hand_over(go, f"{last} {last}\n")
        got = readers.result()
    bench.add(
        NAME,
        f"{bench.connections:,} readers of {JOBS} jobs, {pause_s:.0f} s of pause, {kills} kills",
        server.name,
        events_a_job=last + 1,
        complete_after_s=got["seconds"],
        closed_early=got["closed_before"] + got["closed_early"],
        gaps=got["gaps"],
        doubles=got["doubles"],
        resets=got["resets"],
        incomplete=got["incomplete"],
    )

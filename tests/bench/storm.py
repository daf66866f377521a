"""The web process is killed under its readers and started again; all come back at once, with cursors."""

from __future__ import annotations

import signal
import time
from contextlib import closing
from pathlib import Path

from tests.bench.bench import Bench
from tests.bench.clients import Client
from tests.bench.peers import Headway

NAME = "storm"
TITLE = "Reconnect storm: the process killed and started again under its readers"
BEFORE, AWAY, AFTER = 2, 3, 2
"""Log lines of each job while the readers are there, while the process is away, and from the moment
that they come back: each reader has to see all of them, once and in order."""
RATE = 1000.0
"""Events a second while they come back."""
GIVE_UP_S = 60.0


def run(bench: Bench) -> None:
    for _ in range(bench.runs):
        for jobs, case in ((bench.connections, "a job each"), (1, "all of one job")):
            for tickets in (False, True):
                with closing(Headway(bench.fresh(), jobs, tickets=tickets)) as server:
                    measure(bench, server, jobs, f"{bench.connections:,} readers, {case}")


def measure(bench: Bench, server: Headway, jobs: int, case: str) -> None:
    directory = bench.fresh()
    go, opened, now = directory / "go", directory / "opened", directory / "now"
    now.touch()
    with start(bench, server, jobs, go, opened, GIVE_UP_S) as readers:
        readers.wait_for(opened)
        rate = max(RATE, jobs / 2)
        append(server, rate, jobs * BEFORE, 0, now)
        time.sleep(1)  # all have them, or would be behind when the process dies
        server.stack.stop("web", signal.SIGKILL)
        append(server, rate, jobs * AWAY, BEFORE, now)
        last = BEFORE + AWAY + AFTER - 1
        live = server.publish(RATE, jobs * AFTER / RATE, go, kind="log", first=BEFORE + AWAY)
        starting = time.monotonic()
        server.stack.start_web()
        ready = time.monotonic()
        hand_over(go, f"{BEFORE + AWAY - 1} {last}\n")
        live.result()
        got = readers.result()
    bench.add(
        NAME,
        case,
        server.name,
        start_s=ready - starting,
        caught_up_p50_s=got["caught_p50_s"],
        caught_up_all_s=got["caught_all_s"],
        start_to_all_s=ready - starting + got["caught_all_s"],
        caught_up=got["caught_up"],
        refused=got["refused"],
        failed=got["failed"],
        **{"not 200": got["not_200"]},
        closed_early=got["closed_early"],
        gaps=got["gaps"],
        doubles=got["doubles"],
        resets=got["resets"],
        incomplete=got["incomplete"],
    )


def start(bench: Bench, server: Headway, jobs: int, go: Path, opened: Path, seconds: float) -> Client:
    """The readers, in turn of so many jobs; the first lines of storm.c say what the files are for."""
    command: list[str | Path] = [
        bench.binaries["storm"], "127.0.0.1", str(server.port), server.path, str(bench.connections),
        str(go), str(opened), str(seconds),
    ]  # fmt: skip
    return Client(command, seconds + 30, STORM_MOD=str(jobs))


def append(server: Headway, rate: float, count: int, first: int, ready: Path) -> None:
    """So many log lines, over all jobs in turn; returns when they are written."""
    server.publish(rate, count / rate, ready, kind="log", first=first).result()


def hand_over(path: Path, text: str) -> None:
    """A file that is complete as soon as it is there."""
    part = path.with_suffix(".part")
    part.write_text(text)
    part.rename(path)

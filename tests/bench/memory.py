"""What an idle stream costs in resident memory, and how fast streams open."""

from __future__ import annotations

import time
from contextlib import closing

from tests.bench import process
from tests.bench.bench import Bench
from tests.bench.clients import Client, Load
from tests.bench.peers import Headway, Missing, Nchan, Server

NAME = "memory"
TITLE = "Idle streams, and how fast they open (128 at a time)"
HOLD_S = 3.0
"""The streams are idle for so long, then memory is read."""
HEARTBEAT_S = 2
"""Headway's, so that every stream has had one when memory is read."""
WARM = 50


def run(bench: Bench) -> None:
    for _ in range(bench.runs):
        for jobs, case in ((bench.connections, "a job each"), (1, "all of one job")):
            for make in (
                lambda directory, jobs=jobs: Headway(directory, jobs, HEARTBEAT_S=str(HEARTBEAT_S)),
                lambda directory, jobs=jobs: Nchan(directory, jobs),
            ):
                try:
                    with closing(make(bench.fresh())) as server:
                        measure(bench, server, jobs, f"{bench.connections:,} streams, {case}")
                except Missing as missing:
                    bench.note(str(missing))


def measure(bench: Bench, server: Server, jobs: int, case: str) -> None:
    directory = bench.fresh()
    # The first requests load code; that is the process's price, not the streams'.
    warm = (server.path % 0, str(WARM), "0")
    Client([bench.binaries["sseload"], "127.0.0.1", str(server.port), *warm], limit_s=300).result()
    time.sleep(1)
    before = process.memory(server.pid)
    clients = Load(
        bench.binaries["sseload"],
        directory,
        server.port,
        server.path,
        bench.connections,
        HOLD_S + 0.5,
        jobs=jobs,
    )
    opened = clients.wait_open()
    time.sleep(max(0.0, opened + HOLD_S - time.monotonic()))
    after = process.memory(server.pid)
    got = clients.result()
    bench.note_trouble(NAME, server.name, got)
    bench.add(
        NAME,
        case,
        server.name,
        RSS_KiB_a_stream=(after.rss - before.rss) / bench.connections,
        PSS_KiB_a_stream=(after.pss - before.pss) / bench.connections,
        RSS_before_MiB=before.rss / 1024,
        RSS_after_MiB=after.rss / 1024,
        opened_per_s=bench.connections / got["open_s"],
        failed=got["failed"],
    )

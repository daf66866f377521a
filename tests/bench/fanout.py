"""One job, many readers, up to 40 events a second: Headway beside its peers, in turn."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing, nullcontext
from pathlib import Path

from tests.bench import process
from tests.bench.bench import Bench, Window
from tests.bench.clients import Load
from tests.bench.peers import Headway, Missing, Nchan, RawFan, Server, Starlette

NAME = "fanout"
TITLE = "Fan-out: one job, many readers"
RATE = 20.0
EASY_RATE = 5.0
"""One that no server has to be late at: what each does for a delivery shows only here."""
HARD_RATE = 40.0
"""One that no server can keep up with by writing each event by itself: what it delivers at most."""
SETTLE_S = 0.5
"""Not measured: the first moments after the last connection opened."""


def run(bench: Bench) -> None:
    cases = [
        (min(1000, bench.connections), RATE),
        (bench.connections, EASY_RATE),
        (bench.connections, RATE),
        (bench.connections, HARD_RATE),
    ]
    for connections, rate in dict.fromkeys(cases):
        for _ in range(bench.runs):
            for make in peers(bench, rate):
                try:
                    measure(bench, connections, rate, make)
                except Missing as missing:
                    bench.note(str(missing))


def peers(bench: Bench, rate: float) -> list[Callable[[Path, Path], Server]]:
    def rawfan(directory: Path, ready: Path) -> Server:
        return RawFan(bench.binaries["rawfan"], directory, rate, bench.seconds + 10, ready)

    return [
        lambda directory, _: Headway(directory),
        lambda directory, _: Headway(directory, tickets=True),
        rawfan,
        lambda directory, _: Nchan(directory),
        lambda directory, _: Starlette(directory, python=bench.python),
    ]


def measure(bench: Bench, connections: int, rate: float, make: Callable[[Path, Path], Server]) -> None:
    directory = bench.fresh()
    seconds = bench.seconds
    with closing(make(directory, directory / "open")) as server:
        path = server.path % 0 if "%" in server.path else server.path
        with server.publish(rate, seconds + 10, directory / "open") or nullcontext():
            clients = Load(bench.binaries["sseload"], directory, server.port, path, connections, seconds)
            opened = clients.wait_open()
            time.sleep(SETTLE_S)
            window = Window(serving=server.pid, store=server.store_pid)
            writes, waited = process.writes(server.pid), process.waited_s(server.pid)
            began = time.monotonic()
            time.sleep(max(0.0, opened + seconds - 0.2 - time.monotonic()))
            cpu = window.end()
            writes = process.writes(server.pid) - writes
            waited = process.waited_s(server.pid) - waited
            elapsed = time.monotonic() - began
            got = clients.result()
    bench.note_trouble(NAME, server.name, got)
    deliveries = got["events_per_s"] * elapsed
    values = {
        "deliveries_per_s": got["events_per_s"],
        "CPU_µs_each": cpu["serving"] / deliveries * 1e6 if deliveries else 0.0,
        # A server that is late may put several events into one write: fewer writes, later events. Then
        # the price of a delivery is not that of a server which writes each by itself.
        "events_a_write": deliveries / writes if writes else 0.0,
        "CPU_µs_a_write": cpu["serving"] / writes * 1e6 if writes else 0.0,
        "waited_for_a_core_%": waited / elapsed * 100,
        "CPU_%": cpu["serving"] / elapsed * 100,
        "p50_ms": got["p50_ms"],
        "p99_ms": got["p99_ms"],
        "bytes_each": got["bytes_after_open"] / max(1, got["events_per_s"] * seconds),
    }
    if "store" in cpu:
        values["Valkey_CPU_%"] = cpu["store"] / elapsed * 100
    bench.add(NAME, f"{connections:,} readers, {rate:.0f} events/s", server.name, **values)

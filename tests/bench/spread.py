"""As many jobs as readers: from append to the reader's socket at several rates, and nothing lost."""

from __future__ import annotations

import time
from contextlib import closing

from tests.bench import process
from tests.bench.bench import Bench, Window
from tests.bench.clients import Load
from tests.bench.peers import Headway, Missing, Nchan

NAME = "spread"
TITLE = "Append to client: a job of its own for every reader"
RATES = (1000, 2500, 5000)
DRAIN_S = 1.5
"""Readers stay so long after the last event: what has not come by then is lost."""


def run(bench: Bench) -> None:
    for rate in RATES[:1] if bench.quick else RATES:
        for _ in range(bench.runs):
            for make in (Headway, Nchan):
                try:
                    measure(bench, make, rate)
                except Missing as missing:
                    bench.note(str(missing))


def measure(bench: Bench, make: type[Headway] | type[Nchan], rate: int) -> None:
    directory = bench.fresh()
    count, seconds = bench.connections, bench.seconds
    with (
        closing(make(directory, count)) as server,
        server.publish(rate, seconds, directory / "open", punctual=True) as publisher,
    ):
        clients = Load(
            bench.binaries["sseload"],
            directory,
            server.port,
            server.path,
            count,
            seconds + DRAIN_S,
            jobs=count,
        )
        opened = clients.wait_open()
        waited = process.waited_s(server.pid)
        window = Window(serving=server.pid, store=server.store_pid, publisher=publisher.process.pid)
        time.sleep(max(0.0, opened + seconds * 0.95 - time.monotonic()))
        cpu = window.end()
        waited = process.waited_s(server.pid) - waited
        elapsed = time.monotonic() - opened
        sent = publisher.result()
        got = clients.result()
    bench.note_trouble(NAME, server.name, got)
    values = {
        "sent_per_s": sent["sent"] / sent["seconds"],
        "p50_ms": got["p50_ms"],
        "p99_ms": got["p99_ms"],
        "max_ms": got["max_ms"],
        "lost": sent["sent"] - got["events"],
        "late_ms": sent["late_ms"],
        "waited_for_a_core_%": waited / elapsed * 100,
        "CPU_%": cpu["serving"] / elapsed * 100,
        "publisher_%": cpu["publisher"] / elapsed * 100,
        "client_s": got["client_cpu_s"],
    }
    if "store" in cpu:
        values["Valkey_%"] = cpu["store"] / elapsed * 100
    bench.add(NAME, f"{count:,} jobs, {rate:,} events/s", server.name, **values)

"""Readers that never read, among many that do: what they cost the others and the process."""

from __future__ import annotations

import re
import socket
import time
from contextlib import closing

from tests.bench import process
from tests.bench.bench import Bench
from tests.bench.clients import load
from tests.bench.peers import Headway

NAME = "slow"
TITLE = "Slow readers: 100 that never read, under load"
SLOW = 100
RATE = 10.0
PAD = 2000
"""Bytes more in each event, so that the buffers of those who do not read are full after some seconds."""


def run(bench: Bench) -> None:
    connections = bench.connections // 2
    for _ in range(bench.runs):
        for slow in (0, SLOW):
            with closing(Headway(bench.fresh())) as server:
                measure(bench, server, connections, slow)


def measure(bench: Bench, server: Headway, connections: int, slow: int) -> None:
    directory = bench.fresh()
    # They stop for good once the kernel's buffers are full; until then they cost what all do.
    seconds = bench.seconds * 2
    stuck = [never_reading(server) for _ in range(slow)]
    publisher = server.publish(RATE, seconds - 1, directory / "open", pad=PAD)
    try:
        clients = load(
            bench.binaries["sseload"], directory, server.port, server.path % 0, connections, seconds
        )
        opened = clients.wait_open()
        before = process.memory(server.pid)
        time.sleep(max(0.0, opened + seconds - 2 - time.monotonic()))
        after = process.memory(server.pid)
        sent = publisher.result()
        got = clients.result()
    finally:
        publisher.stop()
    newest = int(sent["sent"]) - 1
    received = [read_all(one) for one in stuck]
    values = {
        "p50_ms": got["p50_ms"],
        "p99_ms": got["p99_ms"],
        "max_ms": got["max_ms"],
        "lost_by_others": sent["sent"] * connections - got["events"],
        "RSS_growth_MiB": (after.rss - before.rss) / 1024,
    }
    if slow:
        values["slow_that_missed_some"] = sum(count(data) < sent["sent"] for data in received)
        values["slow_that_have_the_newest"] = sum(f'"n":{newest},'.encode() in data for data in received)
        values["KiB_each_was_sent"] = sum(map(len, received)) / slow / 1024
    bench.add(NAME, f"{connections:,} readers, {slow} that never read", server.name, **values)


def never_reading(server: Headway) -> socket.socket:
    """A client that asks for the stream and then reads nothing, its receive buffer as small as can be."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.connect(("127.0.0.1", server.port))
    client.sendall(b"GET %s HTTP/1.1\r\nHost: bench\r\n\r\n" % (server.path % 0).encode())
    return client


def read_all(client: socket.socket) -> bytes:
    """What a client that reads again after all is given, until nothing comes for a while."""
    client.settimeout(2)
    found = bytearray()
    with client:
        try:
            while data := client.recv(1 << 18):
                found += data
        except TimeoutError:
            pass
    return bytes(found)


def count(data: bytes) -> int:
    return len(re.findall(rb'"n":\d+,', data))

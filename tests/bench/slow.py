"""Readers that never read, among many that do: what they cost the others and the process."""

from __future__ import annotations

import re
import selectors
import socket
import time
from contextlib import closing
from typing import cast

from tests.bench import process
from tests.bench.bench import Bench
from tests.bench.clients import Load
from tests.bench.peers import Headway

NAME = "slow"
TITLE = "Slow readers: 100 that never read, under load"
SLOW = 100
RATE = 10.0
READ_AGAIN_S = 4.0
PAD = 1000
"""Bytes more in each event of the load."""
FILL, FILL_PAD = 40, 8000
"""So many events, this much larger, fill the buffers of those who do not read."""


def run(bench: Bench) -> None:
    connections = bench.connections // 2
    for _ in range(bench.runs):
        for slow in (0, SLOW):
            with closing(Headway(bench.fresh())) as server:
                measure(bench, server, connections, slow)


def measure(bench: Bench, server: Headway, connections: int, slow: int) -> None:
    directory = bench.fresh()
    begin = directory / "begin"
    begin.touch()
    fresh = process.memory(server.pid)
    stuck = [never_reading(server) for _ in range(slow)]
    # Their buffers are full before the others come: what follows is the price of the blocked.
    server.publish(50, FILL / 50, begin, pad=FILL_PAD).result()
    with server.publish(RATE, bench.seconds, directory / "open", pad=PAD, first=FILL) as publisher:
        path, seconds = server.path % 0, bench.seconds + 1.5
        clients = Load(bench.binaries["sseload"], directory, server.port, path, connections, seconds)
        opened = clients.wait_open()
        before = process.memory(server.pid)
        time.sleep(max(0.0, opened + bench.seconds - 0.5 - time.monotonic()))
        after = process.memory(server.pid)
        sent = publisher.result()
        got = clients.result()
    bench.note_trouble(NAME, server.name, got)
    total = FILL + int(sent["sent"])
    received = read_all(stuck)
    values = {
        "p50_ms": got["p50_ms"],
        "p99_ms": got["p99_ms"],
        "max_ms": got["max_ms"],
        "lost_by_others": sent["sent"] * connections - got["events"],
        "RSS_fresh_MiB": fresh.rss / 1024,
        "RSS_all_open_MiB": before.rss / 1024,
        "RSS_after_load_MiB": after.rss / 1024,
    }
    if slow:
        values["slow_that_missed_some"] = sum(count(data) < total for data in received)
        values["slow_that_have_the_newest"] = sum(f'"n":{total - 1},'.encode() in data for data in received)
        values["KiB_each_was_sent"] = sum(map(len, received)) / slow / 1024
    bench.add(NAME, f"{connections:,} readers, {slow} that never read", server.name, **values)


def never_reading(server: Headway) -> socket.socket:
    """A client that asks for the stream and then reads nothing, its receive buffer as small as can be."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.connect(("127.0.0.1", server.port))
    client.sendall(b"GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n" % (server.path % 0).encode())
    return client


def read_all(clients: list[socket.socket]) -> list[bytes]:
    """What those who read again after all are given within some seconds. All at once: the server may cut
    off who has taken nothing for long."""
    found = {client: bytearray() for client in clients}
    selector = selectors.DefaultSelector()
    for client in clients:
        client.setblocking(False)
        selector.register(client, selectors.EVENT_READ)
    deadline = time.monotonic() + READ_AGAIN_S
    while selector.get_map() and time.monotonic() < deadline:
        for key, _ in selector.select(0.2):
            client = cast(socket.socket, key.fileobj)
            try:
                data = client.recv(1 << 18)
            except ConnectionError:
                data = b""
            found[client] += data
            if not data:
                selector.unregister(client)
    selector.close()
    for client in clients:
        client.close()
    return [bytes(data) for data in found.values()]


def count(data: bytes) -> int:
    return len(re.findall(rb'"n":\d+,', data))

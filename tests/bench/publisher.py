"""A process that publishes events at an even rate: `python -m tests.bench.publisher '{…}'` (Spec as JSON).

To Headway: JobStore.append through the real scripts, pipelined. To a peer: POST over one connection
that is kept alive, pipelined. Its last line is JSON: what it sent, and how late it was at worst.
"""

from __future__ import annotations

import json
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from headway.contract.events import EventType
from headway.contract.keys import Keys
from headway.contract.store import Report
from tests.bench.jobs import Jobs, PipelinedStore

TICK_S = 0.002
"""At high rates events go out in batches of this length."""
BATCH_S = 0.005
"""A publisher that is late does not send more than this at once."""


@dataclass(frozen=True, slots=True)
class Spec:
    rate: float
    """Events a second, over all jobs in turn."""
    seconds: float
    """Rate × seconds events are sent."""
    ready: str
    """Begin when this file exists."""
    jobs: str = ""
    """A file of Jobs: publish to Headway …"""
    port: int = 0
    path: str = ""
    """… or by HTTP to a path with a %d."""
    count: int = 1
    """So many jobs, for HTTP."""
    kind: str = "progress"
    pad: int = 0
    """So many bytes more in each message."""
    first: int = 0
    """Number of the first event of each job; also how many batches its claim has had."""

    punctual: bool = False
    """Stop when the seconds are over, even if not all was sent: readers that have a fixed time to stay
    would be said to have lost what was sent after they had gone."""

    def argument(self) -> str:
        return json.dumps(asdict(self))


def body(number: int, pad: int, kind: str) -> str:
    """An event as a worker makes it, with its number in its job (`n`) and CLOCK_REALTIME in ns (`t`)."""
    mark = f'"n":{number},"t":{time.time_ns()}'
    if kind == "log":
        return f'{{"level":"info","message":"a line of the log{"." * pad}",{mark}}}'
    return (
        f'{{"fraction":0.5123,"current":5123,"total":10000,"unit":"frames","message":"encoding{"." * pad}",'
        '"stage":{"name":"encode","index":2,"count":3,"fraction":0.5123},"rate":59.94,"eta_s":81.4,'
        f'"data":{{{mark}}}}}'
    )


Sender = Callable[[range], None]
"""Sends the events with these numbers, counted over all jobs, and waits for the answers."""


def to_headway(spec: Spec) -> Sender:
    jobs = Jobs.load(Path(spec.jobs))
    store = PipelinedStore(jobs.port, Keys())
    claims = jobs.claims()
    kind = EventType(spec.kind)
    field = "progress" if kind is EventType.PROGRESS else ""

    def send(numbers: range) -> None:
        for k in numbers:
            number = spec.first + k // len(claims)
            text = body(number, spec.pad, kind)
            report = Report(kind, text, field, text if field else "")
            store.append(claims[k % len(claims)], number + 1, [report])
        for reply in store.flush():
            if reply[0] != b"ok":
                raise RuntimeError(f"append was answered with {reply!r}")

    return send


def to_http(spec: Spec) -> Sender:
    connection = socket.create_connection(("127.0.0.1", spec.port))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(numbers: range) -> None:
        requests = []
        for k in numbers:
            number, job = divmod(k, spec.count)
            # What Headway's script puts in front of the body.
            head = (
                f'{{"job":"0-bench----------------{job:06d}","attempt":1,"at":"2026-01-01T00:00:00.000Z",'
            )
            data = (head + body(spec.first + number, spec.pad, spec.kind)[1:]).encode()
            requests.append(
                b"POST %s HTTP/1.1\r\nHost: localhost\r\n"
                b"X-EventSource-Event: %s\r\nContent-Length: %d\r\n\r\n%s"
                % ((spec.path % job).encode(), spec.kind.encode(), len(data), data)
            )
        connection.sendall(b"".join(requests))
        answered, got = 0, b""
        while answered < len(requests):
            piece = connection.recv(1 << 16)
            if not piece:
                raise ConnectionError("the peer closed the publisher's connection")
            got += piece
            answered += got.count(b"HTTP/1.1 2")
            if b"HTTP/1.1 4" in got or b"HTTP/1.1 5" in got:
                raise RuntimeError(got[:200])
            got = got[-9:]  # the beginning of a status line, never all of what is counted

    return send


def run(spec: Spec) -> dict[str, float]:
    send = to_headway(spec) if spec.jobs else to_http(spec)
    print("waiting", flush=True)
    while not Path(spec.ready).exists():
        time.sleep(0.001)
    total = round(spec.rate * spec.seconds)
    largest = max(1, round(spec.rate * BATCH_S))
    sent, worst = 0, 0.0
    start = time.monotonic()
    while sent < total:
        elapsed = time.monotonic() - start
        if spec.punctual and elapsed > spec.seconds:
            break
        due = min(total, int(elapsed * spec.rate) + 1)
        if due <= sent:
            time.sleep(max(TICK_S, sent / spec.rate - elapsed))
            continue
        worst = max(worst, elapsed - sent / spec.rate)
        until = min(due, sent + largest)
        send(range(sent, until))
        sent = until
    seconds = time.monotonic() - start
    return {"sent": sent, "seconds": seconds, "late_ms": worst * 1000, "cpu_s": time.process_time()}


if __name__ == "__main__":
    print(json.dumps(run(Spec(**json.loads(sys.argv[1])))))

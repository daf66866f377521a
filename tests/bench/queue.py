"""The queue: how fast jobs are accepted and done, and how soon one begins, beside other queues."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from headway.contract.access import LOCAL
from headway.contract.states import State
from tests.bench.bench import Bench, Window
from tests.bench.queue_peers import Peer, Project, peers
from tests.bench.table import percentile
from tests.support.stack import Stack
from tests.support.wait import until

NAME = "queue"
TITLE = "The queue, beside others"
CONNECTIONS = 8
BATCH = 1000
TASKS = "tests.bench.queue_tasks"
SUBMITTED, BATCHED = "jobs submitted one by one", f"jobs submitted in batches of {BATCH}"
NOOP, UPDATES = "no-op jobs worked off by two processes", "jobs with ten updates worked off"
BEGIN = "from submission to the task's first line"


def run(bench: Bench) -> None:
    count = 300 if bench.quick else 3_000
    measures = [
        partial(_headway, bench, count),
        *(partial(_peer, bench, count, one) for one in peers(bench)),
    ]
    for number in range(bench.runs):
        # Whichever comes second may find a warmer machine.
        for measure in measures if number % 2 else reversed(measures):
            measure()


# -- Headway -----------------------------------------------------------------------------------------


def _headway(bench: Bench, count: int) -> None:
    directory = bench.fresh()
    begins = directory / "begins"
    unlimited = {"SUBMIT_RATE": "0", "MAX_LIVE_JOBS": "0"}
    with Stack(directory, AUTH="none", HEADWAY_TASKS=TASKS, BENCH_BEGINS=str(begins), **unlimited) as stack:
        # It leaves the types behind.
        stack.start_worker()
        stack.start_web()
        _latency(bench, "headway", begins, count // 10, lambda: _post(stack, "bench.begin"))
        stack.stop("worker")
        _submit(bench, stack, count)
        _work_off(bench, stack, NOOP, count)
        _submit_batches(bench, stack, "bench.updates", count)
        _work_off(bench, stack, UPDATES, count)


def _submit(bench: Bench, stack: Stack, count: int) -> None:
    request = _request(stack, "/jobs", {"type": "bench.noop"})
    connections = [socket.create_connection(("127.0.0.1", stack.port)) for _ in range(CONNECTIONS)]
    window = Window(web=stack.pid("web"), valkey=stack.valkey.process.pid)
    began = time.perf_counter()
    for _ in range(count // CONNECTIONS):
        for connection in connections:
            connection.sendall(request)
        for connection in connections:
            _answer(connection)
    elapsed = time.perf_counter() - began
    _add(bench, SUBMITTED, "headway", count, elapsed, window)
    for _ in range(count % CONNECTIONS):
        _post(stack, "bench.noop")
    for connection in connections:
        connection.close()


def _submit_batches(bench: Bench, stack: Stack, type: str, count: int) -> None:
    size = min(BATCH, count)
    request = _request(stack, "/jobs:batch", {"jobs": [{"type": type}] * size})
    window = Window(web=stack.pid("web"), valkey=stack.valkey.process.pid)
    began = time.perf_counter()
    with socket.create_connection(("127.0.0.1", stack.port)) as connection:
        for _ in range(count // size):
            connection.sendall(request)
            _answer(connection)
    _add(bench, BATCHED, "headway", count, time.perf_counter() - began, window)


def _work_off(bench: Bench, stack: Stack, case: str, count: int) -> None:
    key = stack.store.keys.jobs(LOCAL, State.SUCCEEDED)
    before = int(stack.store.redis.zcard(key))

    def done() -> int:
        return int(stack.store.redis.zcard(key)) - before

    stack.start("worker", "-m", "worker")
    until(done, 60, "the first job")
    first = done()
    window = Window(worker=stack.pid("worker"), valkey=stack.valkey.process.pid, web=stack.pid("web"))
    began = time.perf_counter()
    until(lambda: done() >= count, 600, "the last job")
    _add(bench, case, "headway", count - first, time.perf_counter() - began, window)
    stack.stop("worker")


def _post(stack: Stack, type: str) -> None:
    with socket.create_connection(("127.0.0.1", stack.port)) as connection:
        connection.sendall(_request(stack, "/jobs", {"type": type}))
        _answer(connection)


def _request(stack: Stack, path: str, body: Any) -> bytes:
    text = json.dumps(body).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{stack.port}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(text)}\r\n\r\n"
    )
    return head.encode() + text


def _answer(connection: socket.socket) -> None:
    """Read one answer to its end."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += connection.recv(1 << 16)
    head, _, body = data.partition(b"\r\n\r\n")
    assert b" 202 " in head, data
    length = int(head.lower().partition(b"content-length:")[2].split()[0])
    while len(body) < length:
        body += connection.recv(1 << 16)


# -- the peers ---------------------------------------------------------------------------------------


def _peer(bench: Bench, count: int, peer: Peer) -> None:
    if peer.slow:
        count //= 10
    project = Project(peer, bench.fresh())
    try:
        for case, name in ((NOOP, "noop"), (UPDATES, "updates")):
            if name == "updates" and not peer.updates:
                continue
            elapsed = float(project.send(name, count)[-1])
            if case == NOOP:
                bench.add(NAME, SUBMITTED, peer.name, per_s=count / elapsed)
            with project.working() as pid:
                until(lambda: project.left() < count, 60, "the first task")
                left = project.left()
                window = Window(worker=pid, valkey=project.server.process.pid)
                began = time.perf_counter()
                until(lambda: not project.left(), 600, "the last task")
                _add(bench, case, peer.name, left, time.perf_counter() - began, window)
        with project.working():
            project.send("begin", 1)
            until(project.begins.exists, 60, "the first task")
            project.begins.unlink()
            sent = [int(at) for at in project.send("begin", count // 10, 0.01)[:-1]]
            _add_latency(bench, peer.name, project.begins, sent)
    finally:
        project.close()


# -- both --------------------------------------------------------------------------------------------


def _latency(bench: Bench, who: str, begins: Path, count: int, submit: Callable[[], object]) -> None:
    submit()
    until(begins.exists, 60, "the first task")
    begins.unlink()
    sent = []
    for _ in range(count):
        sent.append(time.time_ns())
        submit()
        time.sleep(0.01)
    _add_latency(bench, who, begins, sent)


def _add_latency(bench: Bench, who: str, begins: Path, sent: list[int]) -> None:
    until(lambda: begins.read_text().count("\n") == len(sent), 60, "the last task")
    began = sorted(map(int, begins.read_text().split()))
    # Two processes may take two of them in turn; the order of the times is as good.
    took = [(after - before) / 1e6 for before, after in zip(sent, began, strict=True)]
    bench.add(NAME, BEGIN, who, p50_ms=percentile(took, 0.5), p99_ms=percentile(took, 0.99))


def _add(bench: Bench, case: str, who: str, count: int, elapsed: float, window: Window) -> None:
    used = {f"{name}_CPU_µs": cpu / count * 1e6 for name, cpu in window.end().items()}
    bench.add(NAME, case, who, per_s=count / elapsed, **used)

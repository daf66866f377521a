"""The queue: how fast jobs are taken in and worked off, and how soon one begins, beside Celery alone."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import redis

from headway.contract.access import LOCAL
from headway.contract.states import State
from service.process import valkey
from tests.bench.bench import Bench, Window
from tests.bench.table import percentile
from tests.support.checkout import ROOT
from tests.support.stack import Stack, free_port
from tests.support.wait import until

NAME = "queue"
TITLE = "The queue, beside Celery alone"
CONNECTIONS = 8
BATCH = 1000
TASKS = "tests.bench.queue_tasks"
SUBMITTED, BATCHED = "jobs submitted one by one", f"jobs submitted in batches of {BATCH}"
NOOP, UPDATES = "no-op jobs worked off by two processes", "jobs with ten updates worked off"
BEGIN = "from submission to the task's first line"
SEND = """
import sys, time
from tests.bench.queue_tasks import app
name, count, pause_s = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
app.send_task("noop", queue="warm")
began = time.perf_counter()
for _ in range(count):
    print(time.time_ns(), flush=bool(pause_s))
    app.send_task(name)
    if pause_s:
        time.sleep(pause_s)
print(time.perf_counter() - began)
"""


def run(bench: Bench) -> None:
    count = 300 if bench.quick else 3_000
    for number in range(bench.runs):
        # Whichever comes second may find a warmer machine.
        for measure in (_headway, _celery) if number % 2 else (_celery, _headway):
            measure(bench, count)


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


# -- Celery ------------------------------------------------------------------------------------------


def _celery(bench: Bench, count: int) -> None:
    directory = bench.fresh()
    server = valkey.start(directory / "valkey", port=free_port())
    begins = directory / "begins"
    environ = {
        **os.environ,
        "BENCH_BROKER": f"redis://127.0.0.1:{server.port}/0",
        "BENCH_BACKEND": f"redis://127.0.0.1:{server.port}/1",
        "BENCH_BEGINS": str(begins),
        "C_FORCE_ROOT": "1",
    }
    broker = redis.Redis(port=server.port or 0)

    def send(name: str, count: int, pause_s: float = 0) -> list[str]:
        command = [sys.executable, "-c", SEND, name, str(count), str(pause_s)]
        sent = subprocess.run(command, cwd=ROOT, env=environ, stdout=subprocess.PIPE, text=True, check=True)
        return sent.stdout.split()

    try:
        for case, name in ((NOOP, "noop"), (UPDATES, "updates")):
            elapsed = float(send(name, count)[-1])
            if case == NOOP:
                bench.add(NAME, SUBMITTED, "Celery", per_s=count / elapsed)
            with _CeleryWorker(directory, environ) as worker:
                until(lambda: int(broker.llen("celery")) < count, 60, "the first task")
                left = int(broker.llen("celery"))
                window = Window(worker=worker.process.pid, valkey=server.process.pid)
                began = time.perf_counter()
                until(
                    lambda: not broker.llen("celery") and not broker.hlen("unacked"), 600, "the last task"
                )
                _add(bench, case, "Celery", left, time.perf_counter() - began, window)
        with _CeleryWorker(directory, environ):
            send("begin", 1)
            until(begins.exists, 60, "the first task")
            begins.unlink()
            sent = [int(at) for at in send("begin", count // 10, 0.01)[:-1]]
            _add_latency(bench, "Celery", begins, sent)
    finally:
        broker.close()
        server.stop()


class _CeleryWorker:
    def __init__(self, directory: Path, environ: dict[str, str]) -> None:
        with (directory / "worker.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "celery", "-A", TASKS, "worker", "-c", "2", "-l", "WARNING",
                 "--without-gossip", "--without-mingle"],
                cwd=ROOT, env=environ, stdout=log, stderr=log,
            )  # fmt: skip

    def __enter__(self) -> _CeleryWorker:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait(30)


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

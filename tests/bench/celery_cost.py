"""What instrument(app) costs: tasks a second that do nothing, sent and worked off, with it and without."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import redis

from service.process import valkey
from tests.bench.bench import Bench, Window
from tests.support.checkout import ROOT
from tests.support.stack import free_port
from tests.support.wait import until

NAME = "celery"
TITLE = "A Celery project with and without instrument(app)"
SENT, DONE = "tasks sent", "tasks worked off by prefork -c 2"
SHOP = "tests.support.shop.tasks"
SEND = """
import sys, time
from tests.support.shop.tasks import noop
noop.delay()
began, cpu = time.perf_counter(), time.process_time()
for _ in range({count}):
    noop.delay()
print(time.perf_counter() - began, time.process_time() - cpu)
"""


def run(bench: Bench) -> None:
    count = 1_000 if bench.quick else 5_000
    for number in range(bench.runs):
        # Whichever comes second may find a warmer machine.
        for instrumented in (False, True) if number % 2 else (True, False):
            _one(bench, count, instrumented=instrumented)


def _one(bench: Bench, count: int, *, instrumented: bool) -> None:
    directory = bench.fresh()
    # As a small project has it: one server for all.
    server = valkey.start(directory / "valkey", port=free_port())
    who = "headway" if instrumented else "plain Celery"
    environ = {
        **os.environ,
        "SHOP_BROKER": f"redis://127.0.0.1:{server.port}/3",
        "SHOP_INSTRUMENT": str(int(instrumented)),
        "HEADWAY_REDIS_URL": server.url,
        "C_FORCE_ROOT": "1",
    }
    broker = redis.Redis(port=server.port or 0, db=3)
    try:
        window = Window(server=server.process.pid)
        sent = subprocess.run(
            [sys.executable, "-c", SEND.format(count=count)],
            cwd=ROOT, env=environ, capture_output=True, text=True, check=True,
        )  # fmt: skip
        elapsed, cpu = map(float, sent.stdout.split())
        cpu += sum(window.end().values())
        bench.add(NAME, SENT, who, tasks_per_s=count / elapsed, **{"CPU_µs_each": cpu / count * 1e6})
        elapsed, cpu = _work_off(directory, environ, broker, server.process.pid)
        bench.add(NAME, DONE, who, tasks_per_s=count / elapsed, **{"CPU_µs_each": cpu / count * 1e6})
    finally:
        broker.close()
        server.stop()


def _work_off(
    directory: Path, environ: dict[str, str], broker: redis.Redis, server: int
) -> tuple[float, float]:
    """Seconds in which a worker empties the queue, from its first task to its last; and the CPU seconds of
    the worker and the server."""
    first = int(broker.llen("celery"))
    with (directory / "worker.log").open("wb") as log:
        worker = subprocess.Popen(
            [sys.executable, "-m", "celery", "-A", SHOP, "worker", "-c", "2", "-l", "WARNING",
             "--prefetch-multiplier", "4", "--without-gossip", "--without-mingle"],
            cwd=ROOT, env=environ, stdout=log, stderr=log,
        )  # fmt: skip
    try:
        until(lambda: int(broker.llen("celery")) < first, 60, "the first task")
        window = Window(server=server, worker=worker.pid)
        began = time.perf_counter()
        until(lambda: not broker.llen("celery") and not broker.hlen("unacked"), 600, "the last task")
        return time.perf_counter() - began, sum(window.end().values())
    finally:
        worker.terminate()
        worker.wait(30)

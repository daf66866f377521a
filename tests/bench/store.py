"""The store by itself: appends a second of one Valkey; and what `stage.update()` costs a task."""

from __future__ import annotations

import subprocess
import sys
import time
import timeit
from contextlib import closing
from pathlib import Path

from service import valkey
from service.contract.events import EventType
from service.contract.keys import Keys
from service.contract.store import Report
from tests.bench import jobs
from tests.bench.bench import Bench, Window
from tests.bench.publisher import body
from worker.meter import Share, Stage
from worker.stop import Stop

NAME = "store"
TITLE = "The store, and the worker's loop"
PIPELINE = 50
CALLS = 1_000_000
TQDM = """
import os, timeit, tqdm
bar = tqdm.tqdm(total={calls}, file=open(os.devnull, "w"))
print(min(timeit.repeat("bar.update(1)", globals=globals(), number={calls}, repeat=1)) / {calls} * 1e9)
"""


def run(bench: Bench) -> None:
    for _ in range(bench.runs):
        with closing(_Server(bench.fresh())) as server:
            appends(bench, server.valkey)
        updates(bench)


class _Server:
    def __init__(self, directory: Path) -> None:
        self.valkey = valkey.start(directory)

    def close(self) -> None:
        self.valkey.stop()


def appends(bench: Bench, server: valkey.Valkey) -> None:
    """Progress of 100 jobs, by one connection that always has a pipeline under way."""
    made = jobs.make(server.port, 100)
    claims = made.claims()
    store = jobs.PipelinedStore(server.port, Keys())
    window = Window(valkey=server.process.pid)
    start = time.monotonic()
    done = 0
    while time.monotonic() - start < bench.seconds:
        for k in range(done, done + PIPELINE):
            text = body(k, 0, "progress")
            report = Report(EventType.PROGRESS, text, "progress", text)
            store.append(claims[k % len(claims)], k // len(claims) + 1, [report])
        assert all(reply[0] == b"ok" for reply in store.flush())
        done += PIPELINE
    elapsed = time.monotonic() - start
    cpu = window.end()["valkey"]
    store.redis.close()
    bench.add(
        NAME,
        "appends with publish, one client",
        "headway",
        events_per_s=done / elapsed,
        Valkey_CPU_µs_each=cpu / done * 1e6,
        **{"events/s if Valkey had a core": done / cpu if cpu else 0.0},
    )


def updates(bench: Bench) -> None:
    calls = CALLS // 10 if bench.quick else CALLS
    stage = Stage("encode", calls, "frames", Share(), time.monotonic(), Stop())
    ours = timeit.timeit("update(5)", globals={"update": stage.update}, number=calls)
    bench.add(NAME, "a report in the task's loop", "stage.update()", ns_a_call=ours / calls * 1e9)
    done = subprocess.run(
        [bench.python or sys.executable, "-c", TQDM.format(calls=calls)], capture_output=True, text=True
    )
    if done.returncode == 0:
        bench.add(NAME, "a report in the task's loop", "tqdm.update()", ns_a_call=float(done.stdout))
    else:
        bench.note("tqdm is not installed (--peers all installs it for the run)")

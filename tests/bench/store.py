"""The store by itself: appends a second of one Valkey; and what `stage.update()` costs a task."""

from __future__ import annotations

import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

from headway.contract.events import EventType
from headway.contract.keys import Keys
from headway.contract.store import Report
from service.process import valkey
from tests.bench import jobs
from tests.bench.appends import appends, spread
from tests.bench.bench import Bench, Window
from tests.bench.publisher import body
from tests.bench.updates import updates
from tests.support.stack import free_port

NAME = "store"
TITLE = "The store, and the worker's loop"
LOOP = "a report in the task's loop"
PIPELINE = 50
CALLS = 1_000_000
TQDM = """
import os, timeit, tqdm
bar = tqdm.tqdm(total={calls}, file=open(os.devnull, "w"))
print(min(timeit.repeat("bar.update(1)", globals=globals(), number={calls}, repeat=1)) / {calls} * 1e9)
"""


def run(bench: Bench) -> None:
    seconds = min(bench.seconds, 3.0)
    for _ in range(bench.runs):
        directory = bench.fresh()
        with closing(_Server(directory)) as server:
            pipelined(bench, server.valkey)
            for case, values in appends(server.valkey, seconds):
                bench.add(NAME, case, "headway", **values)
            bench.add(NAME, LOOP, "stage.update()", **updates(server.valkey, directory, seconds))
        for case, values in spread(directory / "spread", seconds):
            bench.add(NAME, case, "headway", **values)
        tqdm(bench)


class _Server:
    def __init__(self, directory: Path) -> None:
        self.valkey = valkey.start(directory, port=free_port())

    def close(self) -> None:
        self.valkey.stop()


def pipelined(bench: Bench, server: valkey.Valkey) -> None:
    """Progress of 100 jobs, by one connection that always has a pipeline under way."""
    assert server.port is not None
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
        "appends, 1 client, pipelined",
        "headway",
        events_per_s=done / elapsed,
        # Not as keywords: Python makes another µ of the one in a name.
        **{
            "Valkey_CPU_µs_each": cpu / done * 1e6,
            "events/s if Valkey had a core": done / cpu if cpu else 0.0,
        },
    )


def tqdm(bench: Bench) -> None:
    calls = CALLS // 10 if bench.quick else CALLS
    command = [bench.python or sys.executable, "-c", TQDM.format(calls=calls)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode == 0:
        bench.add(NAME, LOOP, "tqdm.update()", ns_a_call=float(done.stdout))
    else:
        bench.note("tqdm is not installed (--peers all installs it for the run)")

"""What the projects share. The standard library only: each runs in an environment of its own."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

UPDATES = 10
BROKER = os.environ.get("BENCH_BROKER", "redis://127.0.0.1:6379/0")


def note_begin() -> None:
    """Add the time to a file: the first line of a task that was waited for."""
    with Path(os.environ["BENCH_BEGINS"]).open("a") as file:
        file.write(f"{time.time_ns()}\n")


def send(task: Callable[[str], object]) -> None:
    """The command `NAME COUNT PAUSE_S`: send a task so often, and print the time of each, in ns, and at
    last the seconds that it took. One goes before, to connect."""
    name, count, pause_s = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
    task("noop")
    began = time.perf_counter()
    for _ in range(count):
        print(time.time_ns(), flush=bool(pause_s))
        task(name)
        if pause_s:
            time.sleep(pause_s)
    print(time.perf_counter() - began)

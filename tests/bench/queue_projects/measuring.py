"""How each of the projects sends its tasks, and notes when one begins. It needs the standard library alone,
as each runs in an environment of its own."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

UPDATES = 10
BROKER = os.environ.get("BENCH_BROKER", "redis://127.0.0.1:6379/0")


def note_begin() -> None:
    """Write the time, in ns, to the file BENCH_BEGINS: the first line of a task whose begin is measured."""
    with Path(os.environ["BENCH_BEGINS"]).open("a") as file:
        file.write(f"{time.time_ns()}\n")


def send(task: Callable[[str], object]) -> None:
    """Run the command `NAME COUNT PAUSE_S`: send the task COUNT times, with a pause after each. Print when
    each was sent, in ns, and last the seconds that all took. A task sent before them connects."""
    name, count, pause_s = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
    task("noop")
    began = time.perf_counter()
    for _ in range(count):
        print(time.time_ns(), flush=bool(pause_s))
        task(name)
        if pause_s:
            time.sleep(pause_s)
    print(time.perf_counter() - began)

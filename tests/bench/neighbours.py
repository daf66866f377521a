"""Neighbours: what others on the same hardware take of every core, as on a host that is shared.

A fast machine can hide a difference: where a peer delivers most of what is published, nobody can deliver
twice as much. With a part of each core taken from everyone alike, the same case is run as on a slower one.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

PERIOD_S = 0.005
"""Short beside every latency that is measured under such a load."""
MAX_PERCENT = 90
"""The kernel leaves the others 5 % in any case (`sched_rt_runtime_us`)."""


class NeighboursError(RuntimeError):
    """This process must not take a core from others; the message says what it lacks."""


@contextmanager
def taking(percent: int) -> Iterator[None]:
    """Take so much of each core that this process may use, until the block ends, or this process does.

    Raises NeighboursError without the right to real-time priority (root, or CAP_SYS_NICE).
    """
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.bench.neighbours", str(core), str(percent), str(os.getpid())],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for core in (sorted(os.sched_getaffinity(0)) if percent else ())
    ]
    try:
        for process in processes:
            if process.stdout is None or process.stdout.readline() != "taking\n":
                raise NeighboursError(process.communicate()[1].strip().splitlines()[-1])
        yield
    finally:
        for process in processes:
            process.terminate()
            process.communicate()


def take(core: int, percent: int, parent: int) -> None:
    os.sched_setaffinity(0, {core})
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    except PermissionError:
        sys.exit("taking a part of each core needs real-time priority: root, or CAP_SYS_NICE")
    print("taking", flush=True)
    begin = time.perf_counter()
    while os.getppid() == parent:
        busy = begin + PERIOD_S * percent / 100
        while time.perf_counter() < busy:
            pass
        begin += PERIOD_S
        time.sleep(max(0.0, begin - time.perf_counter()))


if __name__ == "__main__":
    take(*(int(argument) for argument in sys.argv[1:4]))

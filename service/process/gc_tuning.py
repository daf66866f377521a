"""When Python's garbage collector runs: often and briefly for young objects, rarely for all others.

A collection stops every reader. The streams, their topics and the rings' messages have no cycles and
are freed without it, but they are many, and it would walk through them all: 50,000 young objects took
it 10 to 20 ms, the objects of 10,000 streams 110 ms.
"""

from __future__ import annotations

import gc
import time

from headway.loops import forever

YOUNG = 1_000
"""New objects after which the young are collected, in a tenth of a millisecond."""
FULL_S = 60.0
"""Seconds between collections of everything that is not frozen. Survivors are frozen."""
THAW_S = 3600.0
"""Seconds between collections of everything. An object that is frozen while it is in use, and becomes part
of a cycle later, is freed only then."""


def start() -> None:
    """Take over from the automatic collections of older generations."""
    thaw()
    gc.set_threshold(YOUNG, 1_000_000, 1_000_000)
    thawed = time.monotonic()

    def collect() -> None:
        nonlocal thawed
        if time.monotonic() - thawed < THAW_S:
            gc.collect()
            gc.freeze()
        else:
            thaw()
            thawed = time.monotonic()

    forever("garbage", collect, pause_s=FULL_S)


def thaw() -> None:
    """Collect everything, what was frozen too, and freeze what survives."""
    gc.unfreeze()
    gc.collect()
    gc.freeze()

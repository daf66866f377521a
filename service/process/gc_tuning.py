"""When Python's garbage collector runs: often and briefly for what is young, rarely for all else.

A collection stops every reader. The streams, their topics and the rings' messages have no cycles and
are freed without it, but they are many, and it would walk through them all: 50,000 young objects took
it 10 to 20 ms, the objects of 10,000 streams 110 ms.
"""

from __future__ import annotations

import gc
import threading
import time

YOUNG = 1_000
"""New objects after which the young are looked through: a tenth of a millisecond."""
FULL_S = 60.0
"""Between two looks at everything since the last one. What survives it is not looked at again: of that,
only what was in use at this moment and formed a cycle later is never freed."""


def start() -> None:
    """Take over from the automatic collections of older generations, in a thread of its own."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG, 1_000_000, 1_000_000)
    threading.Thread(target=_run, name="garbage", daemon=True).start()


def _run() -> None:
    while True:
        time.sleep(FULL_S)
        gc.collect()
        gc.freeze()

"""Output: all the files that one attempt makes, and how large they may be together."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from headway.sdk.stopping import Stop, TooMuchOutput

LOOK_S = 1.0
"""Between two looks at the working directory while a program runs."""
_SHARE = 0.05
"""Of the time that may go into looking, if there are many files."""


class Output:
    """Ends an attempt whose files, in its working directory and published, are larger than `limit` bytes.
    With None there is no limit."""

    def __init__(self, work: Path, limit: int | None, stop: Stop) -> None:
        self.limit = limit
        self.kept: dict[str, int] = {}
        """Bytes by the names of what is no longer in the working directory."""
        self.inputs: set[Path] = set()
        """What was brought there, and not made."""
        self._work = work
        self._stop = stop

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Look during the block, from another thread as a disk may not answer, and at its end."""
        if self.limit is None:
            yield
            return
        ended = threading.Event()
        thread = threading.Thread(target=self._watch, args=(ended,), name="output", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join(LOOK_S)
            self.check()

    def check(self) -> None:
        """Ask the task to end if there is too much."""
        if self.limit is not None and sum(self.kept.values()) + self._made() > self.limit:
            self._stop.request(TooMuchOutput)

    def _made(self) -> int:
        return size_of(self._work) - sum(map(size_of, self.inputs))

    def _watch(self, ended: threading.Event) -> None:
        pause_s = LOOK_S
        while not ended.wait(pause_s):
            began = time.monotonic()
            self.check()
            pause_s = max(LOOK_S, (time.monotonic() - began) / _SHARE)


def size_of(path: Path) -> int:
    """Return the bytes of a file, or of all in a directory; of what goes meanwhile, none."""
    total = 0
    for file in (
        [path] if path.is_file() else (Path(at, name) for at, _, names in os.walk(path) for name in names)
    ):
        with suppress(OSError):
            total += file.lstat().st_size
    return total

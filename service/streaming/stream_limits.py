"""How many streams a process holds, in all and for one caller."""

from __future__ import annotations

import threading
from collections import Counter


class StreamLimits:
    """Counts streams by caller. A limit of 0 is none."""

    def __init__(self, in_all: int, of_one_caller: int) -> None:
        self._in_all = in_all
        self._of_one = of_one_caller
        self._lock = threading.Lock()
        self._held: Counter[str] = Counter()
        self.open = 0

    def admit(self, caller: str) -> bool:
        """Whether there is room for one more; if so it is counted, and the caller owes a `release`."""
        with self._lock:
            if (self._in_all and self.open >= self._in_all) or (
                self._of_one and self._held[caller] >= self._of_one
            ):
                return False
            self.open += 1
            self._held[caller] += 1
            return True

    def release(self, caller: str) -> None:
        with self._lock:
            self.open -= 1
            self._held[caller] -= 1
            if not self._held[caller]:
                del self._held[caller]

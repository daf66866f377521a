"""How many streams a process holds, in all and per client."""

from __future__ import annotations

import threading
from collections import Counter


class StreamLimits:
    """Counts open streams and long polls, per caller and in all. A limit of 0 means unlimited."""

    def __init__(self, in_all: int, per_caller: int) -> None:
        self._in_all = in_all
        self._per_caller = per_caller
        self._lock = threading.Lock()
        self._held: Counter[str] = Counter()
        self.open = 0

    def admit(self, caller: str) -> bool:
        """Returns whether there is room for one more. If so it counts, and the caller owes a `release`."""
        with self._lock:
            if (self._in_all and self.open >= self._in_all) or (
                self._per_caller and self._held[caller] >= self._per_caller
            ):
                return False
            self.open += 1
            self._held[caller] += 1
            return True

    def release(self, caller: str) -> None:
        """Give one back."""
        with self._lock:
            self.open -= 1
            self._held[caller] -= 1
            if not self._held[caller]:
                del self._held[caller]

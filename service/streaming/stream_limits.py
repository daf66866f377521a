"""How many streams a process holds: in all, per client address, and per owner of what is watched."""

from __future__ import annotations

import threading
from collections import Counter
from typing import NamedTuple


class Holder(NamedTuple):
    """Whose stream it is."""

    address: str
    owner: str


class StreamLimits:
    """Counts open streams and long polls. A limit of 0 means unlimited."""

    def __init__(self, in_all: int, per_address: int, per_owner: int = 0) -> None:
        self._in_all = in_all
        self._limits = (("address", per_address), ("owner", per_owner))
        self._lock = threading.Lock()
        self._held: Counter[tuple[str, str]] = Counter()
        self.open = 0

    def admit(self, holder: Holder) -> bool:
        """Returns whether there is room for one more. If so it counts, and the caller owes a `release`."""
        with self._lock:
            if self._in_all and self.open >= self._in_all:
                return False
            keys = [(kind, getattr(holder, kind), limit) for kind, limit in self._limits if limit]
            if any(self._held[kind, name] >= limit for kind, name, limit in keys):
                return False
            self.open += 1
            self._held.update((kind, name) for kind, name, _ in keys)
            return True

    def release(self, holder: Holder) -> None:
        """Give one back."""
        with self._lock:
            self.open -= 1
            for kind, limit in self._limits:
                if limit:
                    key = (kind, getattr(holder, kind))
                    self._held[key] -= 1
                    if not self._held[key]:
                        del self._held[key]

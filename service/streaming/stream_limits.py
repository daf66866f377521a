"""How many streams a process holds: in all, per client address, and per owner of what is watched."""

from __future__ import annotations

import threading
from collections import Counter
from typing import NamedTuple

LOCAL = ("127.", "::1")
"""How the addresses of this machine's own programs begin."""


class Holder(NamedTuple):
    """Whose stream it is."""

    address: str
    owner: str


class StreamLimits:
    """Counts open streams and long polls. A limit of 0 means unlimited.

    With `spare_local` the limit per address is not for programs of this machine.
    """

    def __init__(
        self, in_all: int, per_address: int, per_owner: int = 0, *, spare_local: bool = False
    ) -> None:
        self._in_all = in_all
        self._spare_local = spare_local
        limits = (("address", per_address), ("owner", per_owner))
        self._limits = [(kind, limit) for kind, limit in limits if limit]
        self._lock = threading.Lock()
        self._held: Counter[tuple[str, str]] = Counter()
        self.open = 0

    def admit(self, holder: Holder) -> bool:
        """Returns whether there is room for one more. If so it counts, and the caller owes a `release`."""
        with self._lock:
            if self._in_all and self.open >= self._in_all:
                return False
            for kind, limit in self._limits:
                if self._held[kind, getattr(holder, kind)] >= limit and not self._spares(kind, holder):
                    return False
            self._count(holder, 1)
            return True

    def release(self, holder: Holder) -> None:
        """Give one back."""
        with self._lock:
            self._count(holder, -1)

    def _spares(self, kind: str, holder: Holder) -> bool:
        return self._spare_local and kind == "address" and holder.address.startswith(LOCAL)

    def _count(self, holder: Holder, by: int) -> None:
        self.open += by
        for kind, _ in self._limits:
            key = (kind, getattr(holder, kind))
            self._held[key] += by
            if not self._held[key]:
                del self._held[key]

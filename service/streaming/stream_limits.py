"""How many streams a process holds: in all, per client address, and per owner of what is watched."""

from __future__ import annotations

import ipaddress
import threading
from collections import Counter
from typing import NamedTuple

LOCAL = ("127.", "::1")
"""How the addresses of this machine's own programs begin."""


class Holder(NamedTuple):
    """Whose stream it is."""

    address: str
    owner: str


def whose(address: str) -> str:
    """Return what addresses of one client have in common: of an IPv6 address its first 64 bits, as hardly
    anybody is given less than all that begin with them."""
    if ":" not in address:
        return address
    try:
        parsed = ipaddress.IPv6Address(address)
    except ValueError:
        return address
    return str(parsed.ipv4_mapped or ipaddress.IPv6Address(int(parsed) >> 64 << 64))


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
                if self._held[_key(kind, holder)] >= limit and not self._spares(kind, holder):
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
            key = _key(kind, holder)
            self._held[key] += by
            if not self._held[key]:
                del self._held[key]


def _key(kind: str, holder: Holder) -> tuple[str, str]:
    return kind, whose(holder.address) if kind == "address" else holder.owner

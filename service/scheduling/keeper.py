"""Which partitions this process looks after. All web processes share them, each its own part.

It is only a hint: whatever is done to a partition is decided in the store, so that two who look after the
same one do no harm, and one who dies is replaced as soon as its time is over.
"""

from __future__ import annotations

import hashlib
import logging
import os
import secrets
import socket
import time

import redis

from headway.contract.store import JobStore
from headway.loops import forever

log = logging.getLogger(__name__)

PERIOD_S = 1.0
ALIVE_S = 3.0
"""A process counts as alive so long after it last said so; without an answer for as long, it keeps all."""


class Keeper:
    """Makes known that this process lives, until it ends, and knows its share."""

    def __init__(self, store: JobStore) -> None:
        self._store = store
        self._name = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        self._answered_at = float("-inf")
        self._known: tuple[int, frozenset[str]] = (0, frozenset())
        self._share: list[int] = []
        self._paused_in = 0
        """In how many partitions the pauses are known to hold."""
        self._stopped = False

    def start(self) -> None:
        forever("keeper", self.renew, pause_s=PERIOD_S)

    def renew(self) -> None:
        """Say that this process lives, and learn who else does. Raises RedisError."""
        if self._stopped:
            return
        processes = self._store.alarms.keep(self._name, ALIVE_S)
        self._answered_at = time.monotonic()
        known = (self._store.keys.partitions, frozenset(processes))
        if known != self._known:
            self._share = [p for p in range(known[0]) if keeper_of(p, known[1]) == self._name]
            self._known = known
        if self._paused_in < known[0]:
            self._store.pauses.spread()
            self._paused_in = known[0]

    def stop(self) -> None:
        """Leave this process's share to the others at once."""
        self._stopped = True
        try:
            self._store.alarms.keep(self._name, 0)
        except redis.RedisError as error:
            log.debug("its share is left to the others when its time is over: %s", error)

    @property
    def share(self) -> list[int]:
        """The partitions to look after now. Raises RedisError."""
        if time.monotonic() - self._answered_at > ALIVE_S:
            return list(range(self._store.keys.partitions))
        return self._share


def keeper_of(partition: int, processes: frozenset[str]) -> str:
    """Return which of the processes keeps a partition: when one goes, only its own are kept by others
    (rendezvous hashing)."""
    return max(processes, key=lambda name: hashlib.blake2b(f"{partition} {name}".encode()).digest())

"""Outcomes: how many jobs of each type ended how, and how long they waited and ran.

The scripts that change a job count them (lua/outcomes.lua), so each is counted once, whoever ends it.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

import redis

from headway.contract.database import Database
from headway.contract.states import State

BUCKETS_S = ("0.01", "0.1", "1", "10", "60", "600", "3600", "21600", "+Inf")
"""As lua/outcomes.lua spells them."""


@dataclass(slots=True)
class Times:
    """How long jobs took: a histogram."""

    buckets: Counter[str] = field(default_factory=Counter)
    """How many, by the smallest of BUCKETS_S that they did not exceed."""
    total_s: float = 0.0


@dataclass(slots=True)
class Outcome:
    """What became of the jobs of one type."""

    attempts: int = 0
    ended: Counter[State] = field(default_factory=Counter)
    waited: Times = field(default_factory=Times)
    """From when a job could begin until its first attempt began."""
    ran: Times = field(default_factory=Times)
    """From then to its end."""


class Outcomes:
    def __init__(self, database: Database) -> None:
        self._db = database
        self._read: dict[str, dict[bytes, bytes]] = {}
        """What each partition counted, when it was last read."""

    def by_type(self) -> Mapping[str, Outcome]:
        """Return what is counted, of all owners; of partitions whose server is away, what was read before,
        as counters do not go down. Raises RedisError if nothing was."""
        keys = self._db.keys
        hashes = [keys.outcomes(partition) for partition in range(keys.partitions)]
        counted = self._db.each([(key, ("HGETALL", key)) for key in hashes], tolerant=True)
        self._read |= {key: held for key, held in zip(hashes, counted, strict=True) if held is not None}
        if len(self._read) < len(hashes):
            raise redis.ConnectionError("not all that is counted can be read")
        found: defaultdict[str, Outcome] = defaultdict(Outcome)
        for of_partition in self._read.values():
            for name, count in of_partition.items():
                _add(found, name.decode(), int(count))
        return found


def _add(found: defaultdict[str, Outcome], name: str, count: int) -> None:
    """Add one field of a partition's hash."""
    what, _, rest = name.partition(" ")
    bucket = ""
    if what in ("waited", "ran"):
        bucket, _, rest = rest.partition(" ")
    # The type is as JSON has it within a string.
    of_type = found[json.loads(f'"{rest}"')]
    if what == "started":
        of_type.attempts += count
    elif not bucket:
        of_type.ended[State(what)] += count
    else:
        times = of_type.waited if what == "waited" else of_type.ran
        if bucket == "ms":
            times.total_s += count / 1000
        else:
            times.buckets[bucket] += count

"""The layout of a store: its partitions, their hash tags, and which of them an owner is in.

It is written down in the store itself, so that no two processes can disagree on it: `P{meta}:layout` has
the number of partitions and how their tags are made, `P{meta}:owners` the partition of each owner. An owner
stays where it is, and a job's id names its partition; so the number can grow for the owners to come.
"""

from __future__ import annotations

import binascii
import hashlib
from collections.abc import Callable
from functools import cache
from itertools import count
from typing import Any, cast

DEFAULT_PARTITIONS = 64
"""Of a new store. A primary takes some of them, so they are the most primaries that carry load."""
MAX_PARTITIONS = 4096
SLOTS = 16384
"""Number of hash slots of a Redis Cluster."""
VERSION = 1
EVEN = "even"
"""Tags whose slots are spread evenly over all slots, however many of the partitions there are."""
INDEX = "index"
"""Tags that are the partition's number: those of stores from before there was a layout."""
_MAX_CACHED = 100_000


class LayoutError(Exception):
    """The settings do not fit the store. The message is one line that says what to do."""


def slot_of(key: str) -> int:
    """Return the slot of a Redis Cluster that a key lies in."""
    begin = key.find("{")
    end = key.find("}", begin + 1)
    hashed = key[begin + 1 : end] if 0 <= begin < end - 1 else key
    return binascii.crc_hqx(hashed.encode(), 0) % SLOTS


@cache
def even_tags() -> tuple[str, ...]:
    """Return a tag for each partition there can be. The slots of the first n are spread evenly over all of
    them, best if n is a power of two: each next one lies in the middle of the largest gap."""
    width = SLOTS // MAX_PARTITIONS
    bits = MAX_PARTITIONS.bit_length() - 1
    partitions = [int(f"{cell:0{bits}b}"[::-1], 2) for cell in range(MAX_PARTITIONS)]
    found: dict[int, str] = {}
    for n in count():
        # The letter keeps them apart from the tags of older stores.
        tag = f"{n}p"
        found.setdefault(partitions[binascii.crc_hqx(tag.encode(), 0) % SLOTS // width], tag)
        if len(found) == MAX_PARTITIONS:
            break
    return tuple(found[partition] for partition in range(MAX_PARTITIONS))


class Layout:
    """A layout that is not stored: which of the partitions an owner is in follows from its hash alone."""

    def __init__(self, partitions: int = 1) -> None:
        self._partitions = partitions
        self._tags: str = EVEN

    @property
    def partitions(self) -> int:
        return self._partitions

    @property
    def fields(self) -> dict[str, str | int]:
        """What is written down of it."""
        return {"partitions": self.partitions, "tags": self._tags, "version": VERSION}

    def grown(self, partitions: int) -> None:
        """Note that another process has made more of them."""
        self._partitions = max(self.partitions, partitions)

    def tag(self, partition: int) -> str:
        """Return what all keys of a partition have between their braces."""
        return even_tags()[partition] if self._tags == EVEN else str(partition)

    def partition(self, owner: str) -> int:
        """Return the partition that holds everything an owner can see."""
        return by_hash(owner, self.partitions)


def by_hash(owner: str, partitions: int) -> int:
    """Return the partition that a new owner is put in."""
    return int.from_bytes(hashlib.blake2b(owner.encode(), digest_size=8).digest()) % partitions


class StoredLayout(Layout):
    """The layout of a store, read when it is first asked for; then each method may raise redis.RedisError
    or LayoutError. `at` returns the client of the server that has a key. `wanted` is the setting: None
    takes what there is, a new store DEFAULT_PARTITIONS."""

    def __init__(self, at: Callable[[str], Any], prefix: str, wanted: int | None = None) -> None:
        super().__init__(0)
        self._at = at
        self._prefix = prefix
        self._wanted = wanted
        self._owners: dict[str, int] = {}

    @property
    def key(self) -> str:
        return f"{self._prefix}{{meta}}:layout"

    @property
    def owners_key(self) -> str:
        return f"{self._prefix}{{meta}}:owners"

    @property
    def partitions(self) -> int:
        if not self._partitions:
            self.open()
        return self._partitions

    def tag(self, partition: int) -> str:
        if not self._partitions:
            self.open()
        return super().tag(partition)

    def partition(self, owner: str) -> int:
        found = self._owners.get(owner)
        if found is None:
            if len(self._owners) >= _MAX_CACHED:
                self._owners.clear()
            found = self._owners[owner] = self._place(owner)
        return found

    def open(self) -> None:
        """Read the layout, or write that of a new store."""
        known = self._read()
        if not known:
            self._begin()
            known = self._read()
        if int(known[b"version"]) != VERSION or known[b"tags"].decode() not in (EVEN, INDEX):
            raise LayoutError("a newer version of Headway has made the store: upgrade this one")
        partitions, tags = int(known[b"partitions"]), known[b"tags"].decode()
        wanted = self._wanted or partitions
        if wanted < partitions:
            raise LayoutError(
                f"PARTITIONS={wanted}, but the store has {partitions}, which cannot become fewer: leave "
                "PARTITIONS unset, or use another KEY_PREFIX for a new store"
            )
        if wanted > partitions and tags != EVEN:
            raise LayoutError(
                f"PARTITIONS={wanted}, but an older version has made the store with {partitions}, which "
                "stay: leave PARTITIONS unset, or use another KEY_PREFIX for a new store"
            )
        if wanted > partitions:
            self._at(self.key).hset(self.key, "partitions", str(wanted))
        self._partitions, self._tags = wanted, tags

    def _read(self) -> dict[bytes, bytes]:
        return cast(dict[bytes, bytes], self._at(self.key).hgetall(self.key))

    def _begin(self) -> None:
        """Write the layout of a store that has none: it is new, or an older version has made it."""
        older = self._older()
        partitions, tags = self._wanted or DEFAULT_PARTITIONS, EVEN
        if older:
            needed = max(older) + 1
            partitions, tags = self._wanted or 1, INDEX
            if partitions < needed:
                raise LayoutError(
                    f"an older version has made the store with at least {needed} partitions: "
                    "set PARTITIONS to what it was there"
                )
        with self._at(self.key).pipeline(transaction=True) as pipe:
            for field, value in (("partitions", partitions), ("tags", tags), ("version", VERSION)):
                # Of several that begin at once, one has begun.
                pipe.hsetnx(self.key, field, str(value))
            pipe.execute()

    def _older(self) -> list[int]:
        """Return the partitions that older versions have used."""
        clocks = [self._older_clock(partition) for partition in range(MAX_PARTITIONS)]
        client = self._at(clocks[0])
        # They knew one server alone. Nearly always it has none of these, which one command says.
        if client is not self._at(clocks[1]) or not client.exists(*clocks):
            return []
        with client.pipeline(transaction=False) as pipe:
            for clock in clocks:
                pipe.exists(clock)
            return [partition for partition, exists in enumerate(pipe.execute()) if exists]

    def _older_clock(self, partition: int) -> str:
        return f"{self._prefix}{{{partition}}}:clock"

    def _place(self, owner: str) -> int:
        partitions = self.partitions
        client = self._at(self.owners_key)
        found = cast(bytes | None, client.hget(self.owners_key, owner))
        if found is None:
            client.hsetnx(self.owners_key, owner, str(by_hash(owner, partitions)))
            found = cast(bytes | None, client.hget(self.owners_key, owner))
        return by_hash(owner, partitions) if found is None else int(found)

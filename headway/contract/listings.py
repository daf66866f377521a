"""Listings: jobs found by an index instead of by their id."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from headway.contract.database import Database
from headway.contract.encoding import dumps
from headway.contract.events import IDS_PER_MS, ZERO
from headway.contract.pages import JobPage, fields_of
from headway.contract.states import State

PAGE_BYTES = 2 << 20
"""Documents of one page together; a page has at least one job."""
PAGE_READS = 2_000
"""Entries of the index looked at for one page, whether they match its filters or not."""
READS_AT_ONCE = 500
"""Most entries of the index that one script looks at, so that nobody waits for long."""
JOBS_AT_ONCE = 100
"""Most jobs that one script returns, for the same reason."""

CHUNK = 500
"""Jobs read in one round trip."""


@dataclass(frozen=True, slots=True)
class Running:
    """A job that a worker works on now."""

    id: str
    type: str
    attempt: int
    since: str
    """When this attempt began."""
    worker: str


@dataclass(frozen=True, slots=True)
class Waiting:
    """The jobs that a worker of a queue could begin now."""

    jobs: int = 0
    oldest_s: float = 0.0
    """How long the first of them has waited."""


class Listings:
    """Reads the indexes. Every method raises redis.RedisError when the store cannot be reached."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def page(
        self,
        owner: str,
        *,
        state: State | None = None,
        type: str | None = None,
        group: str | None = None,
        labels: Mapping[str, str] | None = None,
        older_s: float | None = None,
        limit: int = 50,
        cursor: int | None = None,
    ) -> tuple[list[JobPage], int | None]:
        """Return jobs that match all filters, newest first, and the cursor of the next page, None after
        the last. With `older_s` they were made at least so many seconds ago.

        A page may have fewer than `limit` jobs, or none, though others follow: it ends after PAGE_BYTES
        or PAGE_READS.
        """
        keys = self._db.keys
        index = keys.jobs(owner, state)
        if group is not None and state is None:
            index = keys.group(owner, group)
        if older_s is not None:
            newest = max(0, self._db.now_ms(index) - round(older_s * 1000) + 1) * IDS_PER_MS
            cursor = newest if cursor is None else min(cursor, newest)
        filters = [
            *("" if value is None else dumps(value) for value in (state, type, group)),
            *(part for pair in (labels or {}).items() for part in pair),
        ]
        pages: list[JobPage] = []
        reads, bytes_left = PAGE_READS, PAGE_BYTES
        while True:
            looks = min(reads, READS_AT_ONCE)
            following, left, bytes_left, *jobs = self._db.run(
                "list",
                [index],
                [
                    keys.job_head(keys.partition(owner)),
                    "+inf" if cursor is None else f"({cursor}",
                    *(min(limit - len(pages), JOBS_AT_ONCE), looks, bytes_left, "" if pages else "1"),
                    *filters,
                ],
            )
            pages += [JobPage(ZERO, fields_of(job), []) for job in jobs]
            reads -= looks - left
            if not following:
                return pages, None
            cursor = int(following)
            if len(pages) >= limit or reads <= 0 or bytes_left < 0:
                return pages, cursor

    def counts(self, owner: str) -> dict[str, dict[State, int]]:
        """Return for each type how many of the owner's jobs are in which state. Jobs that were made before
        there were such counts are in none."""
        key = self._db.keys.counts(owner)
        held = cast(dict[bytes, bytes], self._db.at(key).hgetall(key))
        found: dict[str, dict[State, int]] = {}
        for field, count in held.items():
            state, _, name = field.decode().partition(" ")
            found.setdefault(json.loads(name), {})[State(state)] = int(count)
        return found

    def running(self, owner: str) -> list[Running]:
        """Return the owner's jobs that are being worked on, the oldest job first."""
        keys = self._db.keys
        index = keys.jobs(owner, State.RUNNING)
        ids = cast(list[bytes], self._db.at(index).zrange(index, 0, -1))
        jobs = [keys.job(job_id.decode()) for job_id in ids]
        rows = self._db.each(
            [(job, ("HMGET", job, "state", "type", "attempt", "_since", "_worker")) for job in jobs]
        )
        return [
            Running(job_id.decode(), *(json.loads(value) for value in row[1:]))
            for job_id, row in zip(ids, rows, strict=True)
            # The index was read a moment before.
            if row[0] == b'"running"'
        ]

    def live_params(self) -> Iterator[bytes]:
        """Yield the params of every live job of all owners, as JSON texts."""
        keys = self._db.keys
        for partition in range(keys.partitions):
            alarms = keys.alarms(partition)
            ids = cast(list[bytes], self._db.at(alarms).zrange(alarms, 0, -1))
            for start in range(0, len(ids), CHUNK):
                jobs = [keys.job(job_id.decode()) for job_id in ids[start : start + CHUNK]]
                found = self._db.each([(job, ("HGET", job, "params")) for job in jobs])
                yield from (params for params in found if params)

    def queue_depths(self, queues: Sequence[str], owner: str | None = None) -> dict[str, int]:
        """Return how many jobs wait for a worker of each queue: the owner's, or without one all."""
        keys = self._db.keys
        partitions = range(keys.partitions) if owner is None else [keys.partition(owner)]
        waiting = [keys.waiting(partition, queue) for queue in queues for partition in partitions]
        counts = self._db.each(
            [
                (key, ("ZCARD", key) if owner is None else ("ZINTERCARD", 2, key, keys.jobs(owner)))
                for key in waiting
            ]
        )
        of_each = len(partitions)
        return {queue: sum(counts[n * of_each : (n + 1) * of_each]) for n, queue in enumerate(queues)}

    def waiting(self, queues: Sequence[str]) -> dict[str, Waiting]:
        """Return what waits for a worker of each queue, of all owners."""
        keys = self._db.keys
        lines = [
            (queue, keys.waiting(partition, queue))
            for queue in queues
            for partition in range(keys.partitions)
        ]
        counts = self._db.each([(line, ("ZCOUNT", line, "-inf", "(1e15")) for _, line in lines])
        firsts = self._db.each(
            [
                (line, ("ZRANGE", line, "-inf", "(1e15", "BYSCORE", "LIMIT", 0, 1))
                for (_, line), count in zip(lines, counts, strict=True)
                if count
            ]
        )
        occupied = [
            (queue, count, first[0].decode())
            for (queue, count), first in zip(
                [(queue, count) for (queue, _), count in zip(lines, counts, strict=True) if count],
                firsts,
                strict=True,
            )
            # It may have been taken meanwhile.
            if first
        ]
        jobs = [keys.job(job_id) for _, _, job_id in occupied]
        since = self._db.each([(job, ("HMGET", job, "_score", "_not_before")) for job in jobs])
        found = dict.fromkeys(queues, Waiting())
        now_ms = self._db.now_ms(keys.clock(0))
        for (queue, count, _), (score, not_before) in zip(occupied, since, strict=True):
            # It may have gone meanwhile.
            began = max(int(score or 0) // IDS_PER_MS, int(not_before or 0)) if score else now_ms
            before = found[queue]
            oldest_s = max(before.oldest_s, (now_ms - began) / 1000)
            found[queue] = Waiting(before.jobs + count, oldest_s)
        return found

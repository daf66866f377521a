"""Alarms of live jobs, and the end of ended jobs' retention: what is due, and what is done about it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import redis

from headway.contract.database import Call, Database
from headway.contract.encoding import dumps
from headway.contract.keys import JobRef, partition_of
from headway.contract.records import CANCELED, error_json
from headway.contract.states import ErrorCode

REQUEUE_MS = 10_000
"""Delay before an unclaimed message is sent again, in ms; doubles each time."""
REQUEUE_MAX_MS = 20_000
"""Upper bound of that delay."""


@dataclass(frozen=True, slots=True)
class Due:
    """A message to send: the job waits for a worker."""

    id: str
    type: str
    queue: str
    sends: int
    """How often the alarm has asked for a message since the job was last worked on; counts from 1."""
    why: str
    """`retry_due`: the delay after a failed attempt is over; `run_at`: its time has come; `worker_lost`:
    its lease is over; `woken`: what it has waited for is there; `unclaimed`: its last message was lost, or
    waits its turn."""
    owner: str = ""
    attempt: int = 0
    trace: str = ""


@dataclass(frozen=True, slots=True)
class Ended:
    """A job that its alarm has ended."""

    id: str
    type: str
    owner: str
    attempt: int
    state: str
    code: str
    message: str
    trace: str


@dataclass(frozen=True, slots=True)
class Look:
    """What is to be done in one partition, the longest overdue first."""

    due: list[str]
    """Jobs whose alarm is due."""
    groups: list[str]
    """Tallies of groups that have changed and whose feeds are to be told now."""
    orphans: list[str]
    """Jobs that have ended, though their children may live."""


class Alarms:
    """Every method raises redis.RedisError when the store cannot be reached."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def due(self, partition: int, limit: int = 100) -> list[str]:
        """Return the ids of jobs whose alarm is due, the longest overdue first."""
        return self._due([self._db.keys.alarms(partition)], limit)

    def expired(self, partitions: Sequence[int], limit: int = 100) -> list[str]:
        """Return the ids of ended jobs whose retention is over, up to `limit` of each partition."""
        return self._due([self._db.keys.expiring(partition) for partition in partitions], limit)

    def _due(self, keys: Sequence[str], limit: int) -> list[str]:
        if not keys:
            return []
        now = self._db.now_ms(keys[0])
        commands = [(key, ("ZRANGE", key, "-inf", now, "BYSCORE", "LIMIT", 0, limit)) for key in keys]
        return [
            job_id.decode() for found in self._db.each(commands, tolerant=True) for job_id in found or ()
        ]

    def look(
        self, partitions: Sequence[int], *, silence_s: float, grace_s: float, limit: int = 100
    ) -> list[Look | redis.RedisError]:
        """Return what is to be done in each of these partitions, and note that somebody looks. Of one that
        cannot be looked at, the error.

        After `silence_s` without a look, leases that are over are left alone for `grace_s`: a healthy
        worker could not renew them.
        """
        keys = self._db.keys
        args = [round(silence_s * 1000), round(grace_s * 1000), limit]
        calls = [
            ("look", [keys.watch(p), keys.alarms(p), keys.groups(p), keys.orphans(p)], args)
            for p in partitions
        ]
        return [
            reply
            if isinstance(reply, redis.RedisError)
            else Look(*([name.decode() for name in names] for names in reply))
            for reply in self._db.run_many(calls)
        ]

    def keep(self, process: str, alive_s: float) -> set[str]:
        """Note that a web process keeps its share of the partitions for `alive_s`; 0: not any more.

        Returns all processes that do."""
        layout = self._db.keys.layout
        fields = [part for pair in layout.fields.items() for part in pair]
        partitions, *processes = self._db.run(
            "keep",
            [self._db.keys.keepers, self._db.keys.layout_key],
            [process, round(alive_s * 1000), *fields],
        )
        layout.grown(int(partitions))
        return {name.decode() for name in processes}

    def answer(self, job_id: str, ended: Callable[[Ended], object] = lambda _: None) -> Due | None:
        """Do what a due alarm asks for, and set the next one. Returns a message that the caller must send,
        or None. Calls `ended` if the job has ended by it."""
        reply = self.answer_each([job_id], ended).get(job_id)
        if isinstance(reply, redis.RedisError):
            raise reply
        return reply

    def answer_each(
        self, job_ids: Sequence[str], ended: Callable[[Ended], object] = lambda _: None
    ) -> dict[str, Due | redis.RedisError | None]:
        """Answer many alarms like `answer`, in two round trips: most are of jobs that wait their turn.
        Returns by job what that returns or raises, but nothing of jobs that there are not."""
        keys = self._db.keys
        try:
            refs = self._db.refs(job_ids)
        except redis.ResponseError as error:
            if len(job_ids) == 1:
                return {job_ids[0]: error}
            # One of them is no job, and does not hold up the others.
            return {key: reply for one in job_ids for key, reply in self.answer_each([one], ended).items()}
        for job_id in {*job_ids} - {ref.id for ref in refs}:
            key = keys.alarms(partition_of(job_id))
            self._db.at(key).zrem(key, job_id)
        args = [
            REQUEUE_MS,
            REQUEUE_MAX_MS,
            error_json(ErrorCode.WORKER_LOST, "the worker was lost, and no attempt is left"),
            error_json(ErrorCode.TIMEOUT, "the job took longer than its timeout_s"),
            CANCELED,
            dumps("worker_lost"),
            dumps("it need not wait any more"),
            error_json(ErrorCode.WORKER_LOST, "the worker was lost, and the task is not delivered again"),
            error_json(ErrorCode.TIMEOUT, "no worker has started it in time; its message may be lost"),
            error_json(ErrorCode.TIMEOUT, "no worker has begun it within its expires_s"),
        ]
        calls: list[Call] = [
            (
                "alarm",
                self._db.keys_of(ref, [keys.watch(partition_of(ref.id))]),
                self._db.args_of(ref, args),
            )
            for ref in refs
        ]
        replies = zip(refs, self._db.run_many(calls), strict=True)
        return {ref.id: self._answered(ref, reply, ended) for ref, reply in replies}

    @staticmethod
    def _answered(
        ref: JobRef, reply: Any, ended: Callable[[Ended], object]
    ) -> Due | redis.RedisError | None:
        if isinstance(reply, redis.RedisError):
            return reply
        if reply[0] == b"ended":
            _, job_type, state, error, attempt, trace = reply
            about = (ref.id, json.loads(job_type), ref.owner, int(attempt), state.decode())
            ended(Ended(*about, **json.loads(error), trace=trace.decode()))
        if reply[0] != b"send":
            return None
        _, job_type, queue, sends, why, attempt, trace = reply
        return Due(
            ref.id,
            json.loads(job_type),
            queue.decode(),
            int(sends),
            why.decode(),
            ref.owner,
            int(attempt),
            trace.decode(),
        )

    def postpone(self, job_id: str) -> None:
        """Set an alarm that cannot be answered to a later time, so that it does not hold up others."""
        key = self._db.keys.alarms(partition_of(job_id))
        later = self._db.now_ms(key) + REQUEUE_MAX_MS
        self._db.at(key).zadd(key, {job_id: later}, xx=True)

    def sweep(self, job_id: str) -> bool:
        """Remove an ended job whose retention is over, and its idempotency key; the caller removes its
        files first. Returns False if it is not due, or if another process was first."""
        ref = self._db.ref(job_id)
        if ref is None:
            key = self._db.keys.expiring(partition_of(job_id))
            self._db.at(key).zrem(key, job_id)
            return False
        return self._db.remove(ref, only_if_due=True) == b"swept"

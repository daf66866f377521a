"""Groups: how many of their jobs are in which state, how much is done, and what ends them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, cast

from headway.contract.database import Call, Database
from headway.contract.encoding import dumps
from headway.contract.keys import JobRef, partition_of
from headway.contract.records import CANCELED, HIGHEST_FRACTION, Progress, StageProgress
from headway.contract.states import LIVE, State

POSTPONE_MS = 20_000
AT_ONCE = 100
"""Jobs of a group that are canceled, or read, in one round trip."""


class Groups:
    """Every method raises redis.RedisError when the store cannot be reached."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def get(self, owner: str, group: str) -> bytes | None:
        """Return a group's document (docs/groups.md); None if it was neither put nor has a job."""
        return self._run("get", owner, group)

    def put(self, owner: str, group: str, *, expected: int | None, title: str | None) -> bytes:
        """Say how many jobs a group will have, and what it is called. Returns its document.

        Without `expected` it never ends. With as many jobs or more that have all ended, it ends now.
        """
        found = self._run("put", owner, group, "" if expected is None else expected, dumps(title))
        assert found is not None  # noqa: S101
        return found

    def tell(self, tally: str) -> bool:
        """Tell a group's feed of its changes, if that is due: many of them are one `group` event; and the
        job whose children they are, if it waits for them. Returns whether it was due."""
        owner, group = self._db.keys.group_of(tally)
        told = self._run("tell", owner, group)
        if told is not None:
            self._share(group, told)
        return told is not None

    def _share(self, job_id: str, children: bytes) -> None:
        """Show in the bar of a job that waits for its children how far they are."""
        if not self._db.keys.holds(job_id):
            return
        key = self._db.keys.job(job_id)
        held, bar = cast(list[bytes | None], self._db.at(key).hmget(key, ["progress", "_bar"]))
        ref = self._db.ref(job_id)
        if not bar or ref is None:
            return
        before = (json.loads(held or b"null") or {}).get("fraction") or 0
        progress = shared_progress(json.loads(bar), json.loads(children), before)
        self._db.change("share", ref, dumps(progress.model_dump()))

    def cancel_orphans(self, job_id: str) -> None:
        """Cancel the children of a job that has ended."""
        ref = self._db.ref(job_id)
        if ref is not None:
            self.cancel(ref.owner, job_id)
        key = self._db.keys.orphans(partition_of(job_id))
        self._db.at(key).zrem(key, job_id)

    def postpone(self, tally: str) -> None:
        """Have a group told later that cannot be told now, so that it does not hold up others."""
        owner, _ = self._db.keys.group_of(tally)
        due = self._db.keys.groups(self._db.keys.partition(owner))
        self._db.at(due).zadd(due, {tally: self._db.now_ms(due) + POSTPONE_MS}, xx=True)

    def cancel(self, owner: str, group: str) -> int:
        """Cancel all live jobs of a group, as they are now. Returns how many there were."""
        count = 0
        for ids in _pages(self._jobs(owner, group, *LIVE)):
            refs = self._db.refs(ids)
            for reply in self._db.run_many([self.cancellation(ref) for ref in refs]):
                if isinstance(reply, Exception):
                    raise reply
            count += len(refs)
        return count

    def cancellation(self, ref: JobRef, *, asked_here: bool = True) -> Call:
        """The call that cancels a job (JobStore.cancel)."""
        args = [CANCELED, dumps("cancellation was asked for"), "1" if asked_here else ""]
        return "cancel", self._db.keys_of(ref), self._db.args_of(ref, args)

    def expectation(self, owner: str, group: str, expected: int) -> Call:
        """The call that says how many jobs a group will have, unless somebody has said so before."""
        return self._call("expect", owner, group, expected)

    def to_retry(self, owner: str, group: str) -> Iterator[str]:
        """Yield the ids of jobs that failed or were canceled, and that no retry has replaced."""
        keys = self._db.keys
        for ids in _pages(self._jobs(owner, group, State.FAILED, State.CANCELED)):
            jobs = [keys.job(job_id) for job_id in ids]
            replaced = self._db.each([(job, ("HGET", job, "_replaced")) for job in jobs])
            yield from (job_id for job_id, by in zip(ids, replaced, strict=True) if by is None)

    def _jobs(self, owner: str, group: str, *states: State) -> list[str]:
        keys = self._db.keys
        found: list[bytes] = []
        for state in states:
            both = [keys.group(owner, group), keys.jobs(owner, state)]
            found += cast(list[bytes], self._db.at(both[0]).zinter(both))
        return [job_id.decode() for job_id in found]

    def _run(self, action: str, owner: str, group: str, *args: Any) -> bytes | None:
        reply = self._db.run(*self._call(action, owner, group, *args))
        return bytes(reply[0]) if reply else None

    def _call(self, action: str, owner: str, group: str, *args: Any) -> Call:
        keys = self._db.keys
        partition = keys.partition(owner)
        _, cap, retention_s = self._db.limits
        return (
            "group",
            [
                keys.clock(partition),
                keys.groups(partition),
                keys.tally(owner, group),
                keys.group(owner, group),
                keys.feed(owner, group),
                keys.feed_last(owner, group),
                *(keys.jobs(owner, state) for state in State),
            ],
            [action, cap, retention_s, dumps(group), *args],
        )


def shared_progress(bar: Mapping[str, Any], children: Mapping[str, Any], before: float) -> Progress:
    """Return the progress of a job that waits for its children: they have `share` of its bar, after
    `before`; `stage` is the name, index and count of the stage that waits. The fraction never falls."""
    counts: Mapping[str, int] = children["counts"]
    done = children["fraction"] or 0.0
    fraction = min(bar["before"] + bar["share"] * done, HIGHEST_FRACTION)
    stage = None if bar["stage"] is None else StageProgress(**bar["stage"], fraction=done)
    return Progress(
        fraction=round(max(before, fraction), 5),
        current=sum(counts[state] for state in State if state not in LIVE),
        total=sum(counts.values()),
        unit="jobs",
        stage=stage,
    )


def _pages(ids: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(ids), AT_ONCE):
        yield ids[start : start + AT_ONCE]

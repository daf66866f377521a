"""Executions: what the workers of another system do with foreign jobs (headway.contract.foreign)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from redis.exceptions import OutOfMemoryError, ResponseError

from headway.contract.database import Call
from headway.contract.encoding import RecordError, clip, dumps
from headway.contract.keys import JobRef, partition_of
from headway.contract.new_job import NewJob
from headway.contract.records import CANCELED, MAX_ERROR_CHARS, MAX_RESULT_BYTES, error_json
from headway.contract.states import ErrorCode, State
from headway.contract.store import Hold, JobStore

_AGAIN_LATER = ("MISCONF", "NOREPLICAS")
"""Errors of a script that pass by, as OOM does; any other stays, and is returned for the one call."""
TAKEN_MS = 30_000
"""An agent that took a job has so long to send the task before the job is put back in the line."""

LAST_PLACE = 10**9
"""The `place` of an execution that no other follows."""

AT_ONCE = 50
"""Jobs that one script makes. Meanwhile Redis answers nobody else."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an execution ended. `state` is `retrying` if another follows after `delay_s`."""

    state: State
    result: Any = None
    code: ErrorCode = ErrorCode.ERROR
    message: str = ""
    """The error's message, or the reason of a retry."""
    delay_s: float = 0.0
    progress: str = ""
    """The last progress, in JSON; empty to leave it."""

    @property
    def error(self) -> str:
        """The text of the job's `error`."""
        if self.state is State.FAILED:
            return error_json(self.code, self.message)
        if self.state is State.CANCELED and self.message:
            return error_json(ErrorCode.CANCELED, self.message)
        return CANCELED if self.state is State.CANCELED else "null"

    @property
    def reason(self) -> str:
        """The text of the `retrying` event's reason."""
        return dumps(clip(self.message, MAX_ERROR_CHARS))


@dataclass(frozen=True, slots=True)
class Execution:
    """An execution that began, and its outcome if it is over by now."""

    ref: JobRef
    token: str
    """One for each execution: to report it again with the same token changes nothing."""
    worker: str
    place: int = 0
    """Among the executions of the job: a later one makes an earlier one void."""
    before: int = 0
    """How many executions went before it at least."""
    redelivery_s: float = 0.0
    """Within what time the system delivers the task again if the worker is lost; 0 if it does not."""
    reason: str = "redelivered"
    """Why it takes the job from an execution that has not ended."""
    outcome: Outcome | None = None


@dataclass(frozen=True, slots=True)
class Recorded:
    """What became of the report of an execution."""

    what: str
    """`claimed` (it goes on, and holds the job), `over` (written, with its outcome), `superseded` by a
    later one, `ended` (the job had ended before), `gone` (there is no such job), or `refused`."""
    hold: Hold | None = None
    cancel_requested: bool = False
    state: str = ""
    """The state in which the job had ended; or why the report was refused."""
    again: str = ""
    """The id of the job that took the place of one that had ended."""


class Executions:
    """Every method raises redis.RedisError when the store cannot be reached, or takes no writes now."""

    def __init__(self, store: JobStore, lease_s: float) -> None:
        self._store = store
        self._lease_ms = round(lease_s * 1000)

    # -- in the processes that send and run tasks --------------------------------------------------

    def announce(
        self, jobs: Iterable[tuple[str, NewJob]], totals: Iterable[tuple[str, str, int]] = ()
    ) -> None:
        """Make jobs, by their ids, in one round trip; those that are there already stay as they are.

        Parameters of more than MAX_PARAMS_BYTES are not kept. `totals` (owner, group, number) say how many
        jobs groups will have, unless somebody has said so before.
        """
        kinds: dict[tuple[Any, ...], list[tuple[str, NewJob]]] = {}
        for job_id, new in jobs:
            kinds.setdefault((partition_of(job_id), new.kind), []).append((job_id, new))
        calls = [
            self._announcement(alike[start : start + AT_ONCE])
            for alike in kinds.values()
            for start in range(0, len(alike), AT_ONCE)
        ]
        self._run([*calls, *(self._store.groups.expectation(*total) for total in totals)])

    def report(self, executions: Sequence[Execution]) -> list[Recorded]:
        """Write executions in one round trip. Raises RecordError for a result that is no record."""
        replies = self._run([self._execute(execution) for execution in executions])
        return [_recorded(*pair) for pair in zip(executions, replies, strict=True)]

    def end(self, ended: Sequence[tuple[Hold, Outcome]]) -> None:
        """End executions that hold their jobs, in one round trip; those that lost theirs change nothing.

        Raises RecordError for a result that is no record.
        """
        self._run([self._end(hold, outcome) for hold, outcome in ended])

    def abandon(self, job_id: str, outcome: Outcome) -> None:
        """End a job, or its attempt, in place of the execution that has it, or had it: its process was
        killed, or it is not going to start. Nothing happens if there is no such job, or it has ended."""
        store = self._store
        ref = store.ref(job_id)
        if ref is None:
            return
        key = store.keys.job(job_id)
        found: Any = store.database.at(key).hmget(key, ["_fence", "state", "_again"])
        fence, state, again = found
        if again is not None:
            self.abandon(again.decode(), outcome)
        elif state == b'"running"' and fence is not None:
            self._run([self._end(Hold(ref, fence.decode()), outcome)])
        elif outcome.state is State.CANCELED:
            store.cancel(job_id, asked_here=False)
        elif outcome.state is not State.RETRYING:
            # It was killed before it could say that it had begun, or is not going to.
            token = f"{(fence or b'').decode()}+"
            self.report([Execution(ref, token, "", LAST_PLACE, outcome=outcome)])

    def timed_out(self, hold: Hold) -> bool:
        """Whether the job has ended, with this its last execution, because its time was over."""
        key = self._store.keys.job(hold.ref.id)
        found: Any = self._store.database.at(key).hmget(key, ["_fence", "error"])
        fence, error = found
        if fence is None or fence.decode() != hold.fence:
            return False
        return (json.loads(error) or {}).get("code") == ErrorCode.TIMEOUT

    # -- in an agent beside the workers ------------------------------------------------------------

    def waiting(self, owner: str, queue: str, types: Iterable[str]) -> tuple[JobRef, str] | None:
        """Return the submitted job of these types that is next to be handed over, and its type."""
        return self._store.next(self._store.keys.partition(owner), queue, types)

    def take(self, ref: JobRef) -> bool:
        """Take a job to hand it over. Returns False if another agent has it, or it does not wait."""
        return bool(self._store.database.change("hand_over", ref, "take", TAKEN_MS)[0] == b"ok")

    def sent(self, ref: JobRef) -> None:
        """Note that the task of a taken job was sent: it is not handed over again."""
        self._store.database.change("hand_over", ref, "sent", self._store.retention_ms)

    def revoked(self, owner: str, since_ms: int) -> list[tuple[str, int]]:
        """Return tasks whose jobs were canceled before they began, since then, and when that was."""
        key = self._store.keys.revoked(self._store.keys.partition(owner))
        client = self._store.database.at(key)
        found: Any = client.zrange(key, since_ms, "+inf", byscore=True, withscores=True)
        return [(task_id.decode(), int(at)) for task_id, at in found]

    # ----------------------------------------------------------------------------------------------

    def _announcement(self, alike: Sequence[tuple[str, NewJob]]) -> Call:
        shared = [part for pair in alike[0][1].shared_fields().items() for part in pair]
        args: list[Any] = [len(shared), *shared]
        refs = []
        for job_id, new in alike:
            ref = new.ref(job_id)
            refs.append(ref)
            try:
                fields = new.own_fields(ref)
            except RecordError:
                fields = new.without_params().own_fields(ref)
            wait_ms = self._store.retention_ms + (new.foreign.wait_ms if new.foreign else 0)
            args += (job_id, wait_ms, 2 * len(fields))
            for pair in fields.items():
                args += pair
        database = self._store.database
        return "announce", database.keys_of(refs[0]), database.args_of(refs[0], args)

    def _run(self, calls: Sequence[Call]) -> list[Any]:
        replies = self._store.database.run_many(calls) if calls else []
        for reply in replies:
            if isinstance(reply, Exception) and (
                isinstance(reply, OutOfMemoryError)
                or not isinstance(reply, ResponseError)
                or str(reply).startswith(_AGAIN_LATER)
            ):
                raise reply
        return replies

    def _execute(self, execution: Execution) -> Call:
        outcome = execution.outcome
        args = [
            execution.token,
            self._lease_ms,
            dumps(execution.worker),
            execution.place,
            round(execution.redelivery_s * 1000),
            dumps(execution.reason),
        ]
        if outcome is None:
            args += ["", "null", "null", "", 0, "", execution.before]
        else:
            args += [
                outcome.state,
                dumps(outcome.result, MAX_RESULT_BYTES, "the result"),
                outcome.error,
                outcome.reason,
                round(outcome.delay_s * 1000),
                outcome.progress,
                execution.before,
            ]
        database = self._store.database
        return "execute", database.keys_of(execution.ref), database.args_of(execution.ref, args)

    def _end(self, hold: Hold, outcome: Outcome) -> Call:
        database = self._store.database
        if outcome.state is State.RETRYING:
            args = [hold.fence, round(outcome.delay_s * 1000), outcome.reason, "", CANCELED]
        else:
            result = dumps(outcome.result, MAX_RESULT_BYTES, "the result")
            args = [hold.fence, outcome.state, result, outcome.error, outcome.progress]
        script = "retry" if outcome.state is State.RETRYING else "end"
        return script, database.keys_of(hold.ref), database.args_of(hold.ref, args)


def _recorded(execution: Execution, reply: Any) -> Recorded:
    if isinstance(reply, Exception):
        return Recorded("refused", state=str(reply))
    what = reply[0].decode()
    if what == "claimed":
        return Recorded(what, Hold(execution.ref, reply[1].decode()), bool(reply[2]))
    if what == "ended":
        return Recorded(what, state=reply[1].decode(), again=reply[2].decode())
    return Recorded(what)

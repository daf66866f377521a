"""What must hold of a Celery project with instrument(app) while all that it needs is broken. Pure.

A task says what it does in a ledger, a file that knows nothing of Redis or of Headway. The streams are
checked by the rules of checker.py.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from tests.faults import checker
from tests.faults.findings import Found, Violation
from tests.faults.history import History

LEASE_S = 3.0
GHOST_S = LEASE_S + 5
"""A job whose process has gone, or has done with it, may say `running` so long while nothing is broken."""
NOTED_S = 1.0
"""What a process noted is written by then, if Headway's Redis is there."""
NOTICED_S = 5.0
"""A worker has noticed by then that a process of its pool is gone."""
SEND_S = 2.0
"""No sending takes longer, whatever is away, unless it is the broker."""
CLOSE_S = 0.3
"""Two executions that begin so close to each other may be heard of in either order."""
STATES = {"returned": "succeeded", "raised": "failed"}
COMPLAINTS = ("headway: a task may be shown wrongly", "notes about tasks are lost")


@dataclass
class Execution:
    """One execution of a task, by the ledger. `ended` and `how` are None if it was cut off."""

    task: str
    retries: int
    pid: int
    began: float
    ended: float | None = None
    how: str | None = None


@dataclass
class Span:
    """`what` was away from `since` to `until`; a process that was killed is `pid`, for ever."""

    what: str
    since: float
    until: float
    pid: int = 0


@dataclass
class Look:
    """At one moment: which tasks' jobs run, in which process, and whether that lives. `calm`: nothing that
    Headway needs was broken for a while."""

    at: float
    calm: bool
    running: dict[str, tuple[int, bool]]


@dataclass
class ShopHistory:
    sent: dict[str, float] = field(default_factory=dict)
    """Task → seconds that its sending took; those that tasks sent took none here."""
    sent_at: dict[str, float] = field(default_factory=dict)
    executions: list[Execution] = field(default_factory=list)
    spans: list[Span] = field(default_factory=list)
    looks: list[Look] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    parents: dict[str, str] = field(default_factory=dict)
    """Task → the task that sent it."""
    headway: History = field(default_factory=History)

    def of_tasks(self) -> dict[str, list[Execution]]:
        found: dict[str, list[Execution]] = defaultdict(list)
        for execution in sorted(self.executions, key=lambda e: (e.retries, e.began)):
            found[execution.task].append(execution)
        return found

    def jobs_of(self, task: str) -> list[dict[str, Any]]:
        """Its jobs, the oldest first: an execution after the end of a job has another."""
        found = [d for d in self.headway.documents.values() if d["labels"].get("task_id") == task]
        return sorted(found, key=lambda d: str(d["created_at"]))

    def away(self, since: float, until: float, *what: str) -> bool:
        return any(s.what in what and s.since < until and s.until > since for s in self.spans)


def read_ledger(text: str, h: ShopHistory) -> None:
    """Lines of `time pid task retries what [task]`."""
    open_: dict[tuple[str, int, int], Execution] = {}
    for line in text.splitlines():
        at, pid, task, retries, what, *more = line.split()
        key = (task, int(retries), int(pid))
        if what == "began":
            open_[key] = Execution(task, int(retries), int(pid), float(at))
            h.executions.append(open_[key])
        elif what == "sent":
            h.sent.setdefault(more[0], 0.0)
            h.parents[more[0]] = task
        else:
            open_[key].ended, open_[key].how = float(at), what


# -- the project ---------------------------------------------------------------------------------------


def every_task_ran(h: ShopHistory) -> Found:
    """Each task that was sent began, and was tried again if it said so; and no other did."""
    ran = h.of_tasks()
    for task in h.sent.keys() - ran.keys():
        yield task, "never began"
    for task in ran.keys() - h.sent.keys():
        yield task, "began, and nobody sent it"
    for task, executions in ran.items():
        last = executions[-1]
        if last.how == "retried":
            yield task, f"retry {last.retries + 1} never began"


def sending_waits_for_nothing(h: ShopHistory) -> Found:
    """Headway or its Redis away, sending takes no longer."""
    for task, seconds in h.sent.items():
        at = h.sent_at.get(task, 0.0)
        if seconds > SEND_S and not h.away(at - seconds - 3, at, "broker"):
            yield task, f"took {seconds:.1f} s to send"


def nothing_is_complained_of(h: ShopHistory) -> Found:
    """No process says that it could not show something."""
    for line in h.complaints:
        yield "a log", line


# -- its jobs ------------------------------------------------------------------------------------------


def each_job_ends_as_its_task_did(h: ShopHistory) -> Found:
    """The newest job of each task ended as its last execution did. One that was cut off is `worker_lost`.

    So may be one whose process was killed before its end was written, or stood still longer than a lease.
    If not even the beginning was written, the job still waits for a start: nobody can know. There is none
    if the process that sent it, for another task, was killed as early, and all of the worker's with it, or
    when the task was over: then its worker has nothing to tell.
    """
    ran = h.of_tasks()
    for task, executions in ran.items():
        jobs = h.jobs_of(task)
        if not jobs:
            senders = ran.get(h.parents.get(task, ""), [])
            sent_unnoted = any(_killed_at(h, e) - executions[0].began < NOTED_S for e in senders)
            unheard_of = all(
                _began_unnoted(h, e) and (e.how is not None or _worker_killed(h, e)) for e in executions
            )
            if not (sent_unnoted and unheard_of):
                yield task, "has no job"
            continue
        state = jobs[-1]["state"]
        code = (jobs[-1]["error"] or {}).get("code")
        last = executions[-1]
        close = [
            e
            for e in executions
            if e.retries == last.retries
            and (last.began - e.began < CLOSE_S or h.away(e.began, last.began + NOTED_S, "valkey"))
        ]
        if not any(_fits(h, e, state, code) for e in close):
            yield task, f"is {state} ({code}), and its executions are {executions}"


def _killed_at(h: ShopHistory, e: Execution) -> float:
    """When the execution's process was killed; infinity if it was not."""
    return min((s.since for s in h.spans if s.pid == e.pid and s.what == "killed"), default=math.inf)


def _worker_killed(h: ShopHistory, e: Execution) -> bool:
    """Whether a whole worker was killed with the execution's process, or before it could tell of that."""
    killed = _killed_at(h, e)
    return any(s.what == "shop" and 0 <= s.since - killed < NOTICED_S for s in h.spans)


def _began_unnoted(h: ShopHistory, e: Execution) -> bool:
    """Whether its process may have been killed before its beginning was written."""
    killed = _killed_at(h, e)
    return killed < math.inf and (
        killed - e.began < NOTED_S or h.away(e.began - NOTED_S, e.began + NOTED_S, "valkey")
    )


def _fits(h: ShopHistory, e: Execution, state: str, code: str | None) -> bool:
    lost = (state, code) == ("failed", "worker_lost")
    killed = _killed_at(h, e)
    if state in ("queued", "retrying"):
        return _began_unnoted(h, e)
    if e.ended is None or e.how is None:
        return lost
    if (state, code) == (STATES.get(e.how), "error" if e.how == "raised" else None):
        return True
    unwritten = killed < math.inf and (
        killed - e.ended < NOTED_S or h.away(e.ended - NOTED_S, killed, "valkey")
    )
    stood_still = any(
        s.pid == e.pid and s.what == "paused" and s.until - s.since > LEASE_S / 2 and s.since < e.ended
        for s in h.spans
    )
    return lost and (unwritten or stood_still)


def no_job_runs_that_nobody_runs(h: ShopHistory) -> Found:
    """A job whose process has gone, or has done with its task, does not say `running` for long."""
    done = {(e.task, e.pid): e.ended for e in h.executions if e.ended is not None}
    since: dict[str, float] = {}
    for look in h.looks:
        ghosts = set()
        for task, (pid, lives) in look.running.items():
            ended = done.get((task, pid))
            if not lives or (ended is not None and ended < look.at - NOTED_S):
                ghosts.add(task)
        since = {t: since.get(t, look.at) for t in ghosts} if look.calm else {}
        for task, at in since.items():
            if look.at - at > GHOST_S:
                yield task, f"says that it runs, {look.at - at:.0f} s after it did: {look.running[task]}"
    for job_id, document in h.headway.documents.items():
        if document["state"] == "running":
            yield job_id, f"is {document['state']} when all is over"


def children_have_their_parents(h: ShopHistory) -> Found:
    """The job of a task that another has sent has that one's job for a parent."""
    for child, parent in h.parents.items():
        jobs, parents = h.jobs_of(child), {d["id"] for d in h.jobs_of(parent)}
        if jobs and jobs[0]["parent"] not in parents:
            yield child, f"has the parent {jobs[0]['parent']}, and was sent by {parents}"


def _streams(h: ShopHistory) -> Iterator[Violation]:
    rules = (
        checker.one_end_and_nothing_after_it,
        checker.no_write_with_an_old_fence,
        checker.progress_never_falls,
        checker.chains_are_unbroken,
        checker.feeds_hold_what_their_jobs_hold,
        checker.readers_miss_nothing,
    )
    for rule in rules:
        for subject, detail in rule(h.headway):
            # Whether it may wait for ever is a question for the rule about its end.
            if rule is checker.one_end_and_nothing_after_it and _waits(h, subject):
                continue
            yield Violation(rule.__name__.replace("_", " "), subject, detail)


def _waits(h: ShopHistory, job_id: str) -> bool:
    return h.headway.documents[job_id]["state"] in ("queued", "retrying")


RULES: tuple[Callable[[ShopHistory], Found], ...] = (
    every_task_ran,
    sending_waits_for_nothing,
    nothing_is_complained_of,
    each_job_ends_as_its_task_did,
    no_job_runs_that_nobody_runs,
    children_have_their_parents,
)


def check(h: ShopHistory) -> list[Violation]:
    found = [
        Violation(rule.__name__.replace("_", " "), subject, detail)
        for rule in RULES
        for subject, detail in rule(h)
    ]
    return [*found, *_streams(h)]

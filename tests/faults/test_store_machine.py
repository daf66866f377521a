"""JobStore as a state machine, with the time as an input: whatever is done in whatever order, at whatever
times, forwards and backwards, the store does what the model does and keeps what must always hold."""

from __future__ import annotations

import json
import os
import secrets
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)

from headway.contract.alarms import REQUEUE_MAX_MS, REQUEUE_MS
from headway.contract.encoding import dumps
from headway.contract.events import ZERO, EventId
from headway.contract.keys import Keys
from headway.contract.messages import JobEnded, MessageConflict, Sent, message_body
from headway.contract.new_job import NewJob
from headway.contract.states import ErrorCode, State
from headway.contract.store import Claim, IdempotencyConflict, Report, StaleFence
from service.process import valkey
from tests.support.clocked_store import ASKS, ClockedStore
from tests.support.due import due_groups

PHASES = [phase for phase in Phase if phase is not Phase.shrink or "BROKEN_ON_PURPOSE" not in os.environ]
"""Shrinking a failure takes minutes, and is for people: mutations.py only asks whether there is one."""
LEASE_MS = 3_000
RETENTION_MS = 60_000
OWNERS = ("ann", "bob")
QUEUE = "q"
WAITS = (State.QUEUED, State.RETRYING)
LIVE = (*WAITS, State.RUNNING, State.WAITING)
LONGEST_WAIT_MS = 3_600_000


@dataclass
class Model:
    """What a job must be."""

    owner: str
    group: str | None
    max_attempts: int
    timeout_ms: int | None
    alarm: int | None
    state: State = State.QUEUED
    attempt: int = 0
    fence: str = "0"
    lease: int = 0
    deadline: int | None = None
    not_before: int = 0
    sends: int = 0
    seq: int = 0
    handed_back: int = 0
    cancel: bool = False
    events: list[str] = field(default_factory=lambda: ["state"])
    waits_for: str = ""
    wait_until: int | None = None
    continues: bool = False
    replaced: bool = False
    unread: list[str] = field(default_factory=list)
    said: dict[str, tuple[int, str]] = field(default_factory=dict)
    """Idempotency key → the message that it sent, and its event."""
    expires: int | None = None

    @property
    def live(self) -> bool:
        return self.state in LIVE


@dataclass
class GroupModel:
    """What the group `g` of an owner must be, beside its jobs."""

    expected: int | None = None
    swept: Counter[State] = field(default_factory=Counter)
    """States of jobs that are removed, and still counted."""
    replaced: Counter[State] = field(default_factory=Counter)
    """States of jobs whose place a retry has taken."""
    ended: bool = False
    ends: int = 0
    put: bool = False


@dataclass
class Held:
    """A claim that somebody has, perhaps no longer with right."""

    job: str
    claim: Claim
    token: str


class StoreMachine(RuleBasedStateMachine):
    server: ClassVar[valkey.Valkey]
    jobs = Bundle("jobs")
    claims = Bundle("claims")

    def __init__(self) -> None:
        super().__init__()
        self.keys = Keys(f"machine-{secrets.token_hex(4)}:")
        self.store = ClockedStore(
            self.server.url, self.keys, events_per_job=10_000, retention_s=RETENTION_MS / 1000
        )
        self.models: dict[str, Model] = {}
        self.once: dict[tuple[str, str], tuple[str, str]] = {}
        self.clock = EventId(0, 0)
        self.groups = {owner: GroupModel() for owner in OWNERS}
        self.seen: dict[str, list[EventId]] = {}
        """Job → ids of its events, as they were at the last look."""

    def teardown(self) -> None:
        self.store.close()

    # -- the model's own time ----------------------------------------------------------------------

    @property
    def now(self) -> int:
        return self.store.now_ms

    def tick(self) -> int:
        """The moment of an event: the time, but never before the last."""
        ms = max(self.now, self.clock.ms)
        self.clock = EventId(ms, self.clock.n + 1 if ms == self.clock.ms else 0)
        return ms

    def wake(self, m: Model, at: int) -> None:
        m.alarm = at if m.deadline is None else min(at, m.deadline)

    def end(self, m: Model, state: State) -> None:
        m.state, m.alarm, m.expires = state, None, self.tick() + RETENTION_MS
        m.unread = []
        *older, _ = [n for n, kind in enumerate(m.events) if kind == "progress"] or [-1]
        m.events = [kind for n, kind in enumerate(m.events) if n not in older]
        m.events.append("end")
        self.settle(m.owner, m.group)

    def counts(self, owner: str) -> Counter[State]:
        """The jobs of an owner's group by state."""
        g = self.groups[owner]
        there = Counter(m.state for m in self.models.values() if m.owner == owner and m.group)
        return Counter({s: n for s in State if (n := there[s] + g.swept[s] - g.replaced[s])})

    def settle(self, owner: str, group: str | None) -> None:
        """An owner's jobs have changed: the group may end, or be opened again."""
        if group is None:
            return
        g, counts = self.groups[owner], self.counts(owner)
        over = counts.total() - sum(counts[state] for state in LIVE)
        whole = g.expected is not None and over >= g.expected and over == counts.total()
        if whole and not g.ended:
            self.tick()
            g.ends += 1
        g.ended = whole

    # -- what is done ------------------------------------------------------------------------------

    @rule(
        ms=st.one_of(
            st.integers(-5_000, 5_000),
            st.sampled_from([1, LEASE_MS, LEASE_MS + 1, REQUEUE_MS, -LEASE_MS, 0, 20_000, -3_600_000]),
        )
    )
    def time_moves(self, ms: int) -> None:
        self.store.set_time(self.now + ms)

    # Few jobs, so that much happens to each.
    @precondition(lambda self: len(self.models) < 3)
    @rule(
        target=jobs,
        owner=st.sampled_from(OWNERS),
        group=st.sampled_from([None, "g", "g"]),
        max_attempts=st.integers(1, 3),
        timeout_s=st.sampled_from([None, None, 2.0, 10.0]),
        key=st.sampled_from([None, None, "k1", "k2"]),
        request=st.sampled_from(["one", "one", "other"]),
        again=st.booleans(),
    )
    def create(
        self,
        owner: str,
        group: str | None,
        max_attempts: int,
        timeout_s: float | None,
        key: str | None,
        request: str,
        again: bool,
    ) -> Any:
        old = next(iter(self.store.groups.to_retry(owner, "g")), None) if again and group else None
        new = NewJob(owner, "t", {}, QUEUE, max_attempts, group=group, timeout_s=timeout_s, retry_of=old)
        once = None if key is None else (key, request)
        before = None if key is None else self.once.get((owner, key))
        if before is not None:
            if before[1] != request:
                with pytest.raises(IdempotencyConflict):
                    self.store.create(new, once=once)
            else:
                job_id, _, is_new = self.store.create(new, once=once)
                assert (job_id, is_new) == (before[0], False)
            return multiple()
        job_id, _, is_new = self.store.create(new, once=once)
        assert is_new
        assert job_id not in self.models
        timeout_ms = None if timeout_s is None else round(timeout_s * 1000)
        alarm = self.tick() + REQUEUE_MS
        self.models[job_id] = Model(owner, group, max_attempts, timeout_ms, alarm)
        if old is not None:
            assert self.models[old].state in (State.FAILED, State.CANCELED)
            assert not self.models[old].replaced
            self.models[old].replaced = True
            self.groups[owner].replaced[self.models[old].state] += 1
        self.settle(owner, group)
        if key is not None:
            self.once[owner, key] = (job_id, request)
        return job_id

    @rule(target=claims, job=jobs)
    def claim(self, job: str) -> Any:
        ref = self.store.ref(job)
        m = self.models.get(job)
        if m is None:
            assert ref is None
            return multiple()
        assert ref is not None
        token = secrets.token_hex(4)
        claim = self.store.claim(ref, token=token, lease_s=LEASE_MS / 1000, worker="w")
        may = m.state in WAITS and self.now >= m.not_before
        if not may or (m.deadline is not None and m.deadline <= self.now):
            assert claim is None
            return multiple()
        assert claim is not None
        m.state, m.fence, m.seq = State.RUNNING, token, 0
        m.attempt += not m.continues
        assert claim.woken == "" or m.continues or m.waits_for
        m.continues = False
        m.lease = self.now + LEASE_MS
        if m.timeout_ms is not None and m.deadline is None:
            m.deadline = self.now + m.timeout_ms
        self.tick()
        m.events.append("state")
        self.wake(m, m.lease)
        assert (claim.job.attempt, claim.fence) == (m.attempt, m.fence)
        assert claim.attempts_left == m.max_attempts - m.attempt + m.handed_back
        return Held(job, claim, token)

    def holds(self, held: Held) -> Model | None:
        """The job's model, if the claim is still good."""
        m = self.models.get(held.job)
        good = m is not None and m.state is State.RUNNING and m.fence == held.claim.fence
        return m if good else None

    def woken(self, m: Model) -> bool:
        """Whether a job need not wait any more. None has a child that lives."""
        there = m.waits_for == "children" or bool(m.unread)
        return there or (m.wait_until is not None and m.wait_until <= self.now)

    def look(self, m: Model) -> None:
        later = self.now + LONGEST_WAIT_MS
        until = later if m.wait_until is None else min(m.wait_until, later)
        self.wake(m, self.now if self.woken(m) else until)

    @rule(
        target=claims,
        held=claims,
        what=st.sampled_from(["message", "message", "children"]),
        limit_ms=st.sampled_from([None, 500, 5_000]),
        repeat=st.booleans(),
    )
    def wait(self, held: Held, what: Any, limit_ms: int | None, repeat: bool) -> Any:
        m = self.models.get(held.job)
        limit_s = None if limit_ms is None else limit_ms / 1000

        def give_back() -> None:
            self.store.wait(held.claim, what, reason="r", limit_s=limit_s)

        over = m is not None and (m.state is State.WAITING or m.continues)
        if m is not None and over and m.fence == held.claim.fence:
            give_back()  # once more, and nothing changes
            return multiple()
        m = self.holds(held)
        if m is None:
            with pytest.raises(StaleFence):
                give_back()
            return multiple()
        give_back()
        if m.cancel:
            self.end(m, State.CANCELED)
            return multiple()
        if repeat:
            give_back()
        m.state, m.waits_for = State.WAITING, what
        m.wait_until = None if limit_ms is None else self.now + limit_ms
        self.tick()
        m.events.append("state")
        self.look(m)
        if what == "message":
            return multiple()
        self.answer(held.job)
        return self.claim(held.job)

    @rule(held=claims)
    def claim_whose_reply_was_lost(self, held: Held) -> None:
        if self.holds(held) is not None:
            again = self.store.claim(held.claim.ref, token=held.token, lease_s=9, worker="w")
            assert again is not None
            assert again.fence == held.claim.fence

    @rule(held=claims)
    def renew(self, held: Held) -> None:
        m = self.holds(held)
        if m is None:
            with pytest.raises(StaleFence):
                self.store.renew(held.claim, lease_s=LEASE_MS / 1000)
            return
        assert self.store.renew(held.claim, lease_s=LEASE_MS / 1000) is m.cancel
        m.lease = self.now + LEASE_MS
        self.wake(m, m.lease)

    @rule(
        held=claims,
        kinds=st.lists(st.sampled_from(["log", "progress", "message"]), min_size=1, max_size=3),
        repeat=st.booleans(),
    )
    def append(self, held: Held, kinds: list[str], repeat: bool) -> None:
        reports = [_report(kind) for kind in kinds]
        m = self.holds(held)
        if m is None:
            with pytest.raises(StaleFence):
                self.store.append(held.claim, 99, reports)
            return
        for _ in range(1 + repeat):
            assert self.store.append(held.claim, m.seq + 1, reports) is m.cancel
        m.seq += 1
        for kind in kinds:
            self.tick()
            m.events.append(kind)

    @rule(target=claims, held=claims)
    def a_silent_holder_is_replaced_and_writes_no_more(self, held: Held) -> Any:
        m = self.holds(held)
        if m is None:
            return multiple()
        self.store.set_time(max(self.now, m.lease))
        self.answer(held.job)
        claim = self.claim(held.job)
        self.append(held, ["log"], False)
        return claim

    @rule(job=jobs, key=st.sampled_from([None, "m1", "m2"]), number=st.integers(1, 2), repeat=st.booleans())
    def send_message(self, job: str, key: str | None, number: int, repeat: bool) -> None:
        m = self.models.get(job)

        once = None if key is None else (f"{job} {key}", str(number))

        def send() -> Sent | None:
            return self.store.messages.send(job, "n", number, once=once)

        if m is None:
            assert send() is None
            return
        before = m.said.get(key or "")
        if before is not None:
            if before[0] != number:
                with pytest.raises(MessageConflict):
                    send()
            else:
                sent = send()
                assert sent is not None
                assert (sent.id, sent.is_new) == (before[1], False)
            return
        if not m.live:
            with pytest.raises(JobEnded):
                send()
            return
        for n in range(1 + (repeat and key is not None)):
            sent = send()
            assert sent is not None
            assert sent.is_new is (n == 0)
            if n == 0:
                self.tick()
                m.events.append("message")
                m.unread.append(sent.id)
                if m.state is State.WAITING:
                    self.look(m)
                assert sent.id == str(self.clock)
                if key is not None:
                    m.said[key] = number, sent.id

    @rule(held=claims, more=st.integers(0, 2), most=st.integers(1, 3))
    def read_messages(self, held: Held, more: int, most: int) -> None:
        m = self.holds(held)
        for n in range(more):
            self.send_message(held.job, None, n, False)
        if m is None or not m.unread:
            return
        read = m.unread[:most]
        assert self.store.append(held.claim, m.seq + 1, [Report("", "", "_read", read[-1])]) is m.cancel
        m.seq += 1
        m.unread = m.unread[most:]

    @rule(
        held=claims,
        state=st.sampled_from([State.SUCCEEDED, State.FAILED, State.CANCELED]),
        repeat=st.booleans(),
    )
    def finish(self, held: Held, state: State, repeat: bool) -> None:
        m = self.models.get(held.job)
        error = None if state is State.SUCCEEDED else (ErrorCode.ERROR, "x")
        if m is not None and m.state is state and m.fence == held.claim.fence:
            # It looks like the same end again, whose reply was lost.
            self.store.end(held.claim, state, error=error)
            return
        m = self.holds(held)
        if m is None:
            with pytest.raises(StaleFence):
                self.store.end(held.claim, state, error=error)
            return
        for _ in range(1 + repeat):
            self.store.end(held.claim, state, error=error)
        self.end(m, state)
        self.send_message(held.job, None, 1, False)
        if m.group is not None:
            self.put_group(m.owner, self.groups[m.owner].expected)

    @rule(
        held=claims, delay_ms=st.sampled_from([0, 500, 4_000]), counts=st.booleans(), repeat=st.booleans()
    )
    def retry(self, held: Held, delay_ms: int, counts: bool, repeat: bool) -> None:
        m = self.models.get(held.job)

        def give_up() -> None:
            self.store.retry(held.claim, delay_s=delay_ms / 1000, reason="r", counts=counts)

        if m is not None and m.state is State.RETRYING and m.fence == held.claim.fence:
            give_up()  # once more, and nothing changes
            return
        m = self.holds(held)
        if m is None:
            with pytest.raises(StaleFence):
                give_up()
            return
        give_up()
        if m.cancel:
            self.end(m, State.CANCELED)
            return
        if repeat:
            give_up()
        m.handed_back += not counts
        m.state, m.not_before, m.sends = State.RETRYING, self.now + delay_ms, 0
        self.tick()
        m.events.append("state")
        self.wake(m, m.not_before)

    @rule(job=jobs)
    def cancel(self, job: str) -> None:
        found = self.store.cancel(job)
        m = self.models.get(job)
        if m is None:
            assert found is None
            return
        assert found is not None
        assert found[1] is not m.live
        if m.state in (*WAITS, State.WAITING):
            m.cancel = True
            self.end(m, State.CANCELED)
        elif m.live and not m.cancel:
            m.cancel = True
            self.tick()
            m.events.append("state")

    @rule(later_ms=st.sampled_from([0, 1, LEASE_MS, REQUEUE_MS]))
    def the_alarm_loop_looks(self, later_ms: int) -> None:
        self.store.set_time(self.now + later_ms)
        due = {job_id for job_id, m in self.models.items() if m.alarm is not None and m.alarm <= self.now}
        assert set(self.store.alarms.due(0)) == due
        for job_id in sorted(due):
            self.answer(job_id)

    @rule(job=jobs)
    def answer(self, job: str) -> None:
        m = self.models.get(job)
        message = self.store.alarms.answer(job)
        if m is None or m.alarm is None or m.alarm > self.now:
            assert message is None
        elif m.deadline is not None and m.deadline <= self.now:
            assert message is None
            self.end(m, State.FAILED)
        elif m.state is State.RUNNING and m.lease > self.now:
            assert message is None
            self.wake(m, m.lease)
        elif m.state is State.RUNNING and m.cancel:
            self.end(m, State.CANCELED)
        elif m.state is State.RUNNING and m.max_attempts - m.attempt + m.handed_back <= 0:
            assert message is None
            self.end(m, State.FAILED)
        elif m.state is State.WAITING and not self.woken(m):
            assert message is None
            self.look(m)
        else:
            if m.state is State.WAITING:
                m.state, m.continues, m.not_before, m.sends = State.QUEUED, True, 0, 0
                self.tick()
                m.events.append("state")
            if m.state is State.RUNNING:
                m.state, m.not_before, m.sends = State.RETRYING, 0, 0
                self.tick()
                m.events.append("state")
            m.sends += 1
            self.wake(m, self.now + min(REQUEUE_MS * 2 ** (m.sends - 1), REQUEUE_MAX_MS))
            assert message is not None
            assert (message.id, message.queue, message.sends) == (job, QUEUE, m.sends)

    @rule(later=st.booleans())
    def the_sweep_looks(self, later: bool) -> None:
        if later:
            self.store.set_time(self.now + RETENTION_MS)
        due = {
            job_id for job_id, m in self.models.items() if m.expires is not None and m.expires <= self.now
        }
        assert set(self.store.alarms.expired([0])) == due
        for job_id in due:
            assert self.store.alarms.sweep(job_id)
            m = self.models.pop(job_id)
            if m.group is not None:
                self.groups[m.owner].swept[m.state] += 1
                if not any(other.group and other.owner == m.owner for other in self.models.values()):
                    self.groups[m.owner] = GroupModel(ends=self.groups[m.owner].ends)
            self.once = {key: made for key, made in self.once.items() if made[0] != job_id}
            self.seen.pop(job_id, None)

    @initialize(owner=st.sampled_from(OWNERS), expected=st.sampled_from([1, 1, 2]))
    def a_group_is_put_before_its_jobs(self, owner: str, expected: int) -> None:
        self.put_group(owner, expected)

    # Hypothesis leaves out some rules of each example, and most rules need a job, and many a holder.
    @initialize(target=jobs, owner=st.sampled_from(OWNERS))
    def a_job_waits(self, owner: str) -> Any:
        return self.create(owner, None, 3, None, "k1", "one", False)

    @initialize(target=claims, owner=st.sampled_from(OWNERS))
    def a_job_of_a_group_runs(self, owner: str) -> Any:
        return self.claim(self.create(owner, "g", 2, None, None, "one", False))

    @precondition(lambda self: self.once)
    @rule(number=st.integers(0, 3))
    def a_submission_is_repeated(self, number: int) -> None:
        (owner, key), (_, request) = sorted(self.once.items())[number % len(self.once)]
        self.create(owner, None, 1, None, key, request, False)

    @rule(owner=st.sampled_from(OWNERS))
    def what_failed_in_a_group_is_retried(self, owner: str) -> None:
        if next(iter(self.store.groups.to_retry(owner, "g")), None) is not None and len(self.models) < 5:
            self.create(owner, "g", 1, None, None, "one", True)

    @rule(owner=st.sampled_from(OWNERS), expected=st.sampled_from([None, 1, 2, 3]))
    def put_group(self, owner: str, expected: int | None) -> None:
        self.groups[owner].expected = expected
        self.groups[owner].put = True
        self.store.groups.put(owner, "g", expected=expected, title=None)
        self.settle(owner, "g")

    @rule(later_ms=st.sampled_from([0, 1, 500]))
    def groups_are_told(self, later_ms: int) -> None:
        self.store.set_time(self.now + later_ms)
        for tally in due_groups(self.store):
            assert self.store.groups.tell(tally)
            self.tick()
            owner, group = self.keys.group_of(tally)
            told = self.store.feeds.snapshot(owner, group).group
            assert told is not None
            assert (told.type, told.id, told.data) == (
                "group", self.clock, self.store.groups.get(owner, group),
            )  # fmt: skip

    # -- what must always hold ---------------------------------------------------------------------

    @invariant()
    def what_must_hold_holds(self) -> None:
        self.alarms_and_indexes_match()
        self.groups_are_what_the_model_says()
        self.jobs_are_what_the_model_says_and_their_chains_are_unbroken()

    def groups_are_what_the_model_says(self) -> None:
        for owner, g in self.groups.items():
            found = self.store.groups.get(owner, "g")
            there = any(m.owner == owner and m.group for m in self.models.values())
            if not there and not g.put:
                assert found is None
                continue
            assert found is not None
            document = json.loads(found)
            assert {s: n for s, n in document["counts"].items() if n} == self.counts(owner)
            assert (document["state"] == "ended", document["ended_at"] is not None) == (g.ended, g.ended)
            if g.ended:
                assert document["fraction"] == 1
            feed = self.store.feeds.read(owner, "g", ZERO, 10_000).events
            assert sum(event.type == "group-end" for event in feed) == g.ends

    def alarms_and_indexes_match(self) -> None:
        """Every live job has one alarm, at its time, and no other has any; each is in its state's index."""
        live = {job_id: m for job_id, m in self.models.items() if m.live}
        assert all(m.alarm is not None for m in live.values())
        ended = {job_id: m for job_id, m in self.models.items() if not m.live}
        expected: dict[str, dict[str, int | None]] = {
            self.keys.alarms(0): {job_id: m.alarm for job_id, m in live.items()},
            self.keys.expiring(0): {job_id: m.expires for job_id, m in ended.items()},
        }
        members = {self.keys.waiting(0, QUEUE): {j for j, m in live.items() if m.state in WAITS}}
        for owner in OWNERS:
            mine = {job_id: m for job_id, m in self.models.items() if m.owner == owner}
            members[self.keys.jobs(owner)] = set(mine)
            members[self.keys.group(owner, "g")] = {j for j, m in mine.items() if m.group}
            for state in State:
                members[self.keys.jobs(owner, state)] = {j for j, m in mine.items() if m.state is state}
        with self.store.redis.pipeline(transaction=False) as pipe:
            for key in (*expected, *members):
                pipe.zrange(key, 0, -1, withscores=True)
            replies: list[Any] = pipe.execute()
        found = {
            key: {member.decode(): int(score) for member, score in reply}
            for key, reply in zip((*expected, *members), replies, strict=True)
        }
        assert {key: found[key] for key in expected} == expected
        assert {key: set(found[key]) for key in members} == members

    def jobs_are_what_the_model_says_and_their_chains_are_unbroken(self) -> None:
        ids: list[EventId] = []
        pages = self.store.read_jobs([(job_id, ZERO) for job_id in self.models], 10_000)
        for (job_id, m), page in zip(self.models.items(), pages, strict=True):
            assert page is not None
            job = json.loads(page.document)
            found = (job["state"], job["attempt"], job["cancel_requested"], job["finished_at"] is None)
            assert found == (m.state, m.attempt, m.cancel, m.live)
            # Nothing after the end, and nothing of what was written is ever changed; but an ended job has
            # only its newest progress.
            assert [e.type for e in page.events] == m.events
            assert [e.since for e in page.events] == [ZERO, *(e.id for e in page.events[:-1])]
            assert page.last == page.events[-1].id <= page.clock == self.clock
            assert [message.id for message in self.store.messages.unread(job_id)] == m.unread
            mine = [e.id for e in page.events]
            known = [i for i in self.seen.get(job_id, []) if m.live or i in mine]
            assert mine[: len(known)] == known
            self.seen[job_id] = mine
            ids += mine
        assert len(set(ids)) == len(ids)
        for owner in OWNERS:
            for group in (None, "g"):
                feed = self.store.feeds.read(owner, group, ZERO, 10_000).events
                chain = [ZERO, *(e.id for e in feed)]
                assert [e.prev for e in feed] == chain[:-1]
                assert chain == sorted(set(chain))


def _report(kind: str) -> Report:
    if kind == "message":
        return Report("message", message_body("task", "n", {"x": [1]}))  # type: ignore[arg-type]
    if kind == "log":
        return Report("log", dumps({"level": "info", "message": "m"}))  # type: ignore[arg-type]
    body = dumps({"fraction": 0.5})
    return Report("progress", body, "progress", body)  # type: ignore[arg-type]


def test_the_store_does_what_the_model_does(valkey_server: valkey.Valkey) -> None:
    class Machine(StoreMachine):
        server = valkey_server

    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=30,
            stateful_step_count=50,
            deadline=None,
            derandomize=True,
            phases=PHASES,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_all_scripts_that_ask_for_the_time_are_given_ours(valkey_server: valkey.Valkey) -> None:
    store = ClockedStore(valkey_server.url, Keys("timed:"))
    texts = {name: str(script.script) for name, script in store.database.scripts.items()}
    assert not [name for name, text in texts.items() if ASKS in text or "'TIME'" in text]
    asking = {name for name, text in texts.items() if "timed:time" in text}
    assert {"create", "claim", "renew", "alarm", "sweep"} <= asking
    store.close()

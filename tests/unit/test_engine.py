"""The streaming engine as a state machine: whatever happens to readers, connections and the store, each
reader gets exactly what the store has after its cursor, in order, or a reset."""

from __future__ import annotations

import os
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from headway.contract.events import ZERO, EventId
from service.streaming.opening import EventStream
from service.streaming.reader import Place
from tests.support.engine import Client, Engine
from tests.support.promise import Promise

PHASES = [phase for phase in Phase if phase is not Phase.shrink or "BROKEN_ON_PURPOSE" not in os.environ]
"""A failure is made small for people to read, which takes a while; mutations.py only needs one."""
GROUPS = ("g", "h")
MAX_JOBS = 4
MAX_READERS = 8

numbers = st.integers(0, 1000)
groups = st.sampled_from((*GROUPS, None))
often = st.sampled_from((True, True, True, False))
rarely = st.sampled_from((False, False, False, True))


class EngineMachine(RuleBasedStateMachine):
    """Most rules end with `pump`: what the loops would do at once. Without it, things overlap."""

    def __init__(self) -> None:
        super().__init__()
        self.engine = Engine()
        self.jobs: list[str] = []
        self.ended: set[str] = set()
        self.promises: dict[int, tuple[Client, Promise]] = {}
        self.opened: list[tuple[EventStream, Promise]] = []
        self.trimmed: set[EventId] = set()
        """Events that one of their streams does not keep any more."""
        self.connected = True
        self.lost = False
        """Whether a message was lost though the connection lived: only an audit finds that."""
        self.create("g")
        self.create("h")

    def pump(self, wanted: bool) -> None:
        if wanted and self.connected:
            self.engine.settle()

    # -- the store ---------------------------------------------------------------------------------

    def create(self, group: str | None) -> str:
        self.jobs.append(self.engine.store.create(group))
        return self.jobs[-1]

    @rule(
        n=numbers,
        event=st.sampled_from(("progress", "progress", "progress", "log", "log", "end")),
        count=st.integers(1, 3),
        lost=st.sampled_from((None, None, None, 0, 1, 2)),
        pump=often,
    )
    def emit(self, n: int, event: str, count: int, lost: int | None, pump: bool) -> None:
        """A job has news, of which a message may be lost on its way."""
        live = [job_id for job_id in self.jobs if job_id not in self.ended]
        if not live:
            if len(self.jobs) == MAX_JOBS:
                return
            live = [self.create(GROUPS[n % 2])]
        job_id = live[n % len(live)]
        for _ in range(1 if event == "end" else count):
            self.engine.store.now_ms += n % 3
            self.engine.store.emit(job_id, event)
        if event == "end":
            self.ended.add(job_id)
        if lost is not None:
            self.lose(lost)
        self.pump(pump)

    def lose(self, n: int) -> None:
        event_id = self.engine.lose_message(n)
        if event_id is None:
            return
        self.lost = True
        for promise in self.all_promises():
            # Another job may lead the one cursor of a list past what was lost.
            if promise.kind == "jobs":
                promise.may_reset = True
                promise.lost.add(event_id)

    @precondition(lambda self: any(promise.kind == "jobs" for promise in self.all_promises()))
    @rule(n=numbers, pump=often)
    def lead_past(self, n: int, pump: bool) -> None:
        """A job of a list has news that is lost, and then another has."""
        lists = [promise.jobs for promise in self.all_promises() if promise.kind == "jobs"]
        jobs = [job_id for job_id in lists[n % len(lists)] if job_id not in self.ended]
        self.pump(pump)
        for job_id in jobs:
            self.engine.store.emit(job_id, "log")
            if job_id == jobs[0]:
                self.lose(0)
        self.pump(pump)

    @rule(
        what=st.sampled_from(("job", "feed", "quiet", "quiet")),
        n=numbers,
        group=groups,
        kept=st.integers(1, 2),
    )
    def forget(self, what: str, n: int, group: str | None, kept: int) -> None:
        """The store keeps less: of a job, of a feed, or nothing of a feed that is quiet, not even its last
        id, while readers of it are open."""
        store = self.engine.store
        if what == "job":
            trimmed = store.trim(self.jobs[n % len(self.jobs)], kept)
        else:
            trimmed = store.trim_feed(group, kept) if what == "feed" else store.expire_feed(group)
        self.trimmed.update(trimmed)
        for promise in self.all_promises():
            promise.may_reset = promise.may_reset or bool(trimmed)

    def all_promises(self) -> list[Promise]:
        return [p for _, p in self.promises.values()] + [p for _, p in self.opened]

    # -- the connection to Redis -------------------------------------------------------------------

    @rule(n=st.integers(1, 5))
    def deliver(self, n: int) -> None:
        self.engine.deliver(n)

    @rule()
    def send_outbox(self) -> None:
        self.engine.link.send_outbox()

    @rule(emit=st.booleans(), n=numbers, pump=often)
    def reconnect(self, emit: bool, n: int, pump: bool) -> None:
        """The connection is lost, with what was on its way; later there is another."""
        if self.connected:
            self.connected = False
            self.engine.lose_connection()
        if emit:
            self.emit(n, "log", 1, None, False)
        if pump:
            self.connected = True
            self.engine.connect()
        self.pump(pump)

    @rule()
    def audit(self) -> None:
        self.engine.audit()

    # -- readers -----------------------------------------------------------------------------------

    @rule(
        kind=st.sampled_from(("job", "job", "jobs", "feed", "group", "group")),
        n=numbers,
        where=st.sampled_from(
            ("nowhere", "nowhere", "zero", "own", "own", "any", "now", "now", "ahead", "rubbish")
        ),
        visible=st.booleans(),
        pump=often,
    )
    def open(self, kind: str, n: int, where: str, visible: bool, pump: bool) -> None:
        """A client asks for a stream, and gets it at once or later."""
        if len(self.promises) + len(self.opened) >= MAX_READERS:
            return
        store, engine = self.engine.store, self.engine
        jobs = tuple(dict.fromkeys((self.jobs * 2)[n % len(self.jobs) :][: 1 if kind == "job" else 2]))
        catchup: Any = engine.job(jobs[0]) if kind == "job" else engine.jobs(*jobs)
        promise = Promise("job" if kind == "job" else "jobs", None, jobs=jobs)
        if kind in ("feed", "group"):
            promise = Promise("feed", None, GROUPS[n % 2] if kind == "group" else None)
            catchup = engine.feed(promise.group)
        every = [event.id for _, event in store.history]
        own = [
            event.id
            for job_id, event in store.history
            if (store.in_feed(job_id, promise.group) if promise.kind == "feed" else job_id in jobs)
        ]
        fault = None
        if where in ("own", "any", "now"):
            promise.cursor = {"own": own[n % len(own)], "any": every[n % len(every)], "now": store.clock}[
                where
            ]
            promise.may_reset = promise.kind != "feed" and promise.cursor not in own
        elif where == "ahead":
            promise.cursor = EventId(store.clock.ms + 10_000_000, 0)
            promise.may_reset = True
        elif where != "nowhere":
            promise.cursor = ZERO
        if where == "rubbish":
            fault, promise.may_reset = "cursor_invalid", True
        promise.may_reset = promise.may_reset or bool(self.trimmed)
        promise.trimmed = self.trimmed
        cursor = None if fault else promise.cursor
        self.opened.append((engine.stream(catchup, cursor, fault, visible), promise))
        if pump:
            self.hand_over(-1, n % 2 == 0, None)
        self.pump(pump)

    @precondition(lambda self: self.opened)
    @rule(n=numbers, read=st.booleans(), room=st.sampled_from((None, None, None, 0, 30)))
    def hand_over(self, n: int, read: bool, room: int | None) -> None:
        """The socket of a stream comes, after its first page was read or before."""
        stream, promise = self.opened.pop(n % len(self.opened))
        if read and self.engine.hub.ready(stream) is not None:
            stream.open()
        client = self.engine.sides.new()
        client.room = room
        promise.lossy = room is not None
        stream.hand_over(client)  # type: ignore[arg-type]
        stream.close()
        self.promises[client.fd] = (client, promise)

    @precondition(lambda self: self.promises)
    @rule(n=numbers, room=st.sampled_from((0, 0, 1, 5, 40, 150)), pump=rarely)
    def block(self, n: int, room: int, pump: bool) -> None:
        """A client stops reading; its buffers take a few bytes more."""
        client, promise = self.nth(n)
        client.room = room
        promise.lossy = True
        self.emit(n, "log", 2, None, pump)

    @precondition(lambda self: self.promises)
    @rule(n=numbers, room=st.sampled_from((None, None, 3, 60)))
    def unblock(self, n: int, room: int | None) -> None:
        for client, _ in self.promises.values():
            if client.room is not None:
                client.room = room
        self.engine.sockets.watch()

    @precondition(lambda self: self.promises)
    @rule(n=numbers, pump=often)
    def go(self, n: int, pump: bool) -> None:
        """A client closes its connection."""
        client, _ = self.nth(n)
        del self.promises[client.fd]
        if not client.closed:
            self.engine.reader_of(client).move_to(Place.GONE)
        self.pump(pump)

    @rule(n=numbers, sent=often, replies=st.integers(0, 3), emit=often)
    def come_and_go(self, n: int, sent: bool, replies: int, emit: bool) -> None:
        """A client leaves before its subscription is confirmed, and another comes for the same job."""
        engine = self.engine
        live = [job_id for job_id in self.jobs if job_id not in self.ended]
        if not live or len(self.promises) + len(self.opened) >= MAX_READERS:
            return
        job_id = live[n % len(live)]
        brief = engine.stream(engine.job(job_id))
        if sent:
            engine.link.send_outbox()
        brief.close()
        engine.link.send_outbox()
        promise = Promise("job", None, jobs=(job_id,), may_reset=bool(self.trimmed))
        promise.trimmed = self.trimmed
        self.opened.append((engine.stream(engine.job(job_id)), promise))
        engine.deliver(replies)
        self.hand_over(-1, True, None)
        engine.sockets.catch_up()
        if emit:
            engine.store.emit(job_id, "log")

    def nth(self, n: int) -> tuple[Client, Promise]:
        return list(self.promises.values())[n % len(self.promises)]

    # -- the loops ---------------------------------------------------------------------------------

    @rule()
    def beat(self) -> None:
        self.engine.beat()

    @rule(
        first=st.booleans(),
        meanwhile=st.sampled_from(("nothing", "emit", "deliver", "reconnect", "block", "block", "audit")),
        n=numbers,
    )
    def catch_up(self, first: bool, meanwhile: str, n: int) -> None:
        """A page is read, while something else happens."""

        def happens() -> None:
            if meanwhile == "block":
                for client, promise in self.promises.values():
                    client.room = n % 20
                    promise.lossy = True
                self.engine.beat()
            elif meanwhile == "emit":
                self.emit(n, "log", 1, None, False)
            elif meanwhile == "deliver":
                self.emit(n, "log", 1, None, False)
                self.engine.deliver()
            elif meanwhile == "reconnect" and self.connected:
                self.reconnect(True, n, False)
                self.engine.connect()
                self.connected = True
                self.engine.link.send_outbox()
                self.engine.deliver()
            elif meanwhile == "audit":
                self.engine.audit()

        if first and self.connected:
            self.reconnect(False, n, False)
            self.engine.connect()
            self.connected = True
            self.engine.link.send_outbox()
            self.engine.deliver()
        self.engine.store.during_read = happens
        self.engine.sockets.catch_up()
        self.engine.store.during_read = None

    @rule()
    def settle(self) -> None:
        """Nothing happens for a while, and everything heals."""
        if not self.connected:
            self.connected = True
            self.engine.connect()
        while self.opened:
            self.hand_over(0, True, None)
        for client, _ in self.promises.values():
            client.room = None
        self.engine.settle()
        assert self.lost or not self.engine.late(), "without a loss there is nothing for an audit to find"
        self.lost = False
        before = self.engine.store.reads
        self.engine.audit()
        self.engine.settle()
        # An audit sends each reader to the store once; the newest progress and the end are a read more.
        assert self.engine.store.reads - before <= 3 * len(self.promises), "a bounded number of reads"
        before = self.engine.store.reads
        self.engine.settle()
        assert self.engine.store.reads == before, "then nothing is read any more"
        for client, promise in self.promises.values():
            assert promise.breach(self.engine.store, client.events) is None, promise.breach(
                self.engine.store, client.events
            )
            assert self.engine.place(client) in (Place.LIVE, Place.SETTLED, Place.GONE)
        for fd in [fd for fd, (client, _) in self.promises.items() if client.closed]:
            del self.promises[fd]

    @invariant()
    def everyone_is_in_one_place(self) -> None:
        self.engine.check()
        assert self.engine.limits.open == len(self.engine.sockets._readers) + len(self.opened)

    def teardown(self) -> None:
        self.settle()
        self.engine.sockets.drain(0)
        for client, _ in self.promises.values():
            assert client.data.endswith(b"\n\n")
            assert b"event: shutdown\n" in client.data
        assert not self.engine.hub._topics
        assert self.engine.limits.open == 0


def test_every_reader_gets_what_the_store_has_after_its_cursor_or_a_reset() -> None:
    run_state_machine_as_test(
        EngineMachine,
        settings=settings(
            max_examples=int(os.environ.get("ENGINE_EXAMPLES", "120")),
            stateful_step_count=30,
            derandomize=True,
            deadline=None,
            database=None,
            phases=PHASES,
            suppress_health_check=list(HealthCheck),
        ),
    )

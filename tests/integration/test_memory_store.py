"""The store in memory that the engine's tests use, held against the real one."""

from __future__ import annotations

import secrets
from contextlib import closing
from typing import Any, cast

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headway.contract.events import ZERO, EventId
from headway.contract.keys import Keys
from headway.contract.new_job import NewJob
from headway.contract.pages import FeedPage, FeedSnapshot, JobPage
from headway.contract.states import State
from headway.contract.store import Claim, Wanted
from service.process import valkey
from tests.support.clocked_store import ClockedStore
from tests.support.fake_worker import claim, log, progress
from tests.support.memory_store import OWNER, RETENTION_MS, MemoryStore

GROUPS = ("g", "h", None)
SILENT = "that is all"

OPERATIONS = (
    *("create", "claim", "progress", "progress", "log", "log", "end"),
    *("time", "trim", "trim-feed", "expire-feed"),
)

operations = st.lists(st.tuples(st.sampled_from(OPERATIONS), st.integers(0, 1000)), min_size=5, max_size=20)


class Pair:
    """Two stores that are written the same."""

    def __init__(self, real: ClockedStore) -> None:
        self.real = real
        self.memory = MemoryStore(real.now_ms)
        self.memory.keys = real.keys
        self.claims: dict[str, Claim | None] = {}
        self.batches = 0

    def create(self, group: str | None) -> None:
        job_id, _, _ = self.real.create(NewJob(OWNER, "t", {}, "q", 1, group))
        self.claims[job_id] = None
        page = self.real.read(job_id, ZERO, 1)
        assert page is not None
        self.memory.create(group, job_id, page.events[0].data)

    def do(self, what: str, n: int) -> None:
        group = GROUPS[n % 3]
        live = [job_id for job_id in self.claims if not self.memory.ended(job_id)]
        if what == "create":
            self.create(group)
        elif what == "time":
            self.set_time(self.real.now_ms + n - 300)
        elif what == "trim":
            job_id = [*self.claims][n % len(self.claims)]
            self.memory.trim(job_id, 1 + n % 2)
            self.real.redis.xtrim(self.real.keys.events(job_id), maxlen=1 + n % 2, approximate=False)
        elif what == "trim-feed":
            self.memory.trim_feed(group, n % 3)
            self.real.redis.xtrim(self.real.keys.feed(OWNER, group), maxlen=n % 3, approximate=False)
        elif what == "expire-feed":
            self.memory.expire_feed(group)
            keys = self.real.keys
            self.real.redis.delete(keys.feed(OWNER, group), keys.feed_last(OWNER, group))
            self.set_time(self.real.now_ms + RETENTION_MS + 1)
        elif live:
            self.work(live[n % len(live)], what, n)

    def set_time(self, ms: int) -> None:
        self.real.set_time(ms)
        self.memory.now_ms = ms

    def work(self, job_id: str, what: str, n: int) -> None:
        before = self.memory.clock
        held = self.claims[job_id] = self.claims[job_id] or claim(self.real, job_id)
        self.batches += 1
        if what in ("progress", "log"):
            self.real.append(held, self.batches, [progress(n) if what == "progress" else log(n)])
        elif what == "end":
            self.real.end(held, State.SUCCEEDED)
        page = self.real.read(job_id, before, 10)
        assert page is not None
        for event in page.events:
            self.memory.emit(job_id, event.type, data=event.data)


def seen_of(page: JobPage | None) -> Any:
    return page and (page.clock, page.id, page.last, page.ended, page.events)


def kept_of(store: Any, page: FeedPage) -> Any:
    progress = sorted(store.feeds.latest_progress(page.begun), key=lambda event: event.id)
    return page.clock, page.now_ms, page.last, page.events, progress


def state_of(snapshot: FeedSnapshot) -> Any:
    return snapshot.clock, snapshot.last, [(job.id, job.last) for job in snapshot.jobs]


@settings(
    max_examples=25,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
@given(todo=operations, limit=st.sampled_from((1, 2, 500)))
def test_it_publishes_and_returns_what_the_real_store_does(
    valkey_server: valkey.Valkey, todo: list[tuple[str, int]], limit: int
) -> None:
    keys = Keys(f"test-{secrets.token_hex(4)}:")
    with (
        closing(ClockedStore(valkey_server.url, keys, events_per_job=50, retention_s=60)) as real,
        real.redis.pubsub() as channel,
    ):
        for name, script in real.database.scripts.items():
            # Of sharded channels, one cannot ask for all.
            text = cast(str, script.script).replace("SPUBLISH", "PUBLISH")
            real.database.scripts[name] = real.redis.register_script(text)
        channel.psubscribe(f"{keys.prefix}*")
        assert channel.get_message(timeout=10) is not None
        pair = Pair(real)
        memory = pair.memory
        memory.wire.channels = Everything()
        pair.create("g")
        for what, n in todo:
            pair.do(what, n)

        real.redis.publish(f"{keys.prefix}{SILENT}", b"")
        published = []
        for message in iter(lambda: channel.get_message(timeout=10), None):
            if message["channel"].endswith(SILENT.encode()):
                break
            published.append([b"smessage", message["channel"], message["data"]])
        assert published == list(memory.wire.replies)

        jobs = [*pair.claims, "0-nobody"]
        topics = [*map(keys.events, jobs), *(keys.feed(OWNER, group) for group in GROUPS)]
        assert memory.last_ids(topics) == real.feeds.last_ids(topics)
        assert memory.last_events(jobs[:-1]) == real.last_events(jobs[:-1])
        for group in GROUPS:
            assert state_of(memory.snapshot(OWNER, group)) == state_of(real.feeds.snapshot(OWNER, group))
        ahead = EventId(memory.clock.ms + 1, 0)
        for cursor in (None, ZERO, ahead, *(event.id for _, event in memory.history)):
            wanted: list[Wanted] = [(job_id, cursor) for job_id in jobs]
            for read in (real.read_jobs, real.read_each):
                assert [*map(seen_of, memory.read_jobs(wanted, limit))] == [
                    *map(seen_of, read(wanted, limit))  # type: ignore[operator]
                ]
            for group in GROUPS if cursor is not None else ():
                assert kept_of(memory, memory.read(OWNER, group, cursor, limit)) == kept_of(
                    real, real.feeds.read(OWNER, group, cursor, limit)
                )


class Everything(set[str]):
    """All channels."""

    def __contains__(self, name: object) -> bool:
        return True

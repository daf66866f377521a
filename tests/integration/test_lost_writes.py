"""What a primary took and its successor never heard of: no id of it comes again, and who saw it is told."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from headway.contract.database import TooFewReplicas
from headway.contract.events import ZERO, EventId
from headway.contract.keys import Keys
from headway.contract.new_job import NewJob
from headway.contract.states import State
from headway.contract.store import Claim, JobStore
from service.streaming.catchup import CatchUp, FeedCatchUp, JobCatchUp, JobListCatchUp, Page
from service.streaming.store_reader import StoreReader
from tests.support.clocked_store import ClockedStore
from tests.support.fake_worker import claim, log
from tests.support.redis_cluster import Server
from tests.support.stack import free_port
from tests.support.wait import until


class Everybody:
    """Sees all that is Ann's."""

    sees_only = "ann"

    def sees(self, page: object) -> bool:
        return True

    def valid(self) -> bool:
        return True


class Servers:
    """Servers of one store, whose time stands still: only lineages keep the ids of two of them apart."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.opened = ExitStack()

    def start(self, name: str, *options: str) -> Server:
        server = Server(self.directory / name, "appendonly yes", "repl-diskless-sync-delay 0", *options)
        self.opened.callback(server.close)
        return server

    def store(self, server: Server) -> ClockedStore:
        store = ClockedStore(f"redis://127.0.0.1:{server.port}/0", Keys("t:"))
        self.opened.callback(store.close)
        return store

    def replica_of(self, primary: Server) -> Server:
        replica = self.start("replica", f"replicaof 127.0.0.1 {primary.port}")
        until(lambda: replica.client.info("replication")["master_link_status"] == "up")
        return replica


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[Servers]:
    servers = Servers(tmp_path)
    with servers.opened:
        yield servers


def begin(store: JobStore) -> Claim:
    return claim(store, store.create(NewJob("ann", "t", {}, "q", 1, "g"))[0])


def say(store: JobStore, held: Claim, batch: int) -> EventId:
    """Write a log line, and return its id."""
    store.append(held, batch, [log(batch)])
    page = store.read(held.ref.id, None, 0)
    assert page is not None
    return page.last


def ids(store: JobStore, held: Claim) -> list[EventId]:
    page = store.read(held.ref.id, ZERO, 1000)
    assert page is not None
    return [event.id for event in page.events]


def views(store: JobStore, held: Claim) -> list[CatchUp]:
    """Every way to watch the job."""
    reader, who, job_id = StoreReader(store), Everybody(), held.ref.id
    return [
        JobCatchUp(reader, who, job_id),
        JobListCatchUp(reader, who, [job_id]),
        FeedCatchUp(reader, who, "ann", None),
        FeedCatchUp(reader, who, "ann", "g"),
    ]


def after(store: JobStore, held: Claim, cursor: EventId) -> list[Page]:
    return [view.after(cursor) for view in views(store, held)]


def test_what_a_lost_primary_handed_out_is_ahead_for_ever_and_no_id_of_it_comes_again(
    servers: Servers,
) -> None:
    primary = servers.start("primary")
    replica = servers.replica_of(primary)
    before = servers.store(primary)
    held = begin(before)
    kept = say(before, held, 1)
    assert primary.ask("WAIT", 1, 10_000) == 1
    replica.ask("REPLICAOF", "127.0.0.1", free_port())  # it is cut off, and the primary goes on
    lost = [say(before, held, batch) for batch in (2, 3, 4)]

    replica.ask("REPLICAOF", "NO", "ONE")
    store = servers.store(replica)
    assert [page.reset for page in after(store, held, lost[0])] == ["cursor_ahead"] * 4
    lost.append(say(before, held, 5))  # the old one does not know it yet
    new = [say(store, held, batch) for batch in (2, 3, 4, 5, 6, 7)]
    store.advance(60)
    new.append(say(store, held, 8))
    assert new[-1] > max(lost), "the clock has passed all that was lost"
    assert not set(ids(store, held)) & set(lost)
    assert ids(store, held) == sorted(ids(store, held))
    for cursor in lost:
        assert [page.reset for page in after(store, held, cursor)] == ["cursor_ahead"] * 4
    for page in after(store, held, kept):
        assert (page.reset, [event.id for event in page.events]) == (None, new)
    store.end(held, State.SUCCEEDED)
    assert JobCatchUp(StoreReader(store), Everybody(), held.ref.id).after(lost[0]).reset == "cursor_ahead"


def test_a_failover_that_lost_nothing_resets_nobody(servers: Servers) -> None:
    primary = servers.start("primary")
    replica = servers.replica_of(primary)
    before = servers.store(primary)
    held = begin(before)
    cursors = [say(before, held, 1), say(before, held, 2)]
    primary.ask("WAIT", 1, 10_000)
    for to, other in ((replica, primary), (primary, replica), (replica, primary)):
        # And back, so that the same process is the primary again.
        to.ask("REPLICAOF", "NO", "ONE")
        store = servers.store(to)
        cursors.append(say(store, held, len(cursors) + 1))
        other.ask("REPLICAOF", "127.0.0.1", to.port)
        until(lambda other=other: other.client.info("replication")["master_link_status"] == "up")
        to.ask("WAIT", 1, 10_000)
    for n, cursor in enumerate(cursors):
        for page in after(store, held, cursor):
            assert (page.reset, [event.id for event in page.events]) == (None, cursors[n + 1 :])
    assert ids(store, held)[-len(cursors) :] == cursors


@pytest.mark.parametrize("loses", [False, True], ids=["nothing", "its last second"])
def test_a_server_that_is_killed_and_comes_back_has_lost(servers: Servers, loses: bool) -> None:
    server = servers.start("one", "appendfsync always")
    store = servers.store(server)
    held = begin(store)
    kept = say(store, held, 1)
    files = servers.directory / "one" / "appendonlydir"
    shutil.copytree(files, servers.directory / "copy")
    cursor = say(store, held, 2)
    server.kill()
    if loses:
        shutil.rmtree(files)
        (servers.directory / "copy").rename(files)
    files.rename(servers.directory / "appendonlydir")

    again = servers.start("two", f"dir {servers.directory}")
    store = servers.store(again)
    new = [say(store, held, batch) for batch in (3, 4)]
    assert cursor not in new
    expected = ("cursor_ahead", []) if loses else (None, new)
    for page in after(store, held, cursor):
        assert (page.reset, [event.id for event in page.events]) == expected
    assert [page.reset for page in after(store, held, kept)] == [None] * 4


def test_a_job_is_accepted_when_as_many_replicas_have_it_as_it_needs(servers: Servers) -> None:
    primary = servers.start("primary")
    replica = servers.replica_of(primary)
    store = servers.store(primary)
    new, once = NewJob("ann", "t", {}, "q", 1), ("key", "hash")
    assert store.create(new, replicas=1)[2]
    made, are_new = store.create_many([new, new], replicas=1)
    assert are_new

    def refused() -> None:
        with pytest.raises(TooFewReplicas, match="0 of 1 replicas"):
            store.create(new, once=once, replicas=1)

    # It stays connected, and takes nothing.
    replica.process.send_signal(signal.SIGSTOP)
    try:
        refused()
        # The job is there by now, and a new connection has written nothing.
        store.redis.connection_pool.disconnect()
        refused()
        with pytest.raises(TooFewReplicas):
            store.create_many([new], replicas=1)
    finally:
        replica.process.send_signal(signal.SIGCONT)
    job_id, _, is_new = store.create(new, once=once, replicas=1)
    assert not is_new
    replica.ask("REPLICAOF", "NO", "ONE")
    promoted = servers.store(replica)
    assert None not in promoted.documents([job_id, *(job_id for job_id, _ in made)])

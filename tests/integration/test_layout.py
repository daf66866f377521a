"""The layout of a store: what is written down at its first start, and what does not fit it."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import chain

import pytest

from headway.contract.database import Database
from headway.contract.keys import Keys
from headway.contract.layout import (
    INDEX,
    SLOTS,
    Layout,
    LayoutError,
    StoredLayout,
    by_hash,
    even_tags,
    slot_of,
)
from headway.contract.new_job import NewJob
from headway.contract.pauses import Subject
from headway.contract.settings import Settings
from headway.contract.store import JobStore
from service.process import valkey
from service.scheduling.keeper import Keeper, keeper_of
from tests.support.checkout import ROOT
from tests.support.stack import free_port

Open = Callable[..., JobStore]


@pytest.fixture
def opened(valkey_server: valkey.Valkey) -> Iterator[Open]:
    """Opens the one new store of a test as another process would."""
    prefix = f"test-{secrets.token_hex(4)}:"
    with ExitStack() as stack:

        def make(partitions: int | None = None) -> JobStore:
            store = JobStore.of(
                Settings(redis_url=valkey_server.url, key_prefix=prefix, partitions=partitions)
            )
            stack.callback(store.redis.close)
            return store

        yield make


def create(store: JobStore, owner: str) -> str:
    new = NewJob(owner=owner, type="t", params={}, queue="q", max_attempts=1)
    return store.create(new)[0]


def layout_of(store: JobStore) -> StoredLayout:
    layout = store.keys.layout
    assert isinstance(layout, StoredLayout)
    return layout


# -- tags ------------------------------------------------------------------------------------------


def test_a_keys_slot_is_that_of_redis(opened: Open) -> None:
    assert slot_of("123456789") == 0x31C3 % SLOTS  # the vector of the cluster's specification
    assert slot_of("a:{user1000}:b") == slot_of("user1000")
    assert slot_of("a{}{x}") == slot_of("a{}{x}".replace("{}", "{}")) != slot_of("x")


@pytest.mark.parametrize("nodes", [1, 2, 3, 5, 6, 12])
def test_partitions_spread_evenly_over_any_number_of_servers(nodes: int) -> None:
    for partitions in (64, 256):
        on = Counter(slot_of(f"{{{tag}}}") * nodes // SLOTS for tag in even_tags()[:partitions])
        assert max(on.values()) - min(on[n] for n in range(nodes)) <= 1


# -- the first start, and the next ---------------------------------------------------------------


def test_a_new_store_is_written_down_with_64_partitions_and_taken_as_it_is(opened: Open) -> None:
    first = opened()
    assert first.keys.partitions == 64
    owners = [f"owner{n}" for n in range(20)]
    jobs = {owner: create(first, owner) for owner in owners}
    assert len({first.keys.partition(owner) for owner in owners}) > 8
    second = opened()
    for owner, job_id in jobs.items():
        assert second.get(job_id) is not None
        assert [page.id for page in second.listings.page(owner)[0]] == [job_id]


def test_the_number_grows_for_new_owners_and_old_ones_stay(opened: Open) -> None:
    before = opened(2)
    jobs = {owner: create(before, owner) for owner in ("ann", "bob", "cid")}
    grown = opened(128)
    for owner, job_id in jobs.items():
        assert create(grown, owner).partition("-")[0] == job_id.partition("-")[0]
        assert len(grown.listings.page(owner)[0]) == 2
    late = [f"late{n}" for n in range(20)]
    assert max(grown.keys.partition(owner) for owner in late) >= 2
    for owner in late:
        job_id = create(grown, owner)
        assert before.get(job_id) is not None, "a process that knows fewer partitions finds it all the same"
        assert before.keys.partition(owner) == grown.keys.partition(owner)


def test_a_process_learns_of_new_partitions_while_it_keeps_its_share(opened: Open) -> None:
    store = opened(2)
    keeper = Keeper(store)
    keeper.renew()
    assert keeper.share == [0, 1]
    assert opened(5).keys.partitions == 5
    keeper.renew()
    assert keeper.share == [0, 1, 2, 3, 4]


def test_what_is_paused_is_so_in_partitions_that_are_added(opened: Open) -> None:
    before = opened(2)
    before.pauses.add(Subject("queue", "q"))
    before.pauses.add(Subject("type", "other"))
    before.pauses.end(Subject("type", "other"))
    grown = opened(64)
    Keeper(grown).renew()
    late = next(owner for n in range(100) if grown.keys.partition(owner := f"late{n}") >= 2)
    ref = grown.ref(create(grown, late))
    assert ref is not None
    assert grown.claim(ref, token="t", lease_s=9, worker="w") is None
    assert grown.pauses.end(Subject("queue", "q"))
    assert grown.claim(ref, token="t", lease_s=9, worker="w") is not None
    assert not any(
        grown.redis.exists(grown.keys.paused(partition)) for partition in range(grown.keys.partitions)
    )


def test_fewer_partitions_than_there_are_do_not_fit(opened: Open) -> None:
    assert opened(8).keys.partitions == 8
    with pytest.raises(LayoutError, match="PARTITIONS=4, but the store has 8"):
        _ = opened(4).keys.partitions


def test_a_newer_layout_does_not_fit(opened: Open) -> None:
    store = opened(8)
    assert store.keys.partitions == 8
    store.redis.hset(store.keys.layout_key, "version", "2")
    with pytest.raises(LayoutError, match="newer version"):
        _ = opened().keys.partitions


class _Older(Layout):
    """As before there was a layout: the tag is the number, the owner's partition its hash."""

    def tag(self, partition: int) -> str:
        return str(partition)


def older(store: JobStore, partitions: int) -> JobStore:
    return JobStore(Database(store.redis, Keys(store.keys.prefix, _Older(partitions))))


def test_a_store_from_before_there_was_a_layout_keeps_its_partition_and_its_jobs(opened: Open) -> None:
    job_id = create(older(opened(), 1), "local")
    store = opened()
    assert store.get(job_id) is not None
    assert layout_of(store).fields == {"partitions": 1, "tags": INDEX, "version": 1}
    assert [page.id for page in store.listings.page("local")[0]] == [job_id]
    with pytest.raises(LayoutError, match="older version has made the store with 1"):
        _ = opened(64).keys.partitions


def test_a_store_from_before_with_more_partitions_needs_to_be_told_how_many(opened: Open) -> None:
    jobs = {owner: create(older(opened(), 16), owner) for owner in ("ann", "bob", "cid")}
    most = max(by_hash(owner, 16) for owner in jobs)
    with pytest.raises(LayoutError, match=f"at least {most + 1} partitions: set PARTITIONS"):
        _ = opened().keys.partitions
    store = opened(16)
    for owner, job_id in jobs.items():
        assert [page.id for page in store.listings.page(owner)[0]] == [job_id]


@pytest.mark.parametrize("command", [("-m", "service", "web"), ("-m", "worker")], ids=["web", "worker"])
def test_a_setting_that_does_not_fit_is_one_line_and_exit_2(
    opened: Open, valkey_server: valkey.Valkey, command: tuple[str, ...]
) -> None:
    store = opened(8)
    assert store.keys.partitions == 8
    environ = {
        **os.environ,
        "REDIS_URL": valkey_server.url,
        "KEY_PREFIX": store.keys.prefix,
        "PARTITIONS": "4",
        "PORT": str(free_port()),
    }
    ended = subprocess.run(
        [sys.executable, *command], env=environ, cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert (ended.returncode, ended.stderr.count("\n")) == (2, 1), ended.stderr
    assert ended.stderr.startswith("headway: PARTITIONS=4, but the store has 8")


# -- who looks after which partition -------------------------------------------------------------


def test_web_processes_share_the_partitions_and_one_that_goes_leaves_its_own(opened: Open) -> None:
    store = opened(64)
    keepers = [Keeper(store) for _ in range(3)]
    assert all(keeper.share == list(range(64)) for keeper in keepers), "without an answer, each keeps all"
    for keeper in keepers * 2:
        keeper.renew()
    shares = [keeper.share for keeper in keepers]
    assert sorted(chain(*shares)) == list(range(64))
    assert all(len(share) > 5 for share in shares)
    keepers[0].stop()
    for keeper in keepers:
        keeper.renew()
    left = [keeper.share for keeper in keepers[1:]]
    assert sorted(chain(*left)) == list(range(64))
    assert all(set(before) <= set(after) for before, after in zip(shares[1:], left, strict=True))


def test_what_a_store_has_lost_of_its_layout_is_written_again(opened: Open) -> None:
    store = opened(8)
    keeper = Keeper(store)
    keeper.renew()
    store.redis.delete(store.keys.layout_key)
    keeper.renew()
    assert opened().keys.partitions == 8


def test_a_partition_has_one_keeper_however_the_processes_are_ordered() -> None:
    processes = frozenset(f"host:{n}:x" for n in range(10))
    kept = Counter(keeper_of(p, processes) for p in range(1000))
    assert len(kept) == 10
    assert max(kept.values()) < 160

"""Outcomes: each job is counted once, by type, however it ends; and what /metrics shows of the store."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from headway.contract.new_job import NewJob
from headway.contract.outcomes import BUCKETS_S
from headway.contract.states import State
from headway.contract.store import Claim, JobStore
from service.scheduling.store_metrics import StoreMetrics
from tests.support.clocked_store import ClockedStore
from tests.support.manual_jobs import running_by_hand
from tests.support.stack import Stack


def create(store: JobStore, type: str = "t", owner: str = "ann", **more: Any) -> str:
    fields = {"owner": owner, "type": type, "params": {}, "queue": "q", "max_attempts": 2}
    return store.create(NewJob(**{**fields, **more}))[0]


def claim(store: JobStore, job_id: str, token: str = "1") -> Claim:
    ref = store.ref(job_id)
    assert ref is not None
    claim = store.claim(ref, token=token, lease_s=12, worker="w")
    assert claim is not None
    return claim


def test_a_job_is_counted_when_it_starts_and_when_it_ends(clocked: ClockedStore) -> None:
    job_id = create(clocked)
    clocked.advance(5)
    held = claim(clocked, job_id)
    clocked.advance(70)
    clocked.end(held, State.SUCCEEDED)
    clocked.end(held, State.SUCCEEDED)
    counted = clocked.outcomes.by_type()["t"]
    assert counted.attempts == 1
    assert counted.ended == {State.SUCCEEDED: 1}
    assert (counted.waited.buckets, counted.waited.total_s) == ({"10": 1}, 5.0)
    assert (counted.ran.buckets, counted.ran.total_s) == ({"600": 1}, 70.0)


def test_another_attempt_is_counted_and_its_job_has_waited_and_ended_once(clocked: ClockedStore) -> None:
    job_id = create(clocked)
    held = claim(clocked, job_id)
    clocked.advance(30)
    clocked.retry(held, delay_s=60, reason="again")
    clocked.advance(61)
    clocked.end(claim(clocked, job_id, "2"), State.FAILED)
    counted = clocked.outcomes.by_type()["t"]
    assert counted.attempts == 2
    assert counted.ended == {State.FAILED: 1}
    assert sum(counted.waited.buckets.values()) == 1
    assert (counted.ran.buckets, counted.ran.total_s) == ({"600": 1}, 91.0)


def test_a_job_that_never_ran_has_ended_and_took_no_time(clocked: ClockedStore) -> None:
    clocked.cancel(create(clocked))
    counted = clocked.outcomes.by_type()["t"]
    assert counted.attempts == 0
    assert counted.ended == {State.CANCELED: 1}
    assert not counted.waited.buckets
    assert not counted.ran.buckets


def test_waiting_for_its_time_is_no_waiting(clocked: ClockedStore) -> None:
    job_id = create(clocked, run_at_ms=clocked.now_ms + 3_600_000)
    clocked.advance(3602)
    claim(clocked, job_id)
    assert clocked.outcomes.by_type()["t"].waited.total_s == 2.0


def test_types_of_all_owners_are_counted_by_their_names_whatever_these_hold(store: JobStore) -> None:
    for owner in ("ann", "bob"):
        store.cancel(create(store, owner=owner, type='strange "type" ü'))
    assert store.outcomes.by_type()['strange "type" ü'].ended == {State.CANCELED: 2}


def test_types_without_end_are_counted_together(store: JobStore) -> None:
    key = store.keys.outcomes(store.keys.partition("ann"))
    store.redis.hset(key, mapping={f"failed t{n}": 1 for n in range(10_000)})
    store.cancel(create(store, type="one.too.many"))
    counted = store.outcomes.by_type()
    assert "one.too.many" not in counted
    assert counted["other"].ended == {State.CANCELED: 1}


def test_the_first_of_a_queue_is_the_one_that_could_begin_earliest(clocked: ClockedStore) -> None:
    create(clocked)
    clocked.advance(10)
    create(clocked)
    create(clocked, run_at_ms=clocked.now_ms + 1000)
    waiting = clocked.listings.waiting(["q", "empty"])
    assert (waiting["q"].jobs, waiting["q"].oldest_s) == (2, 10.0)
    assert (waiting["empty"].jobs, waiting["empty"].oldest_s) == (0, 0.0)


def test_prometheus_reads_what_is_shown_of_the_store(tmp_path: Path) -> None:
    with Stack(tmp_path, DRAIN_S="0") as stack:
        stack.start_web()
        stack.store.end(running_by_hand(stack), State.SUCCEEDED)
        text = stack.call("GET", "/metrics")[2].decode()
    samples = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert samples["headway_jobs_ended_total", "succeeded", "by.hand"] == 1
    assert samples["headway_job_attempts_total", "by.hand"] == 1
    assert samples["headway_job_wait_seconds_count", "by.hand"] == 1
    assert samples["headway_job_duration_seconds_bucket", "+Inf", "by.hand"] == 1
    assert samples["headway_store_memory_bytes",] > 0
    assert samples["headway_store_replicas",] == 0
    assert samples["headway_store_replica_behind_bytes",] == 0


@pytest.mark.parametrize("which", ["waited", "ran"])
def test_the_buckets_are_those_of_the_scripts(store: JobStore, which: str) -> None:
    source = str(store.database.scripts["end"].script)
    spelled = source.partition("BUCKETS = {")[2].partition("}")[0].split(", ")
    assert (*spelled, "+Inf") == BUCKETS_S
    assert which in source


def test_nothing_is_shown_of_an_empty_store_but_that_it_is_empty(store: JobStore) -> None:
    shown = {family.name: family.samples for family in StoreMetrics.read(store).collect()}
    assert shown["headway_workers"][0].value == 0
    assert shown["headway_jobs_ended"] == []

"""A store on a real cluster of three, with owners in all its parts."""

from __future__ import annotations

import contextlib
import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from headway.contract.events import ZERO
from headway.contract.layout import slot_of
from headway.contract.new_job import NewJob
from headway.contract.settings import load
from headway.contract.states import State
from headway.contract.store import Claim, JobStore, Report
from service.streaming.hub import Hub
from tests.support.redis_cluster import Server, ValkeyCluster
from tests.support.sse import Reader
from tests.support.stack import Stack
from tests.support.wait import until

OWNERS = [f"owner{n}" for n in range(12)]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyCluster]:
    cluster = ValkeyCluster(tmp_path_factory.mktemp("cluster"), replicas=True)
    yield cluster
    cluster.close()


@pytest.fixture(scope="module")
def stack(cluster: ValkeyCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Web and worker on the cluster; Celery's messages on a server of their own."""
    with Stack(tmp_path_factory.mktemp("stack"), HEARTBEAT_S="1", DRAIN_S="0", PARTITIONS="64") as stack:
        broker = stack.environ["REDIS_URL"]
        stack.environ.update(REDIS_URL=cluster.url, CELERY_BROKER_URL=broker)
        stack.use_store()
        stack.start_web()
        stack.start_worker()
        yield stack


@pytest.fixture(scope="module")
def store(stack: Stack) -> JobStore:
    return stack.store


def create(store: JobStore, owner: str, **more: object) -> str:
    new = NewJob(owner=owner, type="t", params={}, queue="q", max_attempts=2, **more)  # type: ignore[arg-type]
    return store.create(new)[0]


def claim(store: JobStore, job_id: str) -> Claim:
    ref = store.ref(job_id)
    assert ref is not None
    found = store.claim(ref, token="t", lease_s=60, worker="w")
    assert found is not None
    return found


def server_of(cluster: ValkeyCluster, store: JobStore, job_id: str) -> Server:
    return cluster.server_of(slot_of(store.keys.job(job_id)))


def test_twelve_owners_do_all_that_there_is_on_all_three_servers(
    cluster: ValkeyCluster, store: JobStore
) -> None:
    jobs = {owner: create(store, owner, group="g") for owner in OWNERS}
    assert {server_of(cluster, store, job_id).port for job_id in jobs.values()} == {
        server.port for server in cluster.servers[:3]
    }
    for owner, job_id in jobs.items():
        assert store.webhooks.put(owner, "hook", "https://example.org/", ["end"]) is not None
        other = create(store, owner)
        held = claim(store, job_id)
        assert not store.renew(held, lease_s=60)
        store.append(held, 1, [Report("log", '{"level":"info","message":"x"}')])
        assert [page.id for page in store.listings.page(owner)[0]] == [other, job_id]
        assert [page.id for page in store.listings.page(owner, group="g")[0]] == [job_id]
        assert [running.id for running in store.listings.running(owner)] == [job_id]
        assert len(store.feeds.snapshot(owner, None).jobs) == 2
        assert len(store.feeds.read(owner, "g", ZERO, 100).events) == 3
        assert store.groups.get(owner, "g") is not None
        store.end(held, State.SUCCEEDED)
        assert store.cancel(other) is not None
        again = create(store, owner, retry_of=job_id)
        assert [e.type for e in store.last_events([job_id, again]) if e] == ["end", "state"]
    everything = [(job_id, ZERO) for job_id in jobs.values()]
    assert [page and page.ended for page in store.read_jobs(everything, 10)] == [True] * 12
    assert all(store.feeds.last_ids([store.keys.feed(owner) for owner in OWNERS]))
    assert store.listings.queue_depths(["q"])["q"] == 12
    partitions = range(store.keys.partitions)
    assert not any(
        isinstance(look, Exception) for look in store.alarms.look(partitions, silence_s=3, grace_s=3)
    )
    for owner in OWNERS:
        assert store.groups.cancel(owner, "g") == 0
        assert [hook.name for hook in store.webhooks.all(owner)] == ["hook"]


def test_a_job_runs_on_a_cluster_and_is_watched(stack: Stack) -> None:
    job = stack.submit("simulate", {"duration_s": 0.5}, group="seen")
    with Reader(stack.url, f"/jobs/{job['id']}/events", "0") as reader:
        assert reader.until_end()[-1].data["state"] == "succeeded"
    assert stack.get("/jobs")[1]["items"][0]["id"] == job["id"]
    assert stack.get("/groups/seen")[0] == 200
    assert stack.get("/workers")[0] == 200


def test_a_stream_goes_on_while_its_slot_moves_to_another_server(
    cluster: ValkeyCluster, stack: Stack
) -> None:
    job_id = stack.submit("simulate", {"duration_s": 6, "rate": 20, "log_every": 4})["id"]
    slot = slot_of(stack.store.keys.job(job_id))
    source = cluster.server_of(slot)
    target = next(server for server in cluster.servers[:3] if server is not source)
    with Reader(stack.url, f"/jobs/{job_id}/events", "0") as reader:
        seen = reader.take(10)
        cluster.move(slot, source, target)
        seen += reader.until_end()
    assert seen[-1].event == "end"
    assert "reset" not in [event.event for event in seen]
    logs = [event.id for event in seen if event.event == "log"]
    page = stack.store.read(job_id, ZERO, 10_000)
    assert page is not None
    assert logs == [str(event.id) for event in page.events if event.type == "log"]
    assert stack.wait_ended(job_id)["attempt"] == 1
    cluster.move(slot, target, source)


class Standing:
    """A watcher that does nothing."""

    def __init__(self, topic: str) -> None:
        self.topics = (topic,)
        self.generation = -1

    def notify(self) -> None:
        pass


def test_a_primary_that_is_killed_puts_only_its_own_readers_behind(
    cluster: ValkeyCluster, stack: Stack
) -> None:
    store = JobStore.of(load(stack.environ))
    jobs = {server_of(cluster, store, job_id).port: job_id for job_id in (create(store, o) for o in OWNERS)}
    hub = Hub(store)
    watchers = {port: Standing(store.keys.events(job_id)) for port, job_id in jobs.items()}
    for watcher in watchers.values():
        hub.join(watcher)
    hub.start()
    until(lambda: all(hub.ready(watcher) is not None for watcher in watchers.values()))
    before = {port: hub.ready(watcher) for port, watcher in watchers.items()}

    victim = cluster.servers[2]
    victim.kill()
    until(lambda: hub.ready(watchers[victim.port]) != before[victim.port], 10, "its readers to be behind")
    for port in jobs.keys() - {victim.port}:
        began = time.monotonic()
        assert store.get(jobs[port]) is not None
        assert time.monotonic() - began < 1
    assert stack.get("/readyz")[0] == 200, "the others' readers and jobs go on"

    until(lambda: hub.ready(watchers[victim.port]) is not None, 20, "the replica to take over")
    for port in jobs.keys() - {victim.port}:
        assert hub.ready(watchers[port]) == before[port], "the others noticed nothing"
    assert store.get(jobs[victim.port]) is not None
    store.end(claim(store, jobs[victim.port]), State.SUCCEEDED)
    until(lambda: hub.topic(watchers[victim.port].topics[0]).last is not None, 10, "the end to be heard")


def test_a_primary_that_is_silent_holds_up_neither_the_jobs_of_the_others_nor_readiness(
    tmp_path: Path,
) -> None:
    cluster = ValkeyCluster(tmp_path / "cluster")
    silent = cluster.servers[0]
    settings = {"DRAIN_S": "0", "PARTITIONS": "64", "LEASE_S": "2", "AUTH": "none"}
    with Stack(tmp_path, **settings) as stack, contextlib.closing(cluster):
        broker = stack.environ["REDIS_URL"]
        stack.environ.update(REDIS_URL=cluster.url, CELERY_BROKER_URL=broker)
        stack.use_store()
        described = {"name": "t", "title": "T", "queue": "q", "params": {}, "max_attempts": None}
        stack.store.registry.register("worker", {"t": json.dumps(described)}, 3600)
        stack.start_web()
        assert server_of(cluster, stack.store, stack.submit("t", {})["id"]) is not silent
        job_id = next(
            job_id
            for job_id in (create(stack.store, owner) for owner in OWNERS)
            if server_of(cluster, stack.store, job_id) is not silent
        )
        stack.store.end(claim(stack.store, create(stack.store, OWNERS[0])), State.SUCCEEDED)
        assert stack.metric("headway_jobs_ended_total") == 1
        assert stack.metric("headway_store_memory_bytes") > 0
        silent.process.send_signal(signal.SIGSTOP)
        ref = stack.store.ref(job_id)
        assert ref is not None
        assert stack.store.claim(ref, token="t", lease_s=1, worker="lost")
        until(lambda: stack.store.waiting([(job_id, "")]), 20, "its alarm to find that the worker was lost")
        until(lambda: stack.get("/readyz")[0] == 200, what="another server to be asked")
        for _ in range(8):
            assert stack.get("/readyz")[0] == 200, stack.call("GET", "/readyz")
            time.sleep(0.25)
        # It is the server of {types}, too.
        status, _, body = stack.call("POST", "/jobs", {"type": "t", "params": {}})
        assert status == 202, "a type that is known can be submitted"
        assert stack.metric("headway_jobs_ended_total") == 1, "counters go on with what is known"
        assert stack.metric("headway_job_attempts_total") == 2, "what other servers count is new"
        assert stack.metric("headway_store_memory_bytes") == 0, "as HeadwayStoreUnreachable expects"
        status, waiting = stack.get(f"/jobs/{json.loads(body)['id']}")
        assert (status, waiting["state"]) == (200, "queued")
        assert "cannot be looked up" in waiting["waiting_reason"]
        assert stack.get("/jobs")[0] == 200

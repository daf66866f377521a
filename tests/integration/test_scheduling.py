"""The loops of the web process: what the broker, the disk and a broken job may not hold up."""

from __future__ import annotations

import base64
import json
import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis

from headway.contract.local_files import LocalFiles
from headway.contract.settings import load
from headway.contract.states import State
from headway.contract.store import JobStore
from service.process import valkey
from service.scheduling.alarms import PAGE, AlarmLoop
from service.scheduling.dispatch import AT_ONCE, MAX_PENDING, Dispatch
from service.scheduling.keeper import Keeper
from service.scheduling.sweeper import Sweeper
from tests.support.checkout import ROOT
from tests.support.fake_worker import claim, create
from tests.support.faulty_proxy import FaultyProxy
from tests.support.stack import Stack, free_port
from tests.support.wait import until

TYPE = {"name": "t", "title": "T", "queue": "nobody", "params": {"type": "object"}, "max_attempts": None}


@contextmanager
def web_with_broker(directory: Path, port: int) -> Iterator[Stack]:
    with ExitStack() as opened:
        stack = opened.enter_context(Stack(directory, CELERY_BROKER_URL=f"redis://127.0.0.1:{port}/0"))
        stack.store.registry.register("worker", {"t": json.dumps(TYPE)}, 3600)
        stack.start_web()
        yield stack


def make_due(store: JobStore, job_id: str) -> None:
    store.redis.zadd(store.keys.alarms(0), {job_id: 1})


def lose_worker(store: JobStore, job_id: str) -> None:
    """Its lease is over."""
    claim(store, job_id)
    store.redis.hset(store.keys.job(job_id), "_lease", 1)
    make_due(store, job_id)


@pytest.mark.parametrize("backlog", [None, 1], ids=["refuses", "hangs"])
def test_without_its_broker_the_service_takes_jobs_and_answers_alarms_in_time(
    tmp_path: Path, backlog: int | None
) -> None:
    with socket.socket() as dead:
        dead.bind(("127.0.0.1", 0))
        if backlog is not None:
            dead.listen(backlog)  # and nobody accepts
        with web_with_broker(tmp_path, dead.getsockname()[1]) as stack:
            waiting = [create(stack.store, max_attempts=3) for _ in range(40)]
            for job_id in waiting:
                make_due(stack.store, job_id)
            began = time.monotonic()
            for _ in range(10):
                stack.submit("t", {})
            assert time.monotonic() - began < 5, "ten submissions; one that waits for the broker takes two"
            lost, late, canceled = (create(stack.store) for _ in range(3))
            lose_worker(stack.store, lost)
            stack.store.redis.hset(stack.store.keys.job(late), "_deadline", 1)
            make_due(stack.store, late)
            stack.store.cancel(claim(stack.store, canceled).ref.id)
            stack.store.redis.hset(stack.store.keys.job(canceled), "_lease", 1)
            make_due(stack.store, canceled)
            began = time.monotonic()
            ends = [stack.wait_ended(job_id, 60)["error"]["code"] for job_id in (lost, late, canceled)]
            assert ends == ["worker_lost", "timeout", "canceled"]
            assert time.monotonic() - began < 5
            until(lambda: stack.log("web").count("the broker cannot be reached") == 1)


def test_messages_wait_for_the_broker_and_are_sent_as_soon_as_it_is_back(tmp_path: Path) -> None:
    port = free_port()
    broker = valkey.start(tmp_path / "broker", port=port)
    try:
        with FaultyProxy(port) as network, web_with_broker(tmp_path, network.port) as stack:
            network.stall()
            network.cut()
            job_ids = {stack.submit("t", {})["id"] for _ in range(5)}
            until(lambda: "the broker cannot be reached" in stack.log("web"))
            network.resume()

            def sent() -> set[str]:
                raw = server.lrange("headway:nobody", 0, -1)
                return {job_id for job_id in job_ids if any(job_id.encode() in _body(m) for m in raw)}

            server = redis.Redis.from_url(broker.url)
            # Their alarms would take ten seconds.
            until(lambda: sent() == job_ids, 8, lambda: f"messages: {stack.log('web')}")
            server.close()
    finally:
        broker.stop()


def _body(message: bytes) -> bytes:
    return base64.b64decode(json.loads(message)["body"])


def test_many_messages_are_one_round_trip_and_what_celery_would_send(
    valkey_server: valkey.Valkey,
) -> None:
    prefix = f"test-{secrets.token_hex(4)}:"
    settings = load({"REDIS_URL": valkey_server.url, "KEY_PREFIX": prefix})
    dispatch = Dispatch(settings)
    job_ids = [f"0-{n:022}" for n in range(AT_ONCE)]
    for job_id in job_ids:
        dispatch.send(job_id, "t", "q")
    with redis.Redis.from_url(valkey_server.url) as client:
        client.lpush(f"{prefix}x", 1)
        before = client.info("commandstats")["cmdstat_lpush"]["calls"]
        reads = client.info("stats")["total_reads_processed"]
        assert dispatch.flush()
        # Connecting takes some too, and they come in pieces.
        assert client.info("stats")["total_reads_processed"] - reads < AT_ONCE / 2
        assert client.info("commandstats")["cmdstat_lpush"]["calls"] - before == AT_ONCE
        ours = [json.loads(text) for text in client.lrange(f"{prefix}q", 0, -1)]
        dispatch._app.send_task("t", args=[job_ids[0]], queue="q", ignore_result=True)
        theirs = json.loads(client.lindex(f"{prefix}q", 0))
    assert [json.loads(base64.b64decode(message["body"]))[0] for message in ours] == [
        [job_id] for job_id in reversed(job_ids)
    ]
    assert len({message["headers"]["id"] for message in ours}) == AT_ONCE
    mine = ours[-1]
    for message in (mine, theirs):
        for part in ("headers", "properties"):
            for name in ("id", "root_id", "correlation_id", "delivery_tag", "reply_to"):
                message[part].pop(name, None)
    assert mine == theirs


def test_only_so_many_messages_are_kept_for_a_broker_that_is_away(valkey_server: valkey.Valkey) -> None:
    dispatch = Dispatch(
        load({"REDIS_URL": valkey_server.url, "CELERY_BROKER_URL": "redis://127.0.0.1:1/0"})
    )
    for n in range(MAX_PENDING + 10):
        dispatch.send(str(n), "t", "q")
        dispatch.send(str(n), "t", "q")
    assert len(dispatch._pending) == MAX_PENDING
    assert dispatch.flush() is False


def test_a_job_whose_alarm_cannot_be_answered_does_not_hold_up_the_others(
    store: JobStore, valkey_server: valkey.Valkey
) -> None:
    broken, sound = create(store), create(store)
    store.redis.delete(store.keys.job(broken))
    store.redis.set(store.keys.job(broken), "no hash")
    make_due(store, broken)
    lose_worker(store, sound)
    dispatch = Dispatch(load({"REDIS_URL": valkey_server.url, "KEY_PREFIX": store.keys.prefix}))
    AlarmLoop(store, Keeper(store), dispatch, lease_s=9).look()
    job = store.get(sound)
    assert job is not None
    assert job.state is State.FAILED
    assert store.alarms.due(0) == [], "it is not looked at again at once"
    assert store.redis.zscore(store.keys.alarms(0), broken) is not None


def test_the_alarms_of_jobs_that_wait_are_answered_together(
    store: JobStore, valkey_server: valkey.Valkey
) -> None:
    def reads() -> int:
        return int(store.redis.info("stats")["total_reads_processed"])  # type: ignore[index]

    waiting = [create(store) for _ in range(PAGE)]
    for job_id in waiting:
        make_due(store, job_id)
    dispatch = Dispatch(load({"REDIS_URL": valkey_server.url, "KEY_PREFIX": store.keys.prefix}))
    loop = AlarmLoop(store, Keeper(store), dispatch, lease_s=9)
    before = reads()
    loop.look()
    assert reads() - before < PAGE
    assert dispatch._pending.keys() == set(waiting)
    assert store.alarms.due(0) == []


def test_the_sweep_removes_a_jobs_files_with_the_job(store: JobStore, tmp_path: Path) -> None:
    kept, swept = create(store), create(store)
    for job_id in (kept, swept):
        store.end(claim(store, job_id), State.SUCCEEDED)
        (tmp_path / "artifacts" / job_id / "1").mkdir(parents=True)
    store.redis.zadd(store.keys.expiring(0), {swept: 1})
    Sweeper(store, Keeper(store), LocalFiles(tmp_path), upload_ttl_s=60).sweep_jobs()
    assert [path.name for path in (tmp_path / "artifacts").iterdir()] == [kept]
    assert store.get(swept) is None
    assert store.get(kept) is not None


def test_an_upload_goes_a_while_after_its_last_use_and_not_while_a_job_needs_it(
    store: JobStore, tmp_path: Path
) -> None:
    def upload(name: str, *, data_age_s: float = 100) -> Path:
        directory = tmp_path / "uploads" / name
        directory.mkdir(parents=True)
        for file in ("data", "meta.json"):
            (directory / file).write_bytes(b"x")
        ages = ((directory / "data", data_age_s), (directory / "meta.json", 100.0), (directory, 100.0))
        for path, age_s in ages:
            os.utime(path, (time.time() - age_s,) * 2)
        return directory

    unused, queued, ended, fresh = (upload(name) for name in ("unused", "queued", "ended", "fresh"))
    os.utime(fresh)
    coming, abandoned = upload(".a.partial", data_age_s=1), upload(".b.partial")
    create(store, params={"input": "upload:queued"})
    store.end(claim(store, create(store, params={"input": "upload:ended"})), State.SUCCEEDED)
    sweeper = Sweeper(store, Keeper(store), LocalFiles(tmp_path), upload_ttl_s=60)
    sweeper.sweep_uploads()
    assert set((tmp_path / "uploads").iterdir()) == {queued, fresh, coming}
    assert not any(path.exists() for path in (unused, ended, abandoned))
    assert time.time() - (queued / "meta.json").stat().st_mtime < 30, (
        "its time begins when no job needs it any more"
    )


SLOW_DISK = """
import gevent.monkey
gevent.monkey.patch_all()
import gevent
from service.scheduling.blocking import off_the_loop

slow = gevent.monkey.get_original("time", "sleep")
ticks = 0

def tick():
    global ticks
    while True:
        gevent.sleep(0.01)
        ticks += 1

gevent.spawn(tick)
off_the_loop(lambda: slow(1))
print(ticks)
"""


def test_a_slow_disk_does_not_stop_the_event_loop() -> None:
    ran: Any = subprocess.run(
        [sys.executable, "-c", SLOW_DISK], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    assert int(ran.stdout) > 10

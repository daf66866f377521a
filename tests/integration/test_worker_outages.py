"""A worker through messages that are no jobs, failovers and broken connections."""

from __future__ import annotations

import base64
import gzip
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis
from kombu import Connection

from headway.contract.new_job import NewJob
from headway.contract.states import State
from service.process import valkey
from tests.support.faulty_proxy import FaultyProxy
from tests.support.stack import free_port
from tests.support.wait import until
from tests.support.worker_stack import WorkerStack
from worker.broker import Transport, fault_of

NewStack = Callable[..., WorkerStack]


def message(body: Any, **headers: Any) -> bytes:
    """A message as Celery puts it on a queue."""
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    return json.dumps(
        {
            "body": base64.b64encode(text).decode(),
            "content-encoding": "utf-8",
            "content-type": "application/json",
            "headers": {"task": "simulate", "id": "x", **headers},
            "properties": {
                "delivery_info": {"exchange": "", "routing_key": "default"},
                "body_encoding": "base64",
                "delivery_tag": "p",
            },
        }
    ).encode()


BOMB = json.loads(message(gzip.compress(b"[" * 50_000_000), compression="application/x-gzip"))
POISON = {
    "empty body": b"",
    "no JSON": b"\xff\x00rubbish",
    "a JSON list": b"[]",
    "nested too deeply": b"[" * 100_000,
    "an empty list of arguments": message([]),
    "an empty text": message(b""),
    "unknown task": message([["x"], {}, {}], task="no.such"),
    "a task that is no text": message([["x"], {}, {}], task=["simulate"]),
    "wrong arguments": message([["x", "y"], {"z": 1}, {}]),
    "no id of a job": message([["../../etc/passwd"], {}, {}]),
    "without properties": json.dumps({"body": "", "headers": {"task": "simulate"}}).encode(),
    "compressed bomb": json.dumps(BOMB).encode(),
    "10 MB": message([["x" * 10_000_000], {}, {}]),
    "a time limit": message([["0-" + "x" * 22], {}, {}], timelimit=[0.001, 0.001]),
}


def messages_of(job_id: str) -> dict[str, bytes]:
    """Messages of a job that waits, each with something in it that Celery does not expect."""
    body = [[job_id], {}, {}]
    coded = json.loads(message(b"")) | {"body": json.dumps(body)}
    coded["properties"]["body_encoding"] = "rot13"
    return {
        "time limits that are none": message(body, timelimit=[None, None, None]),
        "one time limit": message(body, timelimit=[None]),
        "no options": message([[job_id], None, {}]),
        "ids that are no texts": message(body, root_id=["x"], parent_id={}, shadow=[], origin={}),
        "an unknown encoding": message(body).replace(b"utf-8", b"bogus"),
        "an unknown encoding of the body": json.dumps(coded).encode(),
    }


def test_a_channel_that_closes_gives_back_what_it_received_if_it_can(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server = valkey.start(tmp_path, port=free_port())
    client = redis.Redis.from_url(server.url)
    try:
        client.lpush("default", message([["0-" + "x" * 22], {}, {}]))
        # By class: kombu keeps what it once found by name.
        options = {"socket_timeout": 1}
        with Connection(server.url, transport=Transport, transport_options=options) as connection:
            channel = connection.channel()
            channel.queue_declare("default")
            assert channel.basic_get("default") is not None
            assert client.llen("default") == client.exists("unacked") == 0
            channel.close()
            (back,) = client.lrange("default", 0, -1)
            assert fault_of(json.loads(back), {"simulate"}) is None
            channel = connection.channel()
            assert channel.basic_get("default") is not None
            server.stop()
            channel.close()
        assert "EMERGENCY DUMP" not in caplog.text, "kombu would leave a file behind"
    finally:
        client.close()
        server.stop()


def test_messages_that_are_no_jobs_are_dropped_and_the_next_job_is_done_at_once(
    new_worker_stack: NewStack,
) -> None:
    stack = new_worker_stack()
    broker = redis.Redis.from_url(stack.valkey.url)
    for name, raw in POISON.items():
        broker.lpush("test:default", raw)
        job_id = stack.enqueue("simulate", duration_s=0)
        began = time.monotonic()
        assert stack.ended(job_id).state is State.SUCCEEDED, name
        assert time.monotonic() - began < 1, name
    for name in messages_of(""):
        job_id, *_ = stack.store.create(
            NewJob(
                owner="owner", type="simulate", params={"duration_s": 0}, queue="default", max_attempts=1
            )
        )
        broker.lpush("test:default", messages_of(job_id)[name])
        began = time.monotonic()
        assert stack.ended(job_id).state is State.SUCCEEDED, name
        assert time.monotonic() - began < 1, name
    assert stack.worker.poll() is None
    assert broker.llen("test:default") == 0
    assert broker.hlen("test:unacked") == 0, "none of them comes again"
    log = stack.log("worker")
    assert log.count("was dropped") >= 5
    for why in ("not JSON", "not a message of Celery", "not for a job type that this worker serves"):
        assert log.count(f"it is {why}") == 1, "each reason is logged once"
    until(lambda: stack.store.registry.workers()[0].dropped_messages >= 13, what="the count to be seen")
    broker.close()


def test_a_failover_of_redis_ends_no_worker_and_no_job(new_worker_stack: NewStack) -> None:
    stack = new_worker_stack(LEASE_S="20")
    admin = redis.Redis.from_url(stack.valkey.url)
    running = stack.enqueue("simulate", duration_s=6, rate=20)
    stack.running(running)
    pid = stack.worker.pid
    for _ in range(3):
        # As the old master after a failover: it answers READONLY.
        admin.execute_command("REPLICAOF", "127.0.0.1", "1")
        time.sleep(0.7)
        admin.execute_command("REPLICAOF", "NO", "ONE")
        time.sleep(0.3)
    job = stack.ended(running)
    assert (job.state, job.attempt) == (State.SUCCEEDED, 1)
    assert stack.ended(stack.enqueue("simulate", duration_s=0)).state is State.SUCCEEDED
    assert stack.worker.poll() is None
    assert stack.worker.pid == pid
    admin.close()


@pytest.mark.parametrize("error", ["ERROR", "TIMEOUT"])
def test_a_consumer_that_is_unblocked_goes_on(new_worker_stack: NewStack, error: str) -> None:
    stack = new_worker_stack()
    admin = redis.Redis.from_url(stack.valkey.url)
    for _ in range(3):

        def unblocked() -> bool:
            blocked = [c for c in admin.client_list() if c["cmd"] == "brpop" and "b" in c["flags"]]
            return any(admin.execute_command("CLIENT", "UNBLOCK", c["id"], error) for c in blocked)

        until(unblocked, what="the consumer to wait, and to be unblocked")
        assert stack.ended(stack.enqueue("simulate", duration_s=0)).state is State.SUCCEEDED
    assert stack.worker.poll() is None
    admin.close()


def test_a_connection_that_is_reset_again_and_again_ends_no_worker(new_worker_stack: NewStack) -> None:
    stack = new_worker_stack(LEASE_S="20")
    stack.stop("worker", seconds=10)
    with FaultyProxy(stack.valkey.port) as network:
        stack.environ["REDIS_URL"] = f"redis://127.0.0.1:{network.port}/0"
        stack.start_worker()
        running = stack.enqueue("simulate", duration_s=6, rate=20)
        stack.running(running)
        for _ in range(20):
            network.cut()
            time.sleep(0.2)
        assert (stack.ended(running).state, stack.job(running).attempt) == (State.SUCCEEDED, 1)
        assert stack.ended(stack.enqueue("simulate", duration_s=0)).state is State.SUCCEEDED
        assert stack.worker.poll() is None

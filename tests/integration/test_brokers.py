"""Brokers: RabbitMQ, also with TLS and when it is killed, and a Redis that a Sentinel knows."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import amqp.exceptions
import pytest
from kombu import Consumer, Producer, Queue
from kombu.transport import resolve_transport

import worker.broker
from headway.broker import connect, errors_of, waiting
from headway.contract.pauses import Subject
from headway.contract.settings import load
from service.process import valkey
from tests.integration.test_worker_drain import SHARED
from tests.support.checkout import ROOT
from tests.support.rabbitmq import RabbitMQ
from tests.support.stack import Stack, free_port
from tests.support.wait import until
from tests.unit.test_worker_broker import sent

pytestmark = pytest.mark.long


def settings(url: str, **environ: str) -> Any:
    return load({"REDIS_URL": "redis://127.0.0.1:1", "CELERY_BROKER_URL": url, **environ})


@pytest.fixture
def rabbit_stack(rabbitmq: RabbitMQ, tmp_path: Path) -> Iterator[Stack]:
    with Stack(tmp_path, CELERY_BROKER_URL=rabbitmq.url, LEASE_S="20", DRAIN_S="0") as stack:
        stack.start_web()
        stack.start_worker()
        yield stack


def test_all_jobs_end_in_their_first_attempt_when_rabbitmq_is_killed_with_their_messages(
    rabbitmq: RabbitMQ, rabbit_stack: Stack
) -> None:
    ids = [rabbit_stack.submit("simulate", {"duration_s": 2})["id"] for _ in range(6)]
    # RabbitMQ 3.10 itself forgets a quorum queue that was made in the second before it is killed.
    for job_id in ids[:2]:
        rabbit_stack.wait_ended(job_id)
    rabbitmq.kill()
    began = time.monotonic()
    ids.append(rabbit_stack.submit("simulate", {"duration_s": 0})["id"])
    assert time.monotonic() - began < 2, "a submission does not wait for the broker"
    assert rabbit_stack.get("/readyz")[0] == 200
    rabbitmq.start()
    ended = [rabbit_stack.wait_ended(job_id) for job_id in ids]
    assert {(job["state"], job["attempt"]) for job in ended} == {("succeeded", 1)}
    assert rabbit_stack.processes["worker"].poll() is None
    assert "headway.alarms" not in rabbit_stack.log("web"), "no look at the alarms has failed"

    # What the worker declared is a quorum queue: RabbitMQ refuses to take it for another.
    with (
        connect(settings(rabbitmq.url), timeout_s=5) as connection,
        connection.channel() as channel,
        pytest.raises(amqp.exceptions.PreconditionFailed, match="x-queue-type"),
    ):
        channel.queue_declare("default", durable=True, auto_delete=False)


def test_messages_that_are_no_jobs_are_dropped_and_the_next_job_is_done(
    rabbitmq: RabbitMQ, rabbit_stack: Stack
) -> None:
    headers = sent()["headers"]
    with connect(settings(rabbitmq.url), timeout_s=5) as connection:
        producer = Producer(connection, routing_key="default")
        producer.publish(b"\xff\x00rubbish", content_type="application/data", content_encoding="binary")
        producer.publish("[]", content_type="application/json", content_encoding="utf-8")
        producer.publish([["../../x"], {}, {}], serializer="json", headers=headers)
        producer.publish(
            [["0-" + "x" * 22], {}, {}], serializer="json", headers=headers, compression="gzip"
        )
        producer.publish("x", content_type="application/x-python-serialize", content_encoding="utf-16")
        job = rabbit_stack.submit("simulate", {"duration_s": 0})
        assert rabbit_stack.wait_ended(job["id"])["state"] == "succeeded"
        assert waiting(connection, "default") == 0
    registry = rabbit_stack.store.registry
    until(
        lambda: [w.dropped_messages for w in registry.workers()] == [5],
        10,
        lambda: f"the count to be seen: {registry.workers()} {rabbit_stack.log('worker')}",
    )
    assert rabbit_stack.processes["worker"].poll() is None


def test_what_waits_in_a_queue_is_counted(rabbitmq: RabbitMQ, tmp_path: Path) -> None:
    redis = valkey.start(tmp_path, port=free_port())
    try:
        for url in (rabbitmq.url, redis.url):
            with connect(settings(url), timeout_s=5) as connection:
                assert waiting(connection, "counted") == 0
                for _ in range(3):
                    Producer(connection).publish("x", routing_key="counted")
                assert waiting(connection, "counted") == 3, url
    finally:
        redis.stop()


def test_the_certificate_of_rabbitmq_is_checked_by_authority_and_by_name(rabbitmq: RabbitMQ) -> None:
    trusted = {"REDIS_CA_FILE": str(rabbitmq.certificate)}
    for url, environ, works in (
        (rabbitmq.tls_url, trusted, True),
        (rabbitmq.tls_url, {}, False),
        (rabbitmq.tls_url, {"REDIS_TLS_VERIFY": "0"}, True),
        (rabbitmq.tls_url.replace("127.0.0.1", "localhost"), trusted, False),
    ):
        with connect(settings(url, **environ), timeout_s=5) as connection:
            if works:
                assert waiting(connection, "nowhere") == 0
            else:
                with pytest.raises(errors_of(connection), match="certificate"):
                    connection.connect()


def test_a_job_goes_through_a_redis_that_a_sentinel_knows(tmp_path: Path) -> None:
    primary = valkey.start(tmp_path / "primary", port=free_port())
    port = free_port()
    config = tmp_path / "sentinel.conf"
    config.write_text(
        f"port {port}\nbind 127.0.0.1\ndir {tmp_path}\nsentinel monitor jobs 127.0.0.1 {primary.port} 1\n"
    )
    with (tmp_path / "sentinel.log").open("wb") as log:
        sentinel = subprocess.Popen([valkey.binary(), str(config), "--sentinel"], stdout=log, stderr=log)
    try:
        # One of the two is not there.
        url = f"sentinel://127.0.0.1:{free_port()},127.0.0.1:{port}/jobs/1"
        with Stack(tmp_path / "stack", CELERY_BROKER_URL=url, DRAIN_S="0") as stack:
            stack.start_web()
            stack.start_worker()
            job = stack.submit("simulate", {"duration_s": 0})
            assert stack.wait_ended(job["id"])["state"] == "succeeded"
            with connect(load(stack.environ), timeout_s=5) as connection:
                assert waiting(connection, "nobody") == 0
                Producer(connection).publish("x", routing_key="nobody")
                assert waiting(connection, "nobody") == 1
    finally:
        sentinel.kill()
        sentinel.wait()
        primary.stop()


@pytest.mark.parametrize("scheme", ["amqp://u:s3cret@127.0.0.1:{port}", "sentinel://127.0.0.1:{port}/jobs"])
def test_a_worker_whose_broker_does_not_answer_says_so_in_one_line(
    scheme: str, valkey_server: valkey.Valkey
) -> None:
    port = free_port()
    environ = {"REDIS_URL": valkey_server.url, "CELERY_BROKER_URL": scheme.format(port=port)}
    ran = subprocess.run(
        [sys.executable, "-m", "worker"], cwd=ROOT, env=environ, capture_output=True, text=True, timeout=60
    )
    assert (ran.returncode, ran.stderr.count("\n")) == (2, 1), ran.stderr
    assert ran.stderr.startswith(f"headway: the broker does not answer at 127.0.0.1:{port}: ")


def test_celery_takes_our_transports() -> None:
    for scheme in ("redis", "rediss", "sentinel", "amqp", "amqps"):
        assert resolve_transport(scheme).__module__ == "worker.broker", scheme


def test_of_a_backlog_that_was_worked_off_many_messages_are_dropped_together(
    valkey_server: valkey.Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [f"0-{n:022}" for n in range(100)]
    still_wait = {ids[5], ids[7], ids[8], ids[60]}
    questions = 0

    def waiting_of(jobs: Sequence[tuple[str, str]]) -> set[str]:
        nonlocal questions
        questions += 1
        return still_wait.intersection(job for job, _ in jobs)

    monkeypatch.setattr(worker.broker, "served", worker.broker.Served())
    worker.broker.served.types = frozenset({"simulate"})
    worker.broker.served.waiting = waiting_of
    # A test before may have had kombu's own.
    monkeypatch.setattr("kombu.transport._transport_cache", {})
    queue, received = "backlog", list[str]()
    with connect(settings(valkey_server.url, KEY_PREFIX="stale-test:"), timeout_s=5) as connection:
        assert isinstance(connection.transport, worker.broker.Transport)
        channel = connection.default_channel
        for job_id in ids:
            channel._put(queue, sent(job_id))
        channel._put(queue, {"rubbish": True})

        def receive(body: Any, message: Any) -> None:
            received.append(body[0][0])
            message.ack()

        with Consumer(channel, queues=[Queue(queue)], callbacks=[receive], accept=["json"]):
            until(lambda: len(received) == 4 or connection.drain_events(timeout=5), what="all that wait")
            until(
                lambda: not channel._size(queue) or connection.drain_events(timeout=5),
                what="the last of them",
            )
    assert received == sorted(still_wait), "in their order, and each once"
    assert questions < 20


def test_a_worker_that_drains_leaves_messages_at_rabbitmq_and_takes_them_later(
    rabbitmq: RabbitMQ, rabbit_stack: Stack
) -> None:
    (worker,) = rabbit_stack.store.registry.workers()
    rabbit_stack.store.pauses.add(Subject("worker", worker.name))
    until(lambda: "draining" in rabbit_stack.log("worker"), what="the worker to know of it")
    jobs = [rabbit_stack.submit("simulate", {"duration_s": 0})["id"] for _ in range(4)]
    with connect(settings(rabbitmq.url), timeout_s=5) as connection:
        until(lambda: waiting(connection, "default") >= len(jobs), what="the messages to stay there")
    assert {rabbit_stack.document(job_id)["state"] for job_id in jobs} == {"queued"}
    rabbit_stack.store.pauses.end(Subject("worker", worker.name))
    assert {rabbit_stack.wait_ended(job_id)["attempt"] for job_id in jobs} == {1}


def test_two_workers_share_a_queue_of_rabbitmq_by_types(rabbitmq: RabbitMQ, tmp_path: Path) -> None:
    with Stack(tmp_path, CELERY_BROKER_URL=rabbitmq.url, WORKER_CONCURRENCY="1") as stack:
        stack.start_web()
        for name in ("shared.a", "shared.b"):
            stack.environ["TYPES"] = name
            stack.start_worker("-c", SHARED)
            stack.processes[name] = stack.processes.pop("worker")
        jobs = [stack.submit(name, {})["id"] for _ in range(4) for name in ("shared.a", "shared.b")]
        assert {stack.wait_ended(job_id)["attempt"] for job_id in jobs} == {1}
        assert not any(worker.dropped_messages for worker in stack.store.registry.workers())
        assert "sending its message again" not in stack.log("web"), "what is passed on arrives"

"""Which messages are jobs."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from typing import Any

import pytest
from celery import Celery

from headway.contract.settings import load
from worker import broker
from worker.broker import fault_of
from worker.hints import Hints

TYPES = {"simulate"}
JOB = "0-" + "x" * 22


def sent(job_id: str = JOB) -> dict[str, Any]:
    """A message as the service sends it."""
    app = Celery("test", broker="memory://", set_as_current=False)
    app.conf.update(task_ignore_result=True, task_serializer="json")
    caught: list[dict[str, Any]] = []
    with app.connection_for_write() as connection:
        channel = connection.default_channel
        channel._put = lambda queue, message, **_: caught.append(message)
        with app.amqp.Producer(channel) as producer:
            app.send_task("simulate", args=[job_id], queue="q", producer=producer)
    (message,) = caught
    return json.loads(json.dumps(message))


def body(text: bytes) -> dict[str, Any]:
    return {**sent(), "body": base64.b64encode(text).decode()}


def arguments(*found: Any) -> dict[str, Any]:
    return body(json.dumps(found).encode())


def headed(**headers: Any) -> dict[str, Any]:
    message = sent()
    message["headers"].update(headers)
    return message


def test_what_the_service_sends_is_a_job() -> None:
    assert fault_of(sent(), TYPES) is None


def test_a_job_of_a_type_that_is_not_served_is_none() -> None:
    assert fault_of(sent(), {"other"}) is not None


@pytest.mark.parametrize(
    "message",
    [
        None,
        [],
        "text",
        {},
        {**sent(), "headers": None},
        {**sent(), "properties": []},
        {**sent(), "properties": {**sent()["properties"], "delivery_info": None}},
        {**sent(), "properties": {**sent()["properties"], "delivery_tag": ["x"]}},
        {**sent(), "body": None},
        {**sent(), "body": 7},
        {**sent(), "body": "not base64!"},
        {**sent(), "content-type": "application/x-python-serialize"},
        body(b""),
        body(b"\xff"),
        body(b"[" * 3000),
        body(json.dumps([[JOB], {}, {}]).encode() + b" " * 4096),
        arguments(),
        arguments([JOB], {}),
        arguments([JOB], {"more": 1}, {}),
        arguments([JOB, JOB], {}, {}),
        arguments([["nested"]], {}, {}),
        arguments(["../../x"], {}, {}),
        arguments(JOB, {}, {}),
        arguments([JOB], {}, {"chain": [{"task": "simulate"}]}),
        arguments([JOB], {}, []),
        headed(compression="application/x-gzip"),
        headed(task=["simulate"]),
        headed(task=None),
        headed(id=None),
        headed(eta="2026-11-25T00:00:00"),
        headed(timelimit=[0.1, 0.1]),
        headed(timelimit=7),
        headed(retries=3),
        headed(padding="x" * 10_000),
    ],
)
def test_anything_else_is_not(message: Any) -> None:
    assert fault_of(message, TYPES) is not None


def test_of_what_else_is_in_the_message_of_a_job_nothing_is_left() -> None:
    usual = broker.remade(sent())
    assert fault_of(usual, TYPES) is None
    assert broker.job_of(usual) == (JOB, "simulate")
    odd = headed(timelimit=[None], root_id=["x"], id=usual["headers"]["id"])
    odd["content-encoding"] = "bogus"
    odd["properties"] |= {"priority": [], "delivery_tag": usual["properties"]["delivery_tag"]}
    assert fault_of(odd, TYPES) is None
    assert broker.remade(odd) == usual


def test_a_message_of_a_job_that_does_not_wait_any_more_is_stale(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str]] = []

    def waiting(jobs: Sequence[tuple[str, str]]) -> Sequence[str]:
        asked.extend(jobs)
        return [JOB] if len(asked) > 1 else []

    monkeypatch.setattr(broker.served, "waiting", waiting)
    assert broker.is_stale(sent())
    assert not broker.is_stale(sent())
    assert asked == [(JOB, "simulate")] * 2


def test_whether_a_store_is_away_or_not_known_the_message_counts() -> None:
    hints = Hints(load({"REDIS_URL": "redis://127.0.0.1:1/0"}), {"simulate": "default"})
    assert hints.waiting([(JOB, "simulate")]) == [JOB]
    assert hints.waiting([(JOB, "simulate")]) == [JOB]

"""Messages: to a job over HTTP, from its task by the SDK; the same rules for both."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from headway.contract.encoding import RecordError, RecordTooLarge
from headway.contract.events import ZERO
from headway.contract.messages import MAX_UNREAD, ONCE_S, TooManyMessages
from headway.contract.new_job import NewJob
from headway.contract.records import Job as JobRecord
from headway.contract.states import State
from headway.contract.store import JobStore
from headway.sdk import reporter
from headway.sdk.job import Job
from headway.sdk.job_type import JobType, Params
from headway.sdk.retry import Retry
from headway.sdk.runtime import Runtime
from tests.support.clocked_store import ClockedStore
from tests.support.manual_jobs import running_by_hand
from tests.support.sse import Reader
from tests.support.stack import Stack
from tests.support.wait import until

Task = Callable[[Job[Params]], Any]
NEW = NewJob(owner="local", type="test", params={}, queue="none", max_attempts=2)


@contextmanager
def doing(store: JobStore, task: Task, data_dir: Path) -> Iterator[str]:
    """The task runs in a thread until it ends."""
    job_id = store.create(NEW)[0]
    runtime = Runtime(store, worker="test", data_dir=data_dir, lease_s=12)
    job_type = JobType("test", "Test", "none", Params, None, task, Retry(first_s=0))

    def run() -> None:
        runtime.run(job_type, job_id)
        if ended(store, job_id).state is State.RETRYING:
            runtime.run(job_type, job_id)

    thread = threading.Thread(target=run)
    thread.start()
    yield job_id
    thread.join(60)
    assert not thread.is_alive()


def ended(store: JobStore, job_id: str) -> JobRecord:
    job = store.get(job_id)
    assert job is not None
    return job


def said(store: JobStore, job_id: str) -> list[dict[str, Any]]:
    page = store.read(job_id, ZERO, 10_000)
    assert page is not None
    return [json.loads(event.data) for event in page.events if event.type == "message"]


def post(stack: Stack, job_id: str, body: Any, **headers: str) -> tuple[int, dict[str, Any]]:
    status, _, answer = stack.call("POST", f"/jobs/{job_id}/messages", body, headers)
    return status, json.loads(answer)


# -- over HTTP -----------------------------------------------------------------------------------------


def test_a_message_is_an_event_in_order_with_all_others(stack: Stack) -> None:
    claim = running_by_hand(stack)
    data = {"text": "ja\u2028\n"}
    with Reader(stack.url, f"/jobs/{claim.ref.id}/events") as reader:
        reader.take(1)
        status, event = post(stack, claim.ref.id, {"name": "answer", "data": data})
        stack.store.end(claim, State.SUCCEEDED)
        seen = reader.take(2)
    assert status == 201
    assert [e.event for e in seen] == ["message", "end"]
    assert (seen[0].id, seen[0].data) == (event["id"], event["data"])
    assert {k: event["data"][k] for k in ("job", "attempt", "from", "name", "data")} == {
        "job": claim.ref.id, "attempt": 1, "from": "client", "name": "answer", "data": data,
    }  # fmt: skip
    assert stack.document(claim.ref.id)["state"] == "succeeded"


def test_the_same_key_sends_one_message(stack: Stack) -> None:
    job_id, other = running_by_hand(stack).ref.id, running_by_hand(stack).ref.id
    key = {"Idempotency-Key": "k"}
    first = post(stack, job_id, {"name": "n", "data": {"a": 1, "b": 2}}, **key)
    assert first[0] == 201
    assert post(stack, job_id, {"data": {"b": 2, "a": 1}, "name": "n"}, **key) == (200, first[1])
    status, problem = post(stack, job_id, {"name": "n", "data": 3}, **key)
    assert (status, "Idempotency-Key" in problem["detail"]) == (422, True)
    assert post(stack, other, {"name": "n"}, **key)[0] == 201, "a key is one job's"
    assert len(said(stack.store, job_id)) == 1
    stack.store.cancel(job_id)


def test_an_ended_job_gets_no_message_and_repeats_what_it_answered(stack: Stack) -> None:
    claim = running_by_hand(stack)
    sent = post(stack, claim.ref.id, {"name": "n"}, **{"Idempotency-Key": "late"})
    stack.store.end(claim, State.SUCCEEDED)
    status, problem = post(stack, claim.ref.id, {"name": "n"})
    assert (status, problem["detail"]) == (409, "the job has ended, and nothing would read the message")
    assert post(stack, claim.ref.id, {"name": "n"}, **{"Idempotency-Key": "late"}) == (200, sent[1])
    assert len(said(stack.store, claim.ref.id)) == 1


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"data": 1}, "/name"),
        ({"name": ""}, "/name"),
        ({"name": "a\nb"}, "/name"),
        ({"name": "x" * 129}, "/name"),
        ({"name": "n", "data": "x" * 65_537}, "/data"),
        ({"name": "n", "data": "\ud800"}, "/data"),
        ({"name": "n", "what": 1}, "/what"),
    ],
)
def test_a_message_that_does_not_fit_is_refused_and_says_where(
    stack: Stack, body: dict[str, Any], pointer: str
) -> None:
    claim = running_by_hand(stack)
    status, problem = post(stack, claim.ref.id, body)
    assert (status, [error["pointer"] for error in problem["errors"]]) == (422, [pointer])
    assert said(stack.store, claim.ref.id) == []
    stack.store.cancel(claim.ref.id)


def test_there_is_no_message_to_no_job(stack: Stack) -> None:
    assert post(stack, "0-AAAAAAAAAAAAAAAAAAAAAA", {"name": "n"})[0] == 404


def test_too_many_messages_are_refused_with_when_to_try_again(stack: Stack) -> None:
    claim = running_by_hand(stack)
    stack.store.messages.send(claim.ref.id, "n", None)
    # As after a burst, at a moment that is still to come: nothing refills the bucket, however slow this is.
    stack.store.redis.hset(
        stack.store.keys.job(claim.ref.id), mapping={"_tokens": 0, "_tokens_at": round(time.time() * 2000)}
    )
    status, headers, _ = stack.call("POST", f"/jobs/{claim.ref.id}/messages", {"name": "n"})
    assert status == 429
    assert int(headers["retry-after"]) >= 1
    stack.store.end(claim, State.SUCCEEDED)


def test_a_worker_over_http_sends_messages_with_its_reports(stack: Stack) -> None:
    job = stack.submit("by.http", {}, run="here")
    batch = {"batch": 1, "events": [{"type": "message", "name": "row", "data": [1, 2]}]}
    bearer = {"Authorization": f"Bearer {job['token']}"}
    for _ in range(2):
        assert stack.call("POST", f"/jobs/{job['id']}/reports", batch, bearer)[0] == 200
    too_large = {"batch": 2, "events": [{"type": "message", "name": "row", "data": "x" * 70_000}]}
    assert stack.call("POST", f"/jobs/{job['id']}/reports", too_large, bearer)[0] == 422
    assert stack.call("POST", f"/jobs/{job['id']}/end", {"state": "succeeded"}, bearer)[0] == 200
    assert [(m["from"], m["name"], m["data"]) for m in said(stack.store, job["id"])] == [
        ("task", "row", [1, 2])
    ]


# -- the store -----------------------------------------------------------------------------------------


def test_a_job_that_reads_nothing_gets_no_more_than_so_many(clocked: ClockedStore) -> None:
    job_id = clocked.create(NEW)[0]
    for n in range(MAX_UNREAD):
        clocked.set_time(clocked.now_ms + 60)
        assert clocked.messages.send(job_id, "n", n)
    clocked.set_time(clocked.now_ms + 60_000)
    with pytest.raises(TooManyMessages, match="has not read"):
        clocked.messages.send(job_id, "n", 0)


def test_a_key_is_remembered_for_its_time_only(clocked: ClockedStore) -> None:
    job_id = clocked.create(NEW)[0]
    clocked.messages.send(job_id, "n", 1, once=("key", "one"))
    ttl = clocked.redis.pttl(clocked.keys.once("local", "key"))
    assert 0 < ttl <= ONCE_S * 1000


# -- the task's side -----------------------------------------------------------------------------------


def test_a_question_is_answered_while_the_task_waits(stack: Stack, tmp_path: Path) -> None:
    def task(job: Job[Params]) -> Any:
        job.send("question", {"text": "how many?"})
        answer = next(job.messages(wait_s=30))
        return [answer.name, answer.data]

    with doing(stack.store, task, tmp_path) as job_id:
        until(lambda: said(stack.store, job_id))
        assert post(stack, job_id, {"name": "answer", "data": 42})[0] == 201
    job = ended(stack.store, job_id)
    assert (job.state, job.result) == (State.SUCCEEDED, ["answer", 42])
    assert [(m["from"], m["name"]) for m in said(stack.store, job_id)] == [
        ("task", "question"), ("client", "answer"),
    ]  # fmt: skip


def test_what_is_streamed_comes_whole_in_order_and_before_the_end(stack: Stack, tmp_path: Path) -> None:
    count = 2 * reporter.MAX_MESSAGES_PER_S + 50

    def task(job: Job[Params]) -> None:
        for n in range(count):
            job.send("word", n)
            if n == 5:
                job.log("five")

    began = time.monotonic()
    with doing(stack.store, task, tmp_path) as job_id:
        pass
    assert [m["data"] for m in said(stack.store, job_id)] == list(range(count))
    assert time.monotonic() - began > 1, "no more in a second than may be"
    page = stack.store.read(job_id, ZERO, 10_000)
    assert page is not None
    types = [event.type for event in page.events]
    assert types[-1] == "end"
    assert types.index("log") - types.index("message") == 6


def test_a_message_that_is_wrong_is_the_tasks_own_error(stack: Stack, tmp_path: Path) -> None:
    def task(job: Job[Params]) -> None:
        with pytest.raises(RecordTooLarge):
            job.send("n", "x" * 70_000)
        with pytest.raises(RecordError):
            job.send("n", float("nan"))
        with pytest.raises(ValueError, match="name"):
            job.send("a\nb")

    with doing(stack.store, task, tmp_path) as job_id:
        pass
    assert ended(stack.store, job_id).state is State.SUCCEEDED


def test_the_next_attempt_begins_with_the_messages_after_the_last_checkpoint(
    stack: Stack, tmp_path: Path
) -> None:
    def task(job: Job[Params]) -> Any:
        if job.attempt == 1:
            for message in job.messages():
                if message.data == 1:
                    job.checkpoint = "two are done"
            assert message.data == 2, "read, and then forgotten"
            raise RuntimeError("the worker fell over")
        return [job.checkpoint, [m.data for m in job.messages()], list(job.messages())]

    job_id = stack.store.create(NEW)[0]
    for n in range(3):
        stack.store.messages.send(job_id, "n", n)
    runtime = Runtime(stack.store, worker="test", data_dir=tmp_path, lease_s=12)
    job_type = JobType("test", "Test", "none", Params, None, task, Retry(first_s=0))
    for _ in range(2):
        runtime.run(job_type, job_id)
    assert ended(stack.store, job_id).result == ["two are done", [2], []]


def test_a_cancellation_ends_the_wait_for_a_message(stack: Stack, tmp_path: Path) -> None:
    waiting = threading.Event()

    def task(job: Job[Params]) -> None:
        waiting.set()
        next(job.messages(wait_s=600))

    with doing(stack.store, task, tmp_path) as job_id:
        waiting.wait(30)
        stack.store.cancel(job_id)
    assert ended(stack.store, job_id).state is State.CANCELED

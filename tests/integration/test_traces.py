"""Traces and log lines of jobs: a web process and a worker that send their spans to a receiver of OTLP."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from tests.support.receiver import Receiver, answer
from tests.support.stack import Stack
from tests.support.wait import until

TASKS = """
import logging
from headway import Job, Params, job

@job("traced.parent", params=Params, title="Parent")
def parent(job: Job[Params]) -> None:
    logging.getLogger("of.the.project").warning("from within")
    if job.checkpoint is None:
        with job.subprocess(["sh", "-c", "exit 3"]) as process:
            process.wait()
        job.submit("simulate", {"duration_s": 0, "fail_at": 0, "fail_attempts": 1})
        job.checkpoint = "submitted"
    job.await_children()
"""
SPAN = "00f067aa0ba902b7"
TRACES = "/v1/traces"


class Traced(Stack):
    """Sends its spans to `receiver`; what both processes say is JSON."""

    receiver: Receiver

    def spans(self, job_id: str, *names: str) -> list[Span]:
        """What was received of a job, oldest first."""
        found: dict[bytes, Span] = {}  # what was not answered in time is sent again
        for request in self.receiver.at(TRACES):
            for resource in ExportTraceServiceRequest.FromString(request.body).resource_spans:
                found |= {span.span_id: span for scope in resource.scope_spans for span in scope.spans}
        mine = [span for span in found.values() if said(span).get("headway.job") == job_id]
        traces = {span.trace_id for span in mine}
        of_trace = [s for s in found.values() if s.trace_id in traces and (not names or s.name in names)]
        return sorted(of_trace, key=lambda span: span.start_time_unix_nano)

    def lines(self, name: str, job_id: str) -> list[dict[str, Any]]:
        """The lines of a process's log that are about a job, or name it."""
        return [json.loads(line) for line in self.log(name).splitlines() if job_id in line]

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        data = b"" if body is None else json.dumps(body).encode()
        known = {"Content-Type": "application/json", "Content-Length": str(len(data)), **headers}
        status, _, text = self.call(method, path, data, {**self.headers, **known})
        assert status < 300, text
        return json.loads(text) if text else None

    def done(self, job_id: str) -> dict[str, Any]:
        job: dict[str, Any] = {}

        def ended() -> bool:
            job.update(self.ask("GET", f"/jobs/{job_id}"))
            return job["finished_at"] is not None

        until(ended, what=lambda: f"{job}\n{self.log('worker')[-3000:]}")
        return job


@pytest.fixture
def trace() -> str:
    """The id of the trace that a client of the test is in."""
    return os.urandom(16).hex()


def said(span: Span) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in span.attributes}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Traced]:
    directory: Path = tmp_path_factory.mktemp("traces")
    (directory / "traced_tasks.py").write_text(TASKS)
    with (
        Receiver(answers={TRACES: [answer(200, Connection="close")]}) as receiver,
        Traced(
            directory,
            LEASE_S="2",
            DRAIN_S="1",
            LOG_FORMAT="json",
            LOG_LEVEL="INFO",
            WORKER_CONCURRENCY="1",
            HEADWAY_TASKS="traced_tasks",
            OTEL_EXPORTER_OTLP_ENDPOINT=receiver.url(""),
            OTEL_BSP_SCHEDULE_DELAY="100",
        ) as traced,
    ):
        traced.receiver = receiver
        traced.environ["PYTHONPATH"] += f"{os.pathsep}{directory}"
        traced.start_web()
        traced.start_worker()
        yield traced


def test_a_job_its_child_and_their_attempts_are_one_trace(stack: Traced, trace: str) -> None:
    made = stack.ask(
        "POST",
        "/jobs",
        {"type": "traced.parent"},
        traceparent=f"00-{trace}-{SPAN}-01",
        tracestate="vendor=1",
    )
    job_id = made["id"]
    assert stack.done(job_id)["state"] == "succeeded"
    until(lambda: len(stack.spans(job_id, "end")) == 4, what=lambda: [s.name for s in stack.spans(job_id)])
    spans = stack.spans(job_id)

    (submitted,) = [span for span in spans if span.name == "submit traced.parent"]
    assert submitted.trace_id.hex() == trace
    assert submitted.parent_span_id.hex() == SPAN
    assert submitted.trace_state == "vendor=1"
    assert said(submitted)["headway.job"] == job_id

    # It waits for its child, and goes on: both parts are one attempt.
    first, second = [span for span in spans if span.name == "attempt traced.parent"]
    assert {first.parent_span_id, second.parent_span_id} == {submitted.span_id}
    assert said(first)["headway.attempt"] == said(second)["headway.attempt"] == 1
    assert said(first)["headway.owner"] == made["owner"]
    assert first.status.code == Status.STATUS_CODE_UNSET

    # The attempt of a child that fails, and the next one, are children of the span that submitted it.
    failed, succeeded = [span for span in spans if span.name == "attempt simulate"]
    assert {failed.parent_span_id, succeeded.parent_span_id} == {first.span_id}
    assert [said(span)["headway.attempt"] for span in (failed, succeeded)] == [1, 2]
    assert failed.status.code == Status.STATUS_CODE_ERROR
    assert failed.status.message
    assert succeeded.status.code == Status.STATUS_CODE_UNSET

    (program,) = [span for span in spans if span.name == "run sh"]
    assert program.parent_span_id == first.span_id
    assert said(program)["process.exit.code"] == 3
    assert program.status.code == Status.STATUS_CODE_ERROR
    attempts = {span.span_id for span in (first, second, failed, succeeded)}
    for name in ("claim", "end"):
        assert {span.parent_span_id for span in spans if span.name == name} == attempts


def test_each_line_about_a_job_says_which_and_where_in_its_trace(stack: Traced, trace: str) -> None:
    made = stack.ask("POST", "/jobs", {"type": "traced.parent"}, traceparent=f"00-{trace}-{SPAN}-01")
    stack.done(made["id"])
    until(lambda: len(stack.spans(made["id"], "attempt traced.parent")) == 2, what="the spans")
    lines = stack.lines("worker", made["id"])
    assert any(line["logger"] == "of.the.project" for line in lines), "the task's own lines too"
    attempts = {s.span_id.hex() for s in stack.spans(made["id"], "attempt traced.parent")}
    for line in lines:
        if "cannot be claimed" in line["message"]:
            continue
        assert (line["job"], line["attempt"], line["owner"]) == (made["id"], 1, made["owner"]), line
        assert line["trace_id"] == trace
    assert {line["span_id"] for line in lines if line["logger"] == "headway.sdk.attempt"} <= attempts


def test_what_no_worker_can_say_any_more_the_service_does(stack: Traced) -> None:
    body = {"type": "simulate", "params": {"duration_s": 60}, "max_attempts": 2}
    job_id = stack.ask("POST", "/jobs", body)["id"]
    for attempt in (1, 2):
        until(
            lambda n=attempt: (  # type: ignore[misc]
                (job := stack.ask("GET", f"/jobs/{job_id}"))["state"] == "running" and job["attempt"] == n
            ),
            what=lambda: stack.ask("GET", f"/jobs/{job_id}"),
        )
        worker = stack.store.redis.hget(stack.store.keys.job(job_id), "_worker")
        assert isinstance(worker, bytes)
        os.kill(int(json.loads(worker).rpartition(":")[2]), signal.SIGKILL)
    assert stack.done(job_id)["error"]["code"] == "worker_lost"
    until(lambda: bool(stack.spans(job_id, "end")), what=lambda: [s.name for s in stack.spans(job_id)])
    submitted, lost, end = stack.spans(job_id, "submit simulate", "worker lost", "end")
    assert {lost.parent_span_id, end.parent_span_id} == {submitted.span_id}
    for span, attempt in ((lost, 1), (end, 2)):
        assert span.status.code == Status.STATUS_CODE_ERROR
        assert (said(span)["error.type"], said(span)["headway.attempt"]) == ("worker_lost", attempt)
    # Those of its sending and of its end; the attempts' numbers are those that were lost.
    said_by_web = [
        (line["attempt"], line["owner"]) for line in stack.lines("web", job_id) if "attempt" in line
    ]
    assert {attempt for attempt, _ in said_by_web} == {1, 2}
    assert {owner for _, owner in said_by_web} == {"local"}


def test_a_worker_over_http_is_handed_the_trace(stack: Traced, trace: str) -> None:
    stack.ask("PUT", "/types/traced.http", {})
    job_id = stack.ask("POST", "/jobs", {"type": "traced.http"}, traceparent=f"00-{trace}-{SPAN}-01")["id"]
    claimed = stack.ask("POST", "/claims", {"types": ["traced.http"], "worker": "w"})
    ended = {"state": "failed", "error": {"code": "invalid_input", "message": "no such film"}}
    token = {"Authorization": f"Bearer {claimed['token']}"}
    stack.ask("POST", f"/jobs/{job_id}/end", ended, **token)
    until(lambda: bool(stack.spans(job_id, "attempt traced.http")), what="the spans")
    submitted, claim, attempt = (
        stack.spans(job_id, name)[0] for name in ("submit traced.http", "claim", "attempt traced.http")
    )
    assert claimed["traceparent"] == f"00-{trace}-{claim.span_id.hex()}-01"
    assert {claim.parent_span_id, attempt.parent_span_id} == {submitted.span_id}
    assert (attempt.status.code, attempt.status.message) == (Status.STATUS_CODE_ERROR, "no such film")


def test_a_job_that_is_submitted_again_stays_in_its_trace(stack: Traced, trace: str) -> None:
    body = {"type": "simulate", "params": {"duration_s": 0, "fail_at": 0}, "max_attempts": 1}
    many = stack.ask("POST", "/jobs:batch", {"jobs": [body]}, traceparent=f"00-{trace}-{SPAN}-01")
    job_id = many["items"][0]["id"]
    assert stack.done(job_id)["state"] == "failed"
    again = stack.ask("POST", f"/jobs/{job_id}/retry")["id"]
    stack.done(again)
    until(lambda: bool(stack.spans(again, "attempt simulate")), what="the spans")
    assert {span.trace_id.hex() for span in stack.spans(again)} == {trace}


def test_what_is_done_to_many_jobs_is_in_the_trace_of_who_asked_for_it(stack: Traced, trace: str) -> None:
    parent = f"00-{trace}-{SPAN}-01"
    job_id = stack.ask("POST", "/jobs:delete", {"group": "nobody's"}, traceparent=parent)["id"]
    assert stack.done(job_id)["state"] == "succeeded"
    until(lambda: bool(stack.spans(job_id, "attempt jobs.delete")), what="the spans")
    (submitted,), (attempt,) = (
        stack.spans(job_id, f"{what} jobs.delete") for what in ("submit", "attempt")
    )
    assert (submitted.trace_id.hex(), submitted.parent_span_id.hex()) == (trace, SPAN)
    assert attempt.parent_span_id == submitted.span_id


def test_the_last_spans_of_a_worker_that_stops_are_sent(stack: Traced) -> None:
    stack.stop("worker")
    stack.environ["OTEL_BSP_SCHEDULE_DELAY"] = "600000"
    stack.start_worker()
    body = {"type": "simulate", "params": {"duration_s": 60}}
    ids = [
        stack.ask("POST", "/jobs", one)["id"]
        for one in ({"type": "simulate", "params": {"duration_s": 0}}, body)
    ]
    stack.done(ids[0])
    until(lambda: stack.ask("GET", f"/jobs/{ids[1]}")["state"] == "running", what="the second job")
    assert stack.stop("worker") == 0
    for job_id, outcome in zip(ids, ("succeeded", "released, as this worker shuts down"), strict=True):
        (attempt,) = [
            s for s in stack.spans(job_id, "attempt simulate") if s.kind == Span.SPAN_KIND_CONSUMER
        ]
        assert said(attempt)["headway.outcome"] == outcome

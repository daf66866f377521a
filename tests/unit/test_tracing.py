"""The context that a job carries, and what a process does that has no OpenTelemetry to send it to."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from headway import tracing
from headway.client.trace_context import trace_context
from headway.contract.logs import about, formatter

ROOT = Path(__file__).parent.parent.parent
TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
CONTEXT = f"00-{TRACE}-{SPAN}-01"


@pytest.mark.parametrize(
    "traceparent",
    [
        None,
        "",
        "nonsense",
        CONTEXT.upper(),
        CONTEXT + "-more",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"ff-{TRACE}-{SPAN}-01",
        CONTEXT + "\n",
    ],
)
def test_a_context_that_is_not_valid_is_none(traceparent: str | None) -> None:
    assert tracing.carried(traceparent) == ""


@pytest.mark.parametrize("tracestate", [None, "", "x" * 513, "a=\x00"])
def test_a_context_goes_without_a_state_that_is_not_valid(tracestate: str | None) -> None:
    assert tracing.carried(CONTEXT, tracestate) == CONTEXT


def test_headers_carry_the_whole_context() -> None:
    sent = {"traceparent": CONTEXT, "tracestate": "vendor=1,other=2 x"}
    assert tracing.headers(tracing.carried(**sent)) == sent
    assert tracing.headers("") == {}


@pytest.mark.parametrize(
    ("environ", "wanted"),
    [
        ({}, False),
        ({"OTEL_SERVICE_NAME": "x"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c:4318/v1/traces"}, True),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, True),
        ({"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}, False),
        ({"OTEL_SDK_DISABLED": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}, False),
    ],
)
def test_the_usual_environment_says_whether_spans_are_sent(environ: dict[str, str], wanted: bool) -> None:
    assert tracing.wanted(environ) is wanted


def python(code: str, **environ: str) -> str:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**kept, **environ},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout + done.stderr


def test_nothing_of_opentelemetry_is_imported_unless_it_is_configured() -> None:
    code = f"""if True:
        import sys
        from headway import tracing
        tracing.start("x")
        with tracing.span("s", "{CONTEXT}") as span:
            print(span.context)
        tracing.flush()
        print([name for name in sys.modules if name.startswith("opentelemetry")])"""
    assert python(code) == f"{CONTEXT}\n[]\n"


def test_a_process_goes_on_when_opentelemetry_is_configured_but_not_installed() -> None:
    code = """if True:
        import sys
        sys.modules["opentelemetry.exporter"] = None
        from headway import tracing
        tracing.start("x")
        with tracing.span("s") as span:
            print(repr(span.context))"""
    said = python(code, OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:1")
    assert "pip install opentelemetry-exporter-otlp-proto-http" in said
    assert "''\n" in said


def test_a_client_hands_on_the_span_that_its_program_is_in() -> None:
    from opentelemetry import trace

    assert trace_context() == {}
    state = trace.TraceState([("vendor", "1")])
    context = trace.SpanContext(int(TRACE, 16), int(SPAN, 16), False, trace.TraceFlags(1), state)
    with trace.use_span(trace.NonRecordingSpan(context)):
        assert trace_context() == {"traceparent": CONTEXT, "tracestate": "vendor=1"}


# -- log lines -------------------------------------------------------------------------------------


def line(message: str, **extra: object) -> logging.LogRecord:
    return logging.getLogger("x").makeRecord("x", logging.INFO, "f", 1, message, (), None, extra=extra)


def test_a_line_says_in_the_same_way_what_job_it_is_about() -> None:
    text, structured = formatter("text"), formatter("json")
    assert text.format(line("plain")).endswith(" INFO x plain")
    assert "job" not in json.loads(structured.format(line("plain")))
    with about(job="j", owner="acme"), about(attempt=2, trace_id="t"):
        assert text.format(line("said")).endswith(" said [job=j attempt=2 owner=acme trace_id=t]")
        found = json.loads(structured.format(line("said")))
        assert {name: found.get(name) for name in ("job", "attempt", "owner", "trace_id", "span_id")} == {
            **{"job": "j", "attempt": 2, "owner": "acme", "trace_id": "t", "span_id": None}
        }
    assert text.format(line("after")).endswith(" after")


def test_a_line_about_another_job_has_nothing_of_this_one() -> None:
    with about(job="mine", attempt=3, owner="acme"):
        assert formatter("text").format(line("x", job="other")).endswith(" x [job=other]")
        assert formatter("text").format(line("x", job="mine")).endswith("[job=mine attempt=3 owner=acme]")

"""Tracing: spans of what becomes of a job, sent by OpenTelemetry where it is configured.

A job carries its trace with it: the context of the span that submitted it, as W3C Trace Context writes it
(`traceparent`, then `tracestate` if there is one, after a space). Where OpenTelemetry is not configured
nothing of it is imported, no span is made, and a job's context is passed on as it came.
"""

from __future__ import annotations

import logging
import os
import re
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

from headway.contract.logs import about

TRACEPARENT = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}", re.ASCII)
MAX_TRACESTATE_CHARS = 512
FLUSH_S = 1.0
"""How long a process that ends waits for its last spans to be sent."""

Kind = Literal["internal", "server", "producer", "consumer"]
Attributes = Mapping[str, str | int | float | bool]

INSTALL = "pip install opentelemetry-exporter-otlp-proto-http"

log = logging.getLogger(__name__)


class Span:
    """A span, as those see it who make one. This one is recorded by nobody."""

    def __init__(self, context: str) -> None:
        self.context = context
        """What is handed to whatever goes on from here; empty if there is no trace."""

    def set(self, attributes: Attributes) -> None:
        """Add attributes, or replace them."""

    def fail(self, code: str, message: str) -> None:
        """Say that what the span is about has failed."""


class _RecordedSpan(Span):
    def __init__(self, span: Any, context: str) -> None:
        super().__init__(context)
        self._span = span

    def set(self, attributes: Attributes) -> None:
        self._span.set_attributes(attributes)

    def fail(self, code: str, message: str) -> None:
        from opentelemetry.trace import StatusCode

        self._span.set_attribute("error.type", code)
        self._span.set_status(StatusCode.ERROR, message)


_tracer: Any = None
_provider: Any = None


def carried(traceparent: str | None, tracestate: str | None = None) -> str:
    """Return the context that two headers carry; empty if there is none, or none that is valid."""
    if traceparent is None or not TRACEPARENT.fullmatch(traceparent):
        return ""
    usable = tracestate and len(tracestate) <= MAX_TRACESTATE_CHARS and tracestate.isprintable()
    return f"{traceparent} {tracestate}" if usable else traceparent


def headers(context: str) -> dict[str, str]:
    """Return the headers that carry a context; none for an empty one."""
    traceparent, _, tracestate = context.partition(" ")
    found = {"traceparent": traceparent, "tracestate": tracestate}
    return {name: value for name, value in found.items() if value}


def wanted(environ: Mapping[str, str]) -> bool:
    """Return whether the environment configures that spans are exported over OTLP."""
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    exporter = environ.get("OTEL_TRACES_EXPORTER", "").strip().lower()
    endpoints = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
    return exporter == "otlp" or (not exporter and any(environ.get(name) for name in endpoints))


def start(service: str) -> None:
    """Record spans in this process from now on, if OpenTelemetry is configured; else do nothing.

    `service` is its `service.name`, unless the environment has another. Call it after the last fork: a
    thread sends the spans. If the packages are missing, a warning in the log says so.
    """
    global _tracer, _provider
    if _tracer is not None or not wanted(os.environ):
        return
    try:
        from opentelemetry import trace
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        log.warning("OpenTelemetry is configured, but not installed (%s): %s", error, INSTALL)
        return
    current = trace.get_tracer_provider()
    if isinstance(current, TracerProvider):  # somebody has set it up in this process before
        _provider = current
    else:
        named = "OTEL_SERVICE_NAME" in os.environ or "service.name=" in os.environ.get(
            "OTEL_RESOURCE_ATTRIBUTES", ""
        )
        resource = Resource.create({} if named else {"service.name": service})
        # At the exit of the process it would wait for half a minute for a collector that is away.
        _provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        _provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        # The spans that tasks make by themselves are children of ours.
        trace.set_tracer_provider(_provider)
    _tracer = _provider.get_tracer("headway")


def flush() -> None:
    """Have what is recorded sent now. Returns after FLUSH_S at the latest."""
    if _provider is None:
        return
    thread = threading.Thread(target=_provider.force_flush, name="last spans", daemon=True)
    thread.start()
    thread.join(FLUSH_S)


@contextmanager
def span(
    name: str,
    parent: str = "",
    *,
    kind: Kind = "internal",
    attributes: Attributes | None = None,
    since_ns: int | None = None,
) -> Iterator[Span]:
    """Record what the block does as a span.

    It is a child of `parent`, a context; without one, of the span that this thread is in; without any, it
    begins a trace. It began at `since_ns` (ns since 1970), by default now. An Exception that leaves the
    block fails it. Log lines of the block have its ids.
    """
    if _tracer is None:
        yield Span(parent)
        return
    from opentelemetry import trace
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    propagator = TraceContextTextMapPropagator()
    recorded = _tracer.start_span(
        name,
        context=propagator.extract(headers(parent)) if parent else None,
        kind=trace.SpanKind[kind.upper()],
        attributes=attributes,
        start_time=since_ns,
    )
    with trace.use_span(recorded, end_on_exit=True, record_exception=False, set_status_on_exception=False):
        carrier: dict[str, str] = {}
        propagator.inject(carrier)
        ours = _RecordedSpan(recorded, carried(carrier.get("traceparent"), carrier.get("tracestate")))
        ids = recorded.get_span_context()
        with about(trace_id=f"{ids.trace_id:032x}", span_id=f"{ids.span_id:016x}"):
            try:
                yield ours
            except Exception as error:
                ours.fail(type(error).__name__, str(error))
                raise


def about_job(job: str, owner: str, type: str, attempt: int | None = None) -> dict[str, str | int]:
    """Return the attributes of a span that is about a job."""
    known: dict[str, str | int] = {"headway.job": job, "headway.owner": owner, "headway.type": type}
    return known if attempt is None else {**known, "headway.attempt": attempt}


def now_ns() -> int:
    """The time that `since_ns` takes; 0 if no spans are recorded."""
    return 0 if _tracer is None else time.time_ns()

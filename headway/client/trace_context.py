"""The span that this program is in, if it traces what it does with OpenTelemetry."""

from __future__ import annotations

import sys


def trace_context() -> dict[str, str]:
    """Return the headers that hand the current span on (W3C Trace Context); none if there is none.

    Nothing is imported: a program without OpenTelemetry has no span.
    """
    trace = sys.modules.get("opentelemetry.trace")
    if trace is None:
        return {}
    span = trace.get_current_span().get_span_context()
    if not span.is_valid:
        return {}
    headers = {"traceparent": f"00-{span.trace_id:032x}-{span.span_id:016x}-{span.trace_flags:02x}"}
    state = span.trace_state.to_header()
    return {**headers, "tracestate": state} if state else headers

"""The wire format of Server-Sent Events: values in, bytes out, no I/O.

[spec] is https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

from __future__ import annotations

from headway.contract.encoding import dumps
from headway.contract.events import Event, EventId

CONTENT_TYPE = "text/event-stream"
HEADERS = {
    "Cache-Control": "no-store, no-transform",
    "X-Accel-Buffering": "no",  # nginx would collect the events otherwise
}

HEARTBEAT_COMMENT = b": heartbeat\n"
"""One line and no blank one after it: a blank line ends an event, and some clients then dispatch an
empty event because an id is set."""


def frame(event: str, data: bytes, event_id: EventId | None = None) -> bytes:
    """One event. `data` is one line: JSON has no raw newlines."""
    head = b"" if event_id is None else b"id: %s\n" % str(event_id).encode()
    return b"%sevent: %s\ndata: %s\n\n" % (head, event.encode(), data)


def stored(event: Event) -> bytes:
    """The frame of a stored event: the same bytes that the store published."""
    return frame(event.type, event.data, event.id)


def retry(ms: int) -> bytes:
    """How long a client waits before it reconnects. It takes effect at once [spec: "If the field name is
    "retry""], so it needs no blank line and may stand before any event."""
    return b"retry: %d\n" % ms


def cursor(event_id: EventId) -> bytes:
    """Moves the client's last event id and dispatches nothing [spec: "If the data buffer is an empty
    string, set the data buffer and the event type buffer to the empty string and return"]."""
    return b"id: %s\n\n" % (b"0" if event_id == (0, 0) else str(event_id).encode())


def heartbeat_event(at: str, interval_s: float, *, behind: bool) -> bytes:
    """A heartbeat that scripts can see, and when to expect the next; no id, so that it moves no cursor.
    `behind`: what was sent so far may be out of date, since the store is away."""
    said = {"at": at, "interval_s": interval_s, **({"behind": True} if behind else {})}
    return frame("heartbeat", dumps(said).encode())


def shutdown(retry_ms: int) -> bytes:
    """The server is going; the client comes back after a delay of its own, and not with all others."""
    return retry(retry_ms) + frame("shutdown", dumps({"retry_ms": retry_ms}).encode())

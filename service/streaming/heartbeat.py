"""Heartbeats: sent to an idle stream, and as soon as a stream catches up or falls behind."""

from __future__ import annotations

from datetime import UTC, datetime

from service.streaming import sse


class CommentHeartbeat:
    """The heartbeat of readers that need not see it."""

    __slots__ = ()

    def beat(self, *, behind: bool) -> bytes:  # noqa: ARG002
        return sse.HEARTBEAT_COMMENT

    def freshness_event(self, *, behind: bool) -> bytes:  # noqa: ARG002
        return b""


class VisibleHeartbeat:
    """The heartbeat of readers that asked to see it."""

    __slots__ = ("_interval_s",)

    def __init__(self, interval_s: float) -> None:
        self._interval_s = interval_s

    def beat(self, *, behind: bool) -> bytes:
        """Returns a heartbeat of now. `behind`: the stream has not caught up with the store."""
        at = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        return sse.heartbeat_event(at, self._interval_s, behind=behind)

    def freshness_event(self, *, behind: bool) -> bytes:
        """Returns what to send as soon as freshness changes. Waiting for the next heartbeat would let a
        page show stale data as fresh, or the reverse."""
        return self.beat(behind=behind)


Heartbeat = CommentHeartbeat | VisibleHeartbeat

COMMENT = CommentHeartbeat()

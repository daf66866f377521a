"""What a stream is sent when nothing happens, and when it has caught up: whether it can be trusted."""

from __future__ import annotations

from datetime import UTC, datetime

from service.streaming import sse


class Comment:
    """The heartbeat of readers who need not see it."""

    __slots__ = ()

    def beat(self, *, behind: bool) -> bytes:  # noqa: ARG002
        return sse.HEARTBEAT_COMMENT

    def word(self, *, behind: bool) -> bytes:  # noqa: ARG002
        return b""


class Seen:
    """The heartbeat of readers who asked to see it."""

    __slots__ = ("_interval_s",)

    def __init__(self, interval_s: float) -> None:
        self._interval_s = interval_s

    def beat(self, *, behind: bool) -> bytes:
        """When it is time for one. `behind`: the stream has not caught up with the store."""
        at = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        return sse.heartbeat_event(at, self._interval_s, behind=behind)

    def word(self, *, behind: bool) -> bytes:
        """When that has changed: it has caught up, or cannot. A page that waited for the next heartbeat
        would show as fresh what is not, or the other way round."""
        return self.beat(behind=behind)


Heartbeat = Comment | Seen

COMMENT = Comment()

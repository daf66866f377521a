"""The head of a request, read so that neither time nor memory can be had for nothing."""

from __future__ import annotations

from typing import Any

from gunicorn.http.errors import LimitRequestHeaders, ParseException
from gunicorn.http.message import Request

MAX_UNFINISHED_BYTES = 8 << 20
"""Of all heads of which more than one read has come and the end has not."""
_unfinished = 0


class TooManyUnfinished(ParseException):  # type: ignore[misc]
    """The unfinished heads of all connections together take too much memory."""


class BoundedRequest(Request):  # type: ignore[misc]
    """A request whose head is parsed once it is whole. gunicorn would keep two copies of what has come, and
    search all of it anew at each read. All header fields together, or a trailer's, may take twice as much
    as one."""

    def parse(self, unreader: Any) -> Any:
        self.max_buffer_headers = 2 * self.limit_request_field_size
        unreader.unread(_read_head(unreader, self.limit_request_line, self.max_buffer_headers))
        return super().parse(unreader)


def _read_head(unreader: Any, max_line: int, max_fields: int) -> bytes:
    """Read until the head has its end, or is one that gunicorn refuses. Raises ParseException."""
    global _unfinished
    first = unreader.read()
    if not first or _end(first, 0) >= 0:
        return bytes(first)
    head = bytearray(first)
    # An empty line may come before the first.
    line = head.find(b"\r\n", 2)
    held = 0
    try:
        while line >= 0 or len(head) <= max_line + 2:
            _unfinished += len(head) - held
            held = len(head)
            if _unfinished > MAX_UNFINISHED_BYTES:
                raise TooManyUnfinished
            piece = unreader.read()
            if not piece:
                break
            head += piece
            if line < 0:
                line = head.find(b"\r\n", max(2, held - 1))
            end = _end(head, held)
            if line >= 0 and (len(head) if end < 0 else end) - line > max_fields:
                raise LimitRequestHeaders("max buffer headers")
            if end >= 0:
                break
    finally:
        _unfinished -= held
    return bytes(head)


def _end(head: bytes | bytearray, begin: int) -> int:
    """Return where the head ends, of which the bytes before `begin` were looked at before: behind its empty
    line, or behind all that there is if a line does not end with CRLF. -1: there is no end yet."""
    end = head.find(b"\r\n\r\n", max(0, begin - 3))
    if end >= 0:
        return end + 4
    broken = head.count(b"\n", begin) > head.count(b"\r\n", max(0, begin - 1))
    return len(head) if broken else -1

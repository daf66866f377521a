"""The event stream interpretation: bytes in pieces of any size in, events out; no I/O.

[spec] is https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

BOM = b"\xef\xbb\xbf"
MAX_RETRY_DIGITS = 9
"""More than eleven days is no wait that anybody means."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One event as it is dispatched. `id` is the last event id at that moment, the frame's own or not."""

    event: str
    data: str
    id: str


class Decoder:
    """One connection's stream. What is cut off before its blank line is dropped [spec: "Once the end of
    the file is reached, any pending data must be discarded"], and moves no cursor."""

    def __init__(self) -> None:
        self.last_event_id = ""
        """Also moved by an id that comes without data, when its blank line has come."""
        self.retry_ms: int | None = None
        """The last `retry:` of this connection."""
        self._partial: list[bytes] = []
        self._after_cr = False
        self._first = True
        self._id = self._event = ""
        self._data: list[str] = []

    def feed(self, chunk: bytes) -> Iterator[Frame]:
        """Yield the events that the chunk completes. Take them all before the next chunk."""
        if chunk and self._after_cr:
            # The line ended with its CR already: an event is not kept back until the LF has come.
            chunk = chunk.removeprefix(b"\n")
            self._after_cr = False
        # On bytes, this splits at CR, LF and CRLF, and at nothing else.
        for piece in chunk.splitlines(keepends=True):
            self._partial.append(piece)
            self._after_cr = piece.endswith(b"\r")
            if not piece.endswith((b"\r", b"\n")):
                return
            line = b"".join(self._partial).rstrip(b"\r\n")
            self._partial.clear()
            if self._first:
                line = line.removeprefix(BOM)
                self._first = False
            if line:
                # A line is whole, so no character is cut in two here.
                self._field(line.decode("utf-8", "replace"))
            else:
                yield from self._dispatch()

    def _field(self, line: str) -> None:
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
        elif name == "event":
            self._event = value
        elif name == "id" and "\0" not in value:
            self._id = value
        elif name == "retry" and value.isascii() and value.isdigit() and len(value) <= MAX_RETRY_DIGITS:
            self.retry_ms = int(value)

    def _dispatch(self) -> Iterator[Frame]:
        self.last_event_id = self._id
        event, data = self._event or "message", self._data
        self._event, self._data = "", []
        # [spec: "If the data buffer is an empty string, … return"]: one empty `data` line is "\n" there.
        if data:
            yield Frame(event, "\n".join(data), self._id)

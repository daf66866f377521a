"""Readers of event streams for tests: raw sockets, so that they can be cut anywhere."""

from __future__ import annotations

import json
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from tests.support import credentials


@dataclass(frozen=True)
class Seen:
    """One event as a client has it: dispatched, with the last event id at that moment."""

    id: str
    event: str
    data: Any


def seen(events: list[Seen]) -> list[tuple[str, str]]:
    """Their ids and types."""
    return [(e.id, e.event) for e in events]


class Parser:
    """The event stream interpretation of the HTML standard, on bytes in pieces of any size."""

    def __init__(self) -> None:
        self._rest = b""
        self._id = ""
        self._event = ""
        self._data: list[str] = []
        self.last_event_id = ""
        self.retry_ms: int | None = None
        self.comments = 0

    def feed(self, chunk: bytes) -> Iterator[Seen]:
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        for raw in lines:
            line = raw.decode()
            if line == "":
                self.last_event_id = self._id
                if self._data:
                    yield Seen(self._id, self._event or "message", json.loads("\n".join(self._data)))
                self._event, self._data = "", []
            elif line.startswith(":"):
                self.comments += 1
            else:
                field, _, value = line.partition(":")
                value = value.removeprefix(" ")
                if field == "id":
                    self._id = value
                elif field == "event":
                    self._event = value
                elif field == "data":
                    self._data.append(value)
                elif field == "retry":
                    self.retry_ms = int(value)


class Reader:
    """One request for a stream, with the tests' key unless it has a credential of its own (an empty
    `Authorization` stands for none). `status` is 0 if the connection closed before an answer."""

    def __init__(
        self, url: str, path: str, cursor: str | None = None, *, timeout: float = 120, **headers: str
    ) -> None:
        host = urlsplit(url)
        self._socket = socket.create_connection((host.hostname, host.port), timeout)
        self.parser = Parser()
        try:
            self._ask(host.netloc, path, cursor, headers)
        except OSError:
            self._socket.close()
            raise

    def _ask(self, host: str, path: str, cursor: str | None, headers: dict[str, str]) -> None:
        lines = [f"GET {path} HTTP/1.1", f"Host: {host}", "Accept: text/event-stream"]
        if cursor is not None:
            lines.append(f"Last-Event-ID: {cursor}")
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        headers = credentials.added(credentials.BEARER, headers, path)
        lines += [f"{name}: {value}" for name, value in headers.items()]
        self._socket.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
        self._raw = b""
        while b"\r\n\r\n" not in self._raw:
            chunk = self._socket.recv(65536)
            if not chunk:
                break
            self._raw += chunk
        head, whole, self._raw = self._raw.partition(b"\r\n\r\n")
        if not whole:
            head = b""  # cut off in the middle of it
        first, *rest = head.decode("latin-1").split("\r\n")
        self.status = int(first.split(" ")[1]) if first else 0
        self.headers = {k.lower(): v for k, v in (line.split(": ", 1) for line in rest)}
        self.closed = False
        self._chunked = self.headers.get("transfer-encoding") == "chunked"
        self._left = int(self.headers["content-length"]) if "content-length" in self.headers else None

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()

    def receive(self, size: int = 65536) -> list[Seen]:
        """Wait for at most so many bytes, and give what they complete. Sets `closed` at the end.

        Raises TimeoutError if nothing comes.
        """
        body = self._take_body()
        while not body and not self.closed:
            got = self._socket.recv(size)
            if not got:
                self.closed = True
            self._raw += got
            body = self._take_body()
        return list(self.parser.feed(body))

    def _take_body(self) -> bytes:
        if not self._chunked:
            body, self._raw = self._raw, b""
            if self._left is not None:
                self._left -= len(body)
                self.closed = self.closed or self._left <= 0
            return body
        body = b""
        while b"\r\n" in self._raw:
            size_line, _, rest = self._raw.partition(b"\r\n")
            size = int(size_line, 16)
            if size == 0:
                self.closed = True
                break
            if len(rest) < size + 2:
                break
            body += rest[:size]
            self._raw = rest[size + 2 :]
        return body

    def __iter__(self) -> Iterator[Seen]:
        while not self.closed:
            yield from self.receive()

    def for_seconds(self, seconds: float, size: int) -> list[Seen]:
        """What comes within that time, read in pieces of at most so many bytes."""
        found: list[Seen] = []
        deadline = time.monotonic() + seconds
        while not self.closed and (left := deadline - time.monotonic()) > 0:
            self._socket.settimeout(left)
            try:
                found += self.receive(size)
            except TimeoutError:
                break
        return found

    def take(self, count: int) -> list[Seen]:
        """The next so many events (fewer if the stream closes first)."""
        found: list[Seen] = []
        while len(found) < count and not self.closed:
            found += self.receive()
        return found

    def until_end(self) -> list[Seen]:
        """All events until the stream closes."""
        return list(self)


def follow(
    url: str,
    path: str,
    done: Callable[[list[Seen]], bool],
    *,
    cuts: int = 0,
    longest_s: float = 0.02,
    after_cuts: threading.Event | None = None,
) -> list[Seen]:
    """Read a stream from `0` until `done(events)`, breaking it so often at random moments and bytes,
    and coming back with the last id each time. `after_cuts` is set when it is not broken any more."""
    rng = random.Random(11)
    events: list[Seen] = []
    cursor = "0"
    while not (events and done(events)):
        with Reader(url, path, cursor) as reader:
            if reader.status == 204:
                break
            assert reader.status == 200
            if cuts > 0:
                cuts -= 1
                events += reader.for_seconds(rng.uniform(0, longest_s), rng.randrange(1, 900))
            else:
                while not reader.closed and not (events and done(events)):
                    events += reader.receive()
            cursor = reader.parser.last_event_id or cursor
        if cuts == 0 and after_cuts is not None:
            after_cuts.set()
    assert cuts <= 0, f"it was over before the last {cuts} cuts"
    return events

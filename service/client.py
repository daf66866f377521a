"""A Headway seen from outside, over HTTP and the event stream: for the commands of `python -m service`."""

from __future__ import annotations

import contextlib
import http.client
import json
from collections.abc import Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

SILENCE_S = 60.0
"""A connection that says nothing, not even a heartbeat, for so long is dead."""


class ClientError(Exception):
    """The service refused, in one line."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One event as it was received. `id` is empty if it had none, `data` if it only moves the cursor."""

    event: str
    data: str
    id: str


def decode(lines: Iterable[bytes]) -> Iterator[Frame]:
    """Server-sent events from lines; what is cut off before its blank line is dropped, as the
    specification has it."""
    event, event_id, data = "message", "", list[str]()
    for raw in lines:
        line = raw.decode("utf-8", "replace").rstrip("\r\n")
        if not line:
            if data or event_id:
                yield Frame(event, "\n".join(data), event_id)
            event, event_id, data = "message", "", []
            continue
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "event":
            event = value
        elif name == "data":
            data.append(value)
        elif name == "id":
            event_id = value


class Client:
    """A Headway at a URL."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ClientError(f"{url!r} is not an http:// or https:// URL")
        self.url = url.rstrip("/")
        self._secure = parts.scheme == "https"
        self._host, self._port, self._base = parts.hostname, parts.port, parts.path.rstrip("/")

    @contextlib.contextmanager
    def request(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> Iterator[http.client.HTTPResponse]:
        kind = http.client.HTTPSConnection if self._secure else http.client.HTTPConnection
        connection = kind(self._host, self._port, timeout=SILENCE_S)
        text = None if body is None else json.dumps(body)
        headers = {"Content-Type": "application/json", **(headers or {})}
        try:
            try:
                connection.request(method, self._base + path, text, headers)
                response = connection.getresponse()
            except (OSError, http.client.HTTPException) as error:
                raise ClientError(f"{self.url} does not answer: {error or type(error).__name__}") from None
            with response:
                yield response
        finally:
            connection.close()

    def json(self, method: str, path: str, body: Any = None) -> Any:
        """The decoded answer. Raises ClientError for a status that is no success."""
        with self.request(method, path, body) as response:
            answer = response.read()
            if response.status >= 300:
                raise ClientError(f"{method} {path}: {response.status} {_detail(answer)}")
            return json.loads(answer)

    def events(self, job_id: str, cursor: str) -> Generator[Frame, None, None]:
        """The events after the cursor, until the server closes. Close the iterator to cut the stream."""
        headers = {"Accept": "text/event-stream", "Last-Event-ID": cursor}
        with self.request("GET", f"/jobs/{job_id}/events", headers=headers) as response:
            if response.status == 204:
                return
            if response.status != 200:
                raise ClientError(f"the stream was refused: {response.status} {_detail(response.read())}")
            yield from decode(iter(response.readline, b""))


def _detail(body: bytes) -> str:
    try:
        return str(json.loads(body)["detail"])
    except (ValueError, LookupError, TypeError):
        return body[:200].decode("utf-8", "replace")

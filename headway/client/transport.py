"""A server at a URL: one request, one connection, one answer.

On the standard library's http.client: the service speaks plain HTTP/1.1, a stream needs its socket's
time limit changed while it is read, and a command must not wait for a library to load.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import random
import selectors
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import quote, urlsplit

from headway.client.errors import BadAnswer, ClientError, Unavailable, Unreachable, problem

ANSWER_S = 30.0
"""How long an answer, or the next piece of it, may take."""
PATIENCE_S = 20.0
"""How long a request is repeated whose answer was lost."""
BASE_S = 1.0
LIMIT_S = 30.0
CHUNK = 1 << 16


class Backoff:
    """How long to wait after the first failure in a row, the second, …: anywhere below a limit that
    doubles ("full jitter"), so that those who lost the same server do not come back together."""

    def __init__(self) -> None:
        self.failures = 0

    def next_s(self) -> float:
        limit = min(LIMIT_S, BASE_S * 2.0 ** min(self.failures, 16))
        self.failures += 1
        return random.uniform(0, limit)  # noqa: S311

    def reset(self) -> None:
        self.failures = 0


Body = Callable[[], Iterator[bytes]]
"""What a request sends, from its beginning each time it is called."""


class Answer:
    """An answer whose body is still to come."""

    def __init__(self, url: str, response: http.client.HTTPResponse, sock: socket.socket) -> None:
        self._url = url
        self._response = response
        self._socket = sock
        self.status = response.status
        length = response.getheader("Content-Length", "")
        self.length = int(length) if length.isascii() and length.isdigit() and len(length) < 19 else None
        """Of the body, in bytes, if it was said."""

    def header(self, name: str) -> str | None:
        return self._response.getheader(name)

    def limit(self, seconds: float) -> None:
        """How long the next read may take."""
        self._socket.settimeout(max(seconds, 0.001))

    def read(self) -> bytes:
        """What is there, at least a byte; b"" at the end. Raises TimeoutError, Unreachable."""
        try:
            return self._response.read1(CHUNK)
        except TimeoutError:
            raise
        except (OSError, http.client.HTTPException) as error:
            raise self._broke_off(error) from None

    def read_or_give_up(self) -> bytes:
        """The same, but a pause that is too long is an answer that broke off. Raises Unreachable."""
        try:
            return self.read()
        except TimeoutError as error:
            raise self._broke_off(error) from None

    def all(self) -> bytes:
        """The whole body. Raises Unreachable."""
        try:
            return self._response.read()
        except (OSError, http.client.HTTPException) as error:
            raise self._broke_off(error) from None

    def expect(self, *statuses: int) -> None:
        """Raises Problem for any other status."""
        if self.status not in statuses:
            raise problem(self.status, self.all(), self.header("Retry-After"), self.header("Location"))

    def _broke_off(self, error: Exception) -> Unreachable:
        return Unreachable(f"{self._url} broke off: {_words(error)}", sent=True)


class Server:
    """Holds no connection, so that it can be shared by threads."""

    def __init__(self, url: str) -> None:
        try:
            parts = urlsplit(url)
            self._port = parts.port
        except ValueError:
            parts = urlsplit("")
        fits = parts.scheme in ("http", "https") and not (parts.query or parts.fragment or parts.username)
        if not fits or not parts.hostname or not url.isascii() or not url.isprintable() or " " in url:
            raise ClientError(f"{url!r} is no URL of a service, like http://127.0.0.1:8000")
        self.url = url.rstrip("/")
        self.reached = False
        """Whether it ever answered."""
        self._secure = parts.scheme == "https"
        self._host, self._base = parts.hostname, parts.path.rstrip("/")

    @contextlib.contextmanager
    def request(
        self,
        method: str,
        path: str,
        *,
        body: Body | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float = ANSWER_S,
    ) -> Iterator[Answer]:
        """Ask once; leaving the block closes the connection. Raises Unreachable."""
        kind = http.client.HTTPSConnection if self._secure else http.client.HTTPConnection
        connection = kind(self._host, self._port, timeout=timeout_s)
        try:
            try:
                connection.connect()
            except (OSError, UnicodeError, http.client.HTTPException) as error:
                raise Unreachable(f"{self.url} does not answer: {_words(error)}", sent=False) from None
            sock = connection.sock
            try:
                # It answers before it has all when that is too much, and may then hear no more.
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    sent = self._until_answered(body(), sock) if body else None
                    connection.request(method, self._base + path, sent, dict(headers or {}))
                response = connection.getresponse()
            except (OSError, http.client.HTTPException) as error:
                raise Unreachable(f"{self.url} did not answer: {_words(error)}", sent=True) from None
            self.reached = True
            with response:
                yield Answer(self.url, response, sock)
        finally:
            connection.close()

    def json(
        self,
        method: str,
        path: str,
        value: Any = None,
        *,
        body: Body | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        """The decoded answer. Asked for again, for PATIENCE_S, if it was lost or was that it does not work
        now: what is asked must be harmless to repeat. Raises Problem, Unreachable, BadAnswer."""
        headers = dict(headers or {})
        if value is not None:
            text = json.dumps(value).encode()
            headers |= {"Content-Type": "application/json", "Content-Length": str(len(text))}
            body = lambda: iter((text,))  # noqa: E731
        elif body is None and method != "GET":
            headers["Content-Length"] = "0"

        def once() -> Any:
            with self.request(method, path, body=body, headers=headers) as answer:
                answer.expect(200, 201, 202)
                return self.decoded(answer.all())

        return repeated(once)

    def _until_answered(self, body: Iterator[bytes], sock: socket.socket) -> Iterator[bytes]:
        """The body, as long as nobody answers: who sends on may hear of a reset and not of the reason."""
        with selectors.DefaultSelector() as selector:
            selector.register(sock, selectors.EVENT_READ)
            for chunk in body:
                # TLS has things of its own to say while a body is sent.
                if not self._secure and selector.select(0):
                    return
                yield chunk

    def decoded(self, text: bytes) -> Any:
        """Raises BadAnswer."""
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            raise BadAnswer(f"{self.url} does not answer as a Headway does") from None


def repeated(once: Callable[[], Any]) -> Any:
    """Do something harmless again while its answer gets lost. A server that was never reached raises at
    once: nothing was begun."""
    backoff = Backoff()
    until = time.monotonic() + PATIENCE_S
    while True:
        try:
            return once()
        except Unreachable as error:
            if not error.sent and backoff.failures == 0:
                raise
            delay = backoff.next_s()
            if time.monotonic() + delay > until:
                raise
        except Unavailable as error:
            delay = (error.retry_after_s or 0.0) + backoff.next_s()
            if time.monotonic() + delay > until:
                raise
        time.sleep(delay)


def path(*parts: str) -> str:
    """Each part is a segment of it, whatever is in there."""
    return "".join("/" + quote(part, safe="", errors="replace") for part in parts)


def _words(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "it took too long"
    if isinstance(error, http.client.RemoteDisconnected):
        return "the connection was closed"
    if isinstance(error, http.client.IncompleteRead):
        return "the answer is not whole"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__

"""Transport: one request, one connection, one response.

It uses the standard library's http.client: the service speaks HTTP/1.1, a stream needs its socket's timeout
changed while it is read, and a command must start fast.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import selectors
import socket
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import quote, urlsplit

from headway.client.errors import BadAnswer, ClientError, Unreachable, problem
from headway.client.retrying import repeated

ANSWER_S = 30.0
"""How long a response, or the next piece of it, may take."""
CHUNK = 1 << 16
NEVER_BARE = (404, 405, 501)
"""Statuses that a Headway explains in a JSON body, and that no proxy in front of one makes up."""


Body = Callable[[], Iterator[bytes]]
"""Returns the body of a request, from its beginning at each call."""


class Response:
    """A response whose body is still to be read."""

    def __init__(self, url: str, response: http.client.HTTPResponse, sock: socket.socket) -> None:
        self._url = url
        self._response = response
        self._socket = sock
        self.status = response.status
        length = response.getheader("Content-Length", "")
        self.length = int(length) if length.isascii() and length.isdigit() and len(length) < 19 else None
        """Bytes of the body, if the server said so."""

    def header(self, name: str) -> str | None:
        return self._response.getheader(name)

    def limit(self, seconds: float) -> None:
        """Limit how long the next read may take."""
        self._socket.settimeout(max(seconds, 0.001))

    def read(self) -> bytes:
        """Return what has arrived, at least a byte; b"" at the end. Raises TimeoutError, Unreachable."""
        try:
            return self._response.read1(CHUNK)
        except TimeoutError:
            raise
        except (OSError, http.client.HTTPException) as error:
            raise self._broke_off(error) from None

    def read_or_give_up(self) -> bytes:
        """Like `read`, but raises Unreachable for a pause that is too long, too."""
        try:
            return self.read()
        except TimeoutError as error:
            raise self._broke_off(error) from None

    def all(self) -> bytes:
        """Return the whole body. Raises Unreachable."""
        try:
            return self._response.read()
        except (OSError, http.client.HTTPException) as error:
            raise self._broke_off(error) from None

    def expect(self, *statuses: int) -> None:
        """Raises Problem for any other status; BadAnswer if it cannot come from a Headway."""
        if self.status not in statuses:
            body = self.all()
            if self.status in NEVER_BARE and not body.lstrip().startswith(b"{"):
                raise BadAnswer(f"{self._url} is not a Headway: {self.status} {self._response.reason}")
            raise problem(self.status, body, self.header("Retry-After"), self.header("Location"))

    def _broke_off(self, error: Exception) -> Unreachable:
        return Unreachable(f"{self._url} broke off: {reason_of(error)}", sent=True)


class Transport:
    """Sends requests to the server at a URL. Holds no connection, so threads can share it."""

    def __init__(self, url: str, token: str = "") -> None:
        """`token` is sent as a bearer credential, if there is one."""
        if not token.isascii() or not token.isprintable() or " " in token:
            raise ClientError("the token is not a key or token: it has characters that none has")
        self._credential = {"Authorization": f"Bearer {token}"} if token else {}
        try:
            parts = urlsplit(url)
            self._port = parts.port
        except ValueError:
            parts = urlsplit("")
        fits = parts.scheme in ("http", "https") and not (parts.query or parts.fragment or parts.username)
        if not fits or not parts.hostname or not url.isascii() or not url.isprintable() or " " in url:
            raise ClientError(f"{url!r} is not the URL of a Headway, such as http://127.0.0.1:8000")
        self.url = url.rstrip("/")
        self.reached = False
        """Whether the server ever answered."""
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
    ) -> Iterator[Response]:
        """Send a request once; leaving the block closes the connection. Raises Unreachable, BadAnswer."""
        kind = http.client.HTTPSConnection if self._secure else http.client.HTTPConnection
        connection = kind(self._host, self._port, timeout=timeout_s)
        try:
            try:
                connection.connect()
            except (OSError, UnicodeError, http.client.HTTPException) as error:
                raise Unreachable(f"{self.url} does not answer: {reason_of(error)}", sent=False) from None
            sock = connection.sock
            try:
                # The server answers early when the body is too large, and may then stop reading.
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    sent = self._until_answered(body(), sock) if body else None
                    connection.request(
                        method, self._base + path, sent, {**self._credential, **(headers or {})}
                    )
                response = connection.getresponse()
            except http.client.RemoteDisconnected as error:
                raise Unreachable(f"{self.url} did not answer: {reason_of(error)}", sent=True) from None
            except http.client.BadStatusLine:
                raise BadAnswer(f"{self.url} is not a Headway: it does not speak HTTP") from None
            except (OSError, http.client.HTTPException) as error:
                raise Unreachable(f"{self.url} did not answer: {reason_of(error)}", sent=True) from None
            self.reached = True
            with response:
                yield Response(self.url, response, sock)
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
        timeout_s: float = ANSWER_S,
    ) -> Any:
        """Send a request and return the decoded response, None if it has no body.

        Raises Problem, Unreachable, BadAnswer. Retried for PATIENCE_S if the answer is lost or is 429 or
        5xx, so the request must be idempotent.
        """
        headers = dict(headers or {})
        if value is not None:
            text = json.dumps(value).encode()
            headers |= {"Content-Type": "application/json", "Content-Length": str(len(text))}
            body = lambda: iter((text,))  # noqa: E731
        elif body is None and method != "GET":
            headers["Content-Length"] = "0"

        def once() -> Any:
            with self.request(method, path, body=body, headers=headers, timeout_s=timeout_s) as answer:
                answer.expect(200, 201, 202, 204)
                return None if answer.status == 204 else self.decoded(answer.all())

        return repeated(once)

    def _until_answered(self, body: Iterator[bytes], sock: socket.socket) -> Iterator[bytes]:
        """Yield the body until the server answers: sending on could turn its error into a reset."""
        with selectors.DefaultSelector() as selector:
            selector.register(sock, selectors.EVENT_READ)
            for chunk in body:
                # Under TLS, readable does not mean answered.
                if not self._secure and selector.select(0):
                    return
                yield chunk

    def decoded(self, text: bytes) -> Any:
        """Return the JSON value. Raises BadAnswer."""
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            raise BadAnswer(f"{self.url} is not a Headway: its answer is not JSON") from None


def path(*parts: str) -> str:
    """Return a path with each part as one segment, whatever it contains."""
    return "".join("/" + quote(part, safe="", errors="replace") for part in parts)


def reason_of(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "it took too long"
    if isinstance(error, http.client.RemoteDisconnected):
        return "the connection was closed"
    if isinstance(error, http.client.IncompleteRead):
        return "the answer is not whole"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__

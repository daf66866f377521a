"""Transport: one request, one connection, one response; what all transports have in common."""

from __future__ import annotations

import contextlib
import json
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, TypeVar
from urllib.parse import quote, urljoin, urlsplit

from headway.client.errors import BadAnswer, ClientError, Unreachable, problem
from headway.client.retrying import repeated

ANSWER_S = 30.0
"""How long a response, or the next piece of it, may take."""
CHUNK = 1 << 16
REDIRECTS = (301, 302, 303, 307, 308)
NEVER_BARE = (404, 405, 501)
"""Statuses that a Headway explains in a JSON body, and that no proxy in front of one makes up."""

T = TypeVar("T")

Body = Callable[[], AsyncGenerator[bytes, None]]
"""Returns the body of a request, from its beginning at each call."""
Token = str | Callable[[], str | Awaitable[str]]
"""A credential, or a function that returns one: it is called before the first request, and after a 401."""


class Response(ABC):
    """A response whose body is still to be read."""

    def __init__(self, url: str, status: int, length: str) -> None:
        self._url = url
        self.status = status
        self.length = int(length) if length.isascii() and length.isdigit() and len(length) < 19 else None
        """Bytes of the body, if the server said so."""

    @abstractmethod
    def header(self, name: str) -> str | None: ...

    @abstractmethod
    def limit(self, seconds: float) -> None:
        """Limit how long the next read may take."""

    @abstractmethod
    async def read(self) -> bytes:
        """Return what has arrived, at least a byte; b"" at the end. Raises TimeoutError, Unreachable."""

    @abstractmethod
    async def all(self) -> bytes:
        """Return the whole body. Raises Unreachable."""

    async def read_or_give_up(self) -> bytes:
        """Like `read`, but raises Unreachable for a pause that is too long, too."""
        try:
            return await self.read()
        except TimeoutError:
            raise self._broke_off("it took too long") from None

    async def expect(self, *statuses: int) -> None:
        """Check the status. Raises Problem for any other; BadAnswer if that cannot come from a
        Headway."""
        if self.status not in statuses:
            body = await self.all()
            if self.status in NEVER_BARE and not body.lstrip().startswith(b"{"):
                raise BadAnswer(f"{self._url} is not a Headway: {self.status} {self._reason}")
            raise problem(self.status, body, self.header("Retry-After"), self.header("Location"))

    @property
    @abstractmethod
    def _reason(self) -> str:
        """The reason phrase of the status line."""

    def _broke_off(self, why: str) -> Unreachable:
        return Unreachable(f"{self._url} broke off: {why}", sent=True)


class Transport(ABC):
    """Sends requests to the server at a URL. Holds no connection, so threads or tasks can share it."""

    def __init__(self, url: str, token: Token = "") -> None:
        """`token` is sent as a bearer credential, if there is one."""
        self._token = token
        self._credential = None if callable(token) else bearer(token)
        try:
            parts = urlsplit(url)
            self._port = parts.port
        except ValueError:
            parts = urlsplit("")
        fits = parts.scheme in ("http", "https") and not (parts.query or parts.fragment or "@" in url)
        if not fits or not parts.hostname or not url.isascii() or not url.isprintable() or " " in url:
            # It is not quoted, as it may hold a password; one that is taken may be in every message.
            raise ClientError(
                "the address is not the URL of a Headway, such as http://127.0.0.1:8000, without a user"
            )
        self.url = url.rstrip("/")
        self.reached = False
        """Whether the server ever answered."""
        self._secure = parts.scheme == "https"
        self._host, self._base = parts.hostname, parts.path.rstrip("/")

    @abstractmethod
    def _exchange(
        self, method: str, path: str, body: Body | None, headers: Mapping[str, str], timeout_s: float
    ) -> contextlib.AbstractAsyncContextManager[Response]:
        """Send a request once; leaving the block closes the connection. Raises Unreachable, BadAnswer."""

    @abstractmethod
    async def sleep(self, seconds: float) -> None: ...

    @abstractmethod
    async def off_loop(self, work: Callable[[], T]) -> T:
        """Return what `work` returns, which may wait for a disk."""

    @abstractmethod
    def lock(self) -> contextlib.AbstractAsyncContextManager[object]:
        """Return a lock for what threads, or tasks, share."""

    @contextlib.asynccontextmanager
    async def request(
        self,
        method: str,
        path: str,
        *,
        body: Body | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float = ANSWER_S,
    ) -> AsyncIterator[Response]:
        """Send a request, with another credential after a 401 if there is a function for it; leaving the
        block closes the connection. Raises Unreachable, BadAnswer."""
        if self._credential is None:
            self._credential = await self._asked()
        used = self._credential
        async with self._exchange(method, path, body, {**used, **(headers or {})}, timeout_s) as response:
            self.reached = True
            if response.status != 401 or not callable(self._token):
                yield response
                return
        if self._credential is used:  # no other request has asked meanwhile
            self._credential = await self._asked()
        again = {**self._credential, **(headers or {})}
        async with self._exchange(method, path, body, again, timeout_s) as response:
            yield response

    @contextlib.asynccontextmanager
    async def fetch(
        self, path: str, *, headers: Mapping[str, str] | None = None
    ) -> AsyncIterator[Response]:
        """Like `request` with GET, but follows one redirect to where a file lies. The credential is sent to
        no other server."""
        async with self.request("GET", path, headers=headers) as answer:
            if answer.status not in REDIRECTS:
                yield answer
                return
            there = urlsplit(urljoin(self.url, answer.header("Location") or ""))
        origin = f"{there.scheme}://{there.netloc}"
        ours = urlsplit(self.url)
        elsewhere = type(self)(origin, self._token if origin == f"{ours.scheme}://{ours.netloc}" else "")
        query = f"?{there.query}" if there.query else ""
        async with elsewhere.request("GET", there.path + query, headers=headers) as answer:
            yield answer

    async def json(
        self,
        method: str,
        path: str,
        value: Any = None,
        *,
        body: Body | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float = ANSWER_S,
        repeat: bool = True,
    ) -> Any:
        """Send a request and return the decoded response, None if it has no body.

        Raises Problem, Unreachable, BadAnswer. With `repeat`, retried for PATIENCE_S if the answer is lost
        or is 429 or 5xx, so the request must be idempotent then.
        """
        headers = dict(headers or {})
        if value is not None:
            text = json.dumps(value).encode()
            headers |= {"Content-Type": "application/json", "Content-Length": str(len(text))}

            async def body() -> AsyncGenerator[bytes, None]:
                yield text

        elif body is None and method != "GET":
            headers["Content-Length"] = "0"

        async def once() -> Any:
            async with self.request(
                method, path, body=body, headers=headers, timeout_s=timeout_s
            ) as answer:
                await answer.expect(200, 201, 202, 204)
                text = b"" if answer.status == 204 else await answer.all()
                return None if not text and answer.status in (202, 204) else self.decoded(text)

        return await (repeated(once, self.sleep) if repeat else once())

    def decoded(self, text: bytes) -> Any:
        """Return the JSON value. Raises BadAnswer."""
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            raise BadAnswer(f"{self.url} is not a Headway: its answer is not JSON") from None

    async def _asked(self) -> dict[str, str]:
        assert callable(self._token)  # noqa: S101
        token = self._token()
        return bearer(token if isinstance(token, str) else await token)


def bearer(token: str) -> dict[str, str]:
    """Return the header that carries the token; none for an empty one. Raises ClientError."""
    if not token.isascii() or not token.isprintable() or " " in token:
        raise ClientError("the token is not a key or token: it has characters that none has")
    return {"Authorization": f"Bearer {token}"} if token else {}


def path(*parts: str) -> str:
    """Return a path with each part as one segment, whatever it contains."""
    return "".join("/" + _segment(part) for part in parts)


def _segment(part: str) -> str:
    # One of dots alone would lead elsewhere.
    return quote(part, safe="", errors="replace") if part.strip(".") else "%2E" * len(part)

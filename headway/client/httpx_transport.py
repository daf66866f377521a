"""HttpxTransport: requests by httpx, under asyncio.

The standard library has no HTTP client that does. One connection per request, as BlockingTransport has:
nothing is shared between event loops, and what a canceled task leaves is closed with its request.
"""

from __future__ import annotations

import contextlib
import os
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from typing import Any

from headway.client.driving import T
from headway.client.errors import BadAnswer, Unreachable
from headway.client.transport import ANSWER_S, Body, Response, Token, Transport

try:
    import anyio
    import anyio.to_thread
    import httpcore
    import httpx
except ImportError as error:
    raise ImportError(f"AsyncClient needs {error.name}: pip install 'headway[async]'") from None

NO_HTTP = "illegal status line"
"""What h11 says of an answer that is not HTTP."""


class HttpxResponse(Response):
    def __init__(self, url: str, response: httpx.Response) -> None:
        super().__init__(url, response.status_code, response.headers.get("Content-Length", ""))
        self._response = response
        # The time is limited here, where it can be changed while the body is read.
        response.request.extensions["timeout"]["read"] = None
        self._chunks = response.aiter_raw()
        self._limit_s = ANSWER_S

    def header(self, name: str) -> str | None:
        found: str | None = self._response.headers.get(name)
        return found

    def limit(self, seconds: float) -> None:
        self._limit_s = seconds

    async def read(self) -> bytes:
        try:
            with anyio.fail_after(self._limit_s):
                return await anext(self._chunks, b"")
        except httpx.TransportError as error:
            raise self._broke_off(reason_of(error)) from None

    async def all(self) -> bytes:
        pieces = []
        while piece := await self.read_or_give_up():
            pieces.append(piece)
        return b"".join(pieces)

    async def aclose(self) -> None:
        await self._chunks.aclose()  # type: ignore[attr-defined]
        await self._response.aclose()

    @property
    def _reason(self) -> str:
        return self._response.reason_phrase


class HttpxTransport(Transport):
    def __init__(self, url: str, token: Token = "") -> None:
        super().__init__(url, token)
        self._httpx = httpx.AsyncClient(
            # What BlockingTransport trusts too: the machine's authorities, and no proxy of the environment.
            verify=ssl.create_default_context() if self._secure else False,
            trust_env=False,
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=0),
        )
        self._httpx.headers = httpx.Headers({"Accept-Encoding": "identity"})

    @contextlib.asynccontextmanager
    async def _exchange(
        self, method: str, path: str, body: Body | None, headers: Mapping[str, str], timeout_s: float
    ) -> AsyncIterator[Response]:
        connection: list[httpcore.AsyncNetworkStream] = []

        async def trace(event: str, details: dict[str, Any]) -> None:
            if event == "connection.connect_tcp.complete" and not self._secure:
                connection.append(details["return_value"])

        request = self._httpx.build_request(
            method,
            self.url + path,
            content=_until_answered(body(), connection) if body else None,
            headers=dict(headers),
            timeout=timeout_s,
            extensions={"trace": trace},
        )
        try:
            response = await self._httpx.send(request, stream=True)
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise Unreachable(f"{self.url} does not answer: {reason_of(error)}", sent=False) from None
        except httpx.TransportError as error:
            if NO_HTTP in str(error):
                raise BadAnswer(f"{self.url} is not a Headway: it does not speak HTTP") from None
            raise Unreachable(f"{self.url} did not answer: {reason_of(error)}", sent=True) from None
        answer = HttpxResponse(self.url, response)
        try:
            yield answer
        finally:
            with anyio.CancelScope(shield=True):
                await answer.aclose()

    async def sleep(self, seconds: float) -> None:
        await anyio.sleep(seconds)

    async def off_loop(self, work: Callable[[], T]) -> T:
        return await anyio.to_thread.run_sync(work)

    def lock(self) -> contextlib.AbstractAsyncContextManager[object]:
        return anyio.Lock()


async def _until_answered(
    chunks: AsyncGenerator[bytes, None], connection: list[httpcore.AsyncNetworkStream]
) -> AsyncGenerator[bytes, None]:
    """Yield the body until the server answers: sending on could turn its error into a reset.

    Under TLS, where readable does not mean answered, `connection` is empty.
    """
    async with contextlib.aclosing(chunks):
        async for chunk in chunks:
            if connection and connection[0].get_extra_info("is_readable"):
                # After a failed write, httpcore reads what the server has said.
                raise httpcore.WriteError("it has answered already")
            yield chunk


def reason_of(error: Exception) -> str:
    """Return why a request failed, in words: those of the operating system, if it has any."""
    if isinstance(error, httpx.TimeoutException):
        return "it took too long"
    cause: BaseException | None = error
    while cause is not None:
        # asyncio has words of its own for a refused connection, and a failed look-up has no errno above 0.
        if isinstance(cause, OSError) and cause.errno:
            return os.strerror(cause.errno) if cause.errno > 0 else str(cause.strerror)
        cause = cause.__cause__ or cause.__context__
    return str(error) or type(error).__name__

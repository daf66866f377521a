"""BlockingTransport: requests by the standard library's http.client.

The service speaks HTTP/1.1, a stream needs its socket's timeout changed while it is read, and a command
must start fast. Its coroutines never suspend, so they are run by `driving`.
"""

from __future__ import annotations

import contextlib
import http.client
import selectors
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping

from headway.client.driving import T, each
from headway.client.errors import BadAnswer, Unreachable
from headway.client.transport import CHUNK, Body, Response, Transport


class BlockingResponse(Response):
    def __init__(self, url: str, response: http.client.HTTPResponse, sock: socket.socket) -> None:
        super().__init__(url, response.status, response.getheader("Content-Length", ""))
        self._response = response
        self._socket = sock

    def header(self, name: str) -> str | None:
        return self._response.getheader(name)

    def limit(self, seconds: float) -> None:
        self._socket.settimeout(max(seconds, 0.001))

    async def read(self) -> bytes:
        try:
            return self._response.read1(CHUNK)
        except TimeoutError:
            raise
        except (OSError, http.client.HTTPException) as error:
            raise self._broke_off(reason_of(error)) from None

    async def all(self) -> bytes:
        try:
            return self._response.read()
        except (OSError, http.client.HTTPException) as error:
            raise self._broke_off(reason_of(error)) from None

    @property
    def _reason(self) -> str:
        return self._response.reason


class BlockingTransport(Transport):
    @contextlib.asynccontextmanager
    async def _exchange(
        self, method: str, path: str, body: Body | None, headers: Mapping[str, str], timeout_s: float
    ) -> AsyncIterator[Response]:
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
                    sent = self._until_answered(body, sock) if body else None
                    connection.request(method, self._base + path, sent, dict(headers))
                response = connection.getresponse()
            except http.client.RemoteDisconnected as error:
                raise Unreachable(f"{self.url} did not answer: {reason_of(error)}", sent=True) from None
            except http.client.BadStatusLine:
                raise BadAnswer(f"{self.url} is not a Headway: it does not speak HTTP") from None
            except (OSError, http.client.HTTPException) as error:
                raise Unreachable(f"{self.url} did not answer: {reason_of(error)}", sent=True) from None
            with response:
                yield BlockingResponse(self.url, response, sock)
        finally:
            connection.close()

    async def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    async def off_loop(self, work: Callable[[], T]) -> T:
        return work()

    def lock(self) -> contextlib.AbstractAsyncContextManager[object]:
        return _ThreadLock()

    def _until_answered(self, body: Body, sock: socket.socket) -> Iterator[bytes]:
        """Yield the body until the server answers: sending on could turn its error into a reset."""
        with selectors.DefaultSelector() as selector, contextlib.closing(each(body())) as chunks:
            selector.register(sock, selectors.EVENT_READ)
            for chunk in chunks:
                # Under TLS, readable does not mean answered.
                if not self._secure and selector.select(0):
                    return
                yield chunk


class _ThreadLock:
    def __init__(self) -> None:
        self._lock = threading.Lock()

    async def __aenter__(self) -> None:
        self._lock.acquire()

    async def __aexit__(self, *_: object) -> None:
        self._lock.release()


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

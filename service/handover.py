"""The shell around the application that recognises an event stream and hands its socket to the hub.

As servers recognise `wsgi.file_wrapper`: what the application returns is an ordinary iterable, and
whoever knows better ways to send it takes them.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterable
from typing import Any, TypeGuard
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from gunicorn.workers.base_async import ALREADY_HANDLED

from service.sockets import Sockets
from service.streams import EventStream

HANDED_OVER = "headway.handed_over"
"""In the environ of a request whose connection is not gunicorn's any more."""


class HandOver:
    """WSGI middleware. Streams it cannot hand over (TLS, HTTP/2, another server) are iterated."""

    def __init__(self, app: WSGIApplication, sockets: Sockets) -> None:
        self._app = app
        self._sockets = sockets

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        answer: list[Any] = []

        def hold(status: str, headers: list[tuple[str, str]], exc_info: Any = None, /) -> Any:
            answer[:] = [status, headers]
            if exc_info:
                return start_response(status, headers, exc_info)
            return _no_write

        body = self._app(environ, hold)
        sock = environ.get("gunicorn.socket")
        over_http2 = environ.get("HTTP_VERSION") == "2"
        if not isinstance(body, EventStream) or not _is_plain(sock) or over_http2:
            start_response(*answer)
            return body
        try:
            body.hand_over(self._sockets, sock, _head(*answer))
        finally:
            body.close()
        environ[HANDED_OVER] = True
        return ALREADY_HANDLED  # type: ignore[no-any-return]


def _is_plain(sock: object) -> TypeGuard[socket.socket]:
    return isinstance(sock, socket.socket) and not isinstance(sock, ssl.SSLSocket)


def _head(status: str, headers: list[tuple[str, str]]) -> bytes:
    """The response's head. Its end is the connection's: no chunks, 8 bytes less an event."""
    lines = [f"HTTP/1.1 {status}", *(f"{name}: {value}" for name, value in headers), "Connection: close"]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def _no_write(_: bytes) -> None:
    raise RuntimeError("the application must not use the write callable")

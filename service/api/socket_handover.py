"""The shell around the application that recognises an event stream and hands its socket to the hub.

As servers recognise `wsgi.file_wrapper`: what the application returns is an ordinary iterable, and
whoever knows better ways to send it takes them.
"""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import Iterable
from functools import lru_cache
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from gunicorn.workers.base_async import ALREADY_HANDLED
from pydantic import ValidationError
from werkzeug.wrappers import Request

from service.api.client_address import address
from service.api.context import Context
from service.api.events import JobWatching
from service.api.gate import HEADERS, Headers, merged
from service.streaming import sse
from service.streaming.catchup import JobCatchUp, JobGone
from service.streaming.opening import (
    BadRequest,
    EventStream,
    StreamLimitReached,
    StreamRequest,
    open_stream,
)
from service.streaming.sockets import Sockets

_JOB_EVENTS = re.compile(r"/jobs/([A-Za-z0-9_-]+)/events")

_DEFAULTS = JobWatching()
HANDED_OVER = "headway.handed_over"
"""In the environ of a request whose connection is not gunicorn's any more."""


class HandOver:
    """WSGI middleware. Streams it cannot hand over (TLS, HTTP/2, another server) are iterated."""

    def __init__(self, app: WSGIApplication, sockets: Sockets, here: Context) -> None:
        self._app = app
        self._sockets = sockets
        self._here = here

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        shortcut = self._shortcut(environ)
        if shortcut is not None:
            return self._hand_over(shortcut, environ, "200 OK", _SHORTCUT_HEADERS)
        answer: list[Any] = []

        def hold(status: str, headers: list[tuple[str, str]], exc_info: Any = None, /) -> Any:
            answer[:] = [status, headers]
            if exc_info:
                return start_response(status, headers, exc_info)
            return _no_write

        body = self._app(environ, hold)
        if not isinstance(body, EventStream) or not _can_be_handed_over(environ):
            start_response(*answer)
            return body
        return self._hand_over(body, environ, *answer)

    def _hand_over(
        self, stream: EventStream, environ: WSGIEnvironment, status: str, headers: list[tuple[str, str]]
    ) -> Iterable[bytes]:
        # Its head does not pass through the gate on its way out.
        head = _head(status, tuple(merged(headers, environ.get(HEADERS, ()))))
        try:
            stream.hand_over(self._sockets, environ["gunicorn.socket"], head)
        finally:
            stream.close()
        environ[HANDED_OVER] = True
        return ALREADY_HANDLED  # type: ignore[no-any-return]

    def _shortcut(self, environ: WSGIEnvironment) -> EventStream | None:
        """The stream of one job without the detour through Flask, which takes longer than all else:
        10,000 readers may come back at once. What is not plain success is None, and Flask's to answer."""
        path = _JOB_EVENTS.fullmatch(environ.get("PATH_INFO", ""))
        if (
            path is None
            or environ.get("REQUEST_METHOD") != "GET"
            or "json" in environ.get("HTTP_ACCEPT", "")
            or not self._here.store.keys.holds(path[1])
            or not _can_be_handed_over(environ)
        ):
            return None
        query = _DEFAULTS
        if environ.get("QUERY_STRING"):
            try:
                query = JobWatching.of(Request(environ).args)
            except ValidationError:
                return None
        ask = StreamRequest(
            caller=address(environ),
            header=environ.get("HTTP_LAST_EVENT_ID", "").strip(),
            last_event_id=query.last_event_id,
            heartbeat=query.heartbeat,
        )
        try:
            here = self._here
            catchup = JobCatchUp(here.reader, path[1])
            return open_stream(here.hub, here.limits, here.settings.heartbeat_s, catchup, ask)
        except (StreamLimitReached, BadRequest, JobGone):
            return None


def _can_be_handed_over(environ: WSGIEnvironment) -> bool:
    sock = environ.get("gunicorn.socket")
    return (
        isinstance(sock, socket.socket)
        and not isinstance(sock, ssl.SSLSocket)
        and environ.get("HTTP_VERSION") != "2"
    )


@lru_cache(maxsize=64)
def _head(status: str, headers: Headers) -> bytes:
    """The response's head. Its end is the connection's: no chunks, 8 bytes less an event."""
    lines = [f"HTTP/1.1 {status}", *(f"{name}: {value}" for name, value in headers), "Connection: close"]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def _no_write(_: bytes) -> None:
    raise RuntimeError("the application must not use the write callable")


_SHORTCUT_HEADERS = [*sse.HEADERS.items(), ("Content-Type", sse.CONTENT_TYPE)]

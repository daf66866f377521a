"""WSGI middleware that recognises an event stream and hands its socket to the hub.

As servers recognise `wsgi.file_wrapper`: what the application returns is an ordinary iterable, and a
server that knows a better way to send it takes that. Here it is gunicorn's gevent worker on Linux.
"""

from __future__ import annotations

import re
import socket
import ssl
import sys
from collections.abc import Iterable
from functools import lru_cache
from http import HTTPStatus
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

import redis
from gunicorn.workers.base_async import ALREADY_HANDLED
from pydantic import ValidationError
from werkzeug.wrappers import Request

from service.api.context import Context
from service.api.events import JobWatching, StreamAnswer, answer_stream
from service.api.gate import HEADERS, Headers, merged
from service.api.problems import Problem
from service.streaming.catchup import JobCatchUp, JobGone
from service.streaming.opening import EventStream
from service.streaming.primitives import cooperative
from service.streaming.stream_limits import Holder

_JOB_EVENTS = re.compile(r"/jobs/([A-Za-z0-9_-]+)/events")
_ROUTE = "GET /jobs/<job_id>/events"
_DEFAULTS = JobWatching()

HANDED_OVER = "headway.handed_over"
"""In the environ of a request whose connection is not gunicorn's any more."""


class HandOver:
    """Streams it cannot hand over (TLS, HTTP/2, another server or platform) are iterated."""

    def __init__(self, app: WSGIApplication, here: Context) -> None:
        self._app = app
        self._here = here

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if not _can_be_handed_over(environ):
            return self._app(environ, start_response)
        answer = self._shortcut(environ)
        if answer is not None:
            headers = list(answer.headers.items())
            status = f"{answer.status} {HTTPStatus(answer.status).phrase}"
            if isinstance(answer.body, EventStream):
                return _hand_over(answer.body, environ, status, headers)
            start_response(status, headers)
            return [answer.body]
        held: list[Any] = []

        def hold(status: str, headers: list[tuple[str, str]], exc_info: Any = None, /) -> Any:
            held[:] = [status, headers]
            if exc_info:
                return start_response(status, headers, exc_info)
            return _no_write

        body = self._app(environ, hold)
        if isinstance(body, EventStream):
            return _hand_over(body, environ, *held)
        start_response(*held)
        return body

    def _shortcut(self, environ: WSGIEnvironment) -> StreamAnswer | None:
        """Open a single-job stream without Flask, whose dispatch dominates the cost when 10,000 readers
        reconnect. Returns None for all other requests and for errors; Flask then answers."""
        path = _JOB_EVENTS.fullmatch(environ.get("PATH_INFO", ""))
        if (
            path is None
            or environ.get("REQUEST_METHOD") != "GET"
            or "json" in environ.get("HTTP_ACCEPT", "")
            or not self._here.store.keys.holds(path[1])
        ):
            return None
        try:
            who = self._here.authentication.authorize(environ, _ROUTE)
            query = JobWatching.of(Request(environ).args) if environ.get("QUERY_STRING") else _DEFAULTS
            catchup = JobCatchUp(self._here.reader, who, path[1])
            last_event_id = environ.get("HTTP_LAST_EVENT_ID", "")
            return answer_stream(
                self._here, Holder(environ.get("REMOTE_ADDR", ""), who.owner), catchup, query, last_event_id
            )
        except (ValidationError, JobGone, Problem, redis.RedisError):
            return None


def _hand_over(
    stream: EventStream, environ: WSGIEnvironment, status: str, headers: list[tuple[str, str]]
) -> Iterable[bytes]:
    # Its head does not pass through the gate on its way out.
    head = answer_head(status, tuple(headers), environ.get(HEADERS, ()))
    try:
        stream.hand_over(environ["gunicorn.socket"], head)
    finally:
        stream.close()
    environ[HANDED_OVER] = True
    return ALREADY_HANDLED  # type: ignore[no-any-return]


def _can_be_handed_over(environ: WSGIEnvironment) -> bool:
    sock = environ.get("gunicorn.socket")
    return (
        sys.platform == "linux"
        and cooperative()
        and isinstance(sock, socket.socket)
        and not isinstance(sock, ssl.SSLSocket)
        and environ.get("HTTP_VERSION") != "2"
    )


@lru_cache(maxsize=64)
def answer_head(status: str, headers: Headers, gate: Headers) -> bytes:
    """The response's head, with the headers that the gate adds. The end of the connection is the end of the
    body: no chunks, 8 bytes less per event."""
    fields = [f"{name}: {value}" for name, value in merged(list(headers), gate)]
    lines = [f"HTTP/1.1 {status}", *fields, "Connection: close"]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def _no_write(_: bytes) -> None:
    raise RuntimeError("the application must not use the write callable")

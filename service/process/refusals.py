"""Answers to what never becomes a request: a head that gunicorn cannot read, and one connection too many.

They are the documents, with the headers, that everything else is refused with. Neither they nor the log
repeat what was sent: there may be a credential in it, and it may be long.
"""

from __future__ import annotations

import contextlib
import logging
import socket
from functools import cache

from gunicorn import util
from gunicorn.http import errors

from service import metrics
from service.api.auth import audit
from service.api.gate import ALWAYS
from service.api.problems import FAILED, Problem
from service.api.socket_handover import answer_head
from service.process.request_head import TooManyUnfinished

log = logging.getLogger(__name__)

TOO_MANY = Problem(
    429,
    "this address has too many connections (MAX_CONNECTIONS_PER_CALLER); close some of them",
    headers={"Retry-After": "10"},
)
_UNFINISHED = Problem(
    503,
    "too many requests whose heads are not whole are coming in; try again later, with a shorter head",
    headers={"Retry-After": "10"},
)
_BROKEN = Problem(400, "a header field is not valid, or is there twice")
_KINDS: dict[type[errors.ParseException], Problem] = {
    TooManyUnfinished: _UNFINISHED,
    errors.LimitRequestLine: Problem(414, "the request line is too long"),
    errors.LimitRequestHeaders: Problem(431, "the header fields are too many or too long"),
    errors.ExpectationFailed: Problem(417, "the only expectation that can be met is 100-continue"),
    errors.UnsupportedTransferCoding: Problem(501, "the only transfer coding is chunked"),
    errors.InvalidRequestLine: Problem(400, "the request line is not valid"),
    errors.InvalidRequestMethod: Problem(400, "the method is not valid"),
    errors.InvalidHTTPVersion: Problem(400, "the version of HTTP is not 1.0 or 1.1"),
}


class Refusals:
    """With `audited`, those who are refused are in the audit log."""

    def __init__(self, *, audited: bool) -> None:
        self._audited = audited

    def connection(self, client: socket.socket, peer: str) -> None:
        """Refuse a connection."""
        self._refuse(client, peer, TOO_MANY, "connections")

    def head(self, client: socket.socket, peer: str, error: errors.ParseException) -> None:
        """Refuse a request for its head."""
        self._refuse(client, peer, _KINDS.get(type(error), _BROKEN), "head")

    def failure(self, client: socket.socket, error: BaseException) -> None:
        """Answer a request for which the application raised this (500)."""
        log.error("a request failed unexpectedly", exc_info=error)
        _send(client, FAILED)

    def _refuse(self, client: socket.socket, peer: str, problem: Problem, what: str) -> None:
        metrics.REQUESTS_REFUSED.labels(what).inc()
        if self._audited:
            audit.record({"REMOTE_ADDR": peer}, what, problem.status, reason=problem.detail)
        _send(client, problem)


def _send(client: socket.socket, problem: Problem) -> None:
    with contextlib.suppress(OSError):
        util.write_nonblock(client, _answer(problem))


@cache
def _answer(problem: Problem) -> bytes:
    answer = problem.response()
    return answer_head(answer.status, tuple(answer.headers), ALWAYS) + answer.get_data()

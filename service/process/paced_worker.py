"""gunicorn's gevent worker, for clients that, perhaps on purpose, send slowly, without end or too much."""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

from gunicorn.http import parser
from gunicorn.http.errors import ParseException
from gunicorn.workers.ggevent import GeventWorker

from service.api.probes import PROBES
from service.process import poll
from service.process.paced_socket import HEAD_PIECE_BYTES, PacedSocket
from service.process.request_head import BoundedRequest
from service.process.turns import turns
from service.streaming.stream_limits import whose


class ConnectionLimit:
    """Counts the connections of each peer that gunicorn holds; those of event streams were handed over."""

    def __init__(self, most: int, is_proxy: Callable[[str], bool]) -> None:
        self._most = most
        self._is_proxy = is_proxy
        self._held: Counter[str] = Counter()

    def take(self, peer: str) -> bool:
        """Count one more, until `give_back`. Returns False, without counting it, if that is too many."""
        client = whose(peer)
        if self._most and self._held[client] >= self._most and not self._is_proxy(peer):
            return False
        self._held[client] += 1
        return True

    def give_back(self, peer: str) -> None:
        client = whose(peer)
        self._held[client] -= 1
        if not self._held[client]:
            del self._held[client]


class PacedRequest(BoundedRequest):
    """A request that is read from a PacedSocket."""

    def parse(self, unreader: Any) -> Any:
        if self.req_number == 1:
            unreader.sock = PacedSocket(unreader.sock)
        else:
            came_before = unreader.buf.tell()
            unreader.sock.await_head(0 if came_before else self.cfg.keepalive)
            if came_before:
                # With the one before it, whose turn this is not.
                turns.take()
        return super().parse(unreader)


class PacedWorker(GeventWorker):  # type: ignore[misc]
    connection_limit: ConnectionLimit
    refusals: Any
    """Refusals, of a module that the master must not import. Both are set before the worker runs."""

    def patch(self) -> None:
        super().patch()
        poll.install()

    def init_process(self) -> None:
        # Not for other workers of gunicorn, which have no greenlets that could take turns.
        parser.RequestParser.mesg_class = PacedRequest
        super().init_process()

    def handle(self, listener: Any, client: socket.socket, addr: Any) -> None:
        peer = _peer(addr)
        if not self.connection_limit.take(peer):
            self.refusals.connection(client, peer)
            client.close()
            return
        try:
            super().handle(listener, client, addr)
        finally:
            self.connection_limit.give_back(peer)

    def handle_error(self, req: Any, client: socket.socket, addr: Any, exc: BaseException) -> None:
        if req is None and isinstance(exc, ParseException):
            self.refusals.head(client, _peer(addr), exc)
        else:
            self.refusals.failure(client, exc)

    def timeout_ctx(self) -> Any:
        """gunicorn's limit of time for a head, which would count the time that others take."""
        return nullcontext()

    def handle_request(self, listener_name: Any, req: Any, sock: Any, addr: Any) -> None:
        # Probes are answered in no time, and must be when all others wait.
        if req.path not in PROBES:
            turns.take()
        req.unreader.sock.await_body()
        try:
            super().handle_request(listener_name, req, sock, addr)
        finally:
            req.unreader.sock.most = HEAD_PIECE_BYTES


def _peer(addr: Any) -> str:
    return str(addr[0]) if addr else ""

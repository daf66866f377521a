"""gunicorn's gevent worker, for clients that, perhaps on purpose, send slowly, without end or too much."""

from __future__ import annotations

import errno
import socket
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import gevent
from gunicorn.http.errors import ParseException
from gunicorn.http.message import Request
from gunicorn.workers.ggevent import GeventWorker

PATIENCE_S = 10.0
"""Seconds that a connection's first head, and any body, may keep the service waiting for bytes."""
BYTES_PER_S = 1_000
"""A body may take a second longer for each of this many bytes that have come."""
MAX_FIELDS_BYTES = 24_576
"""Most bytes of all header fields of a request together, and of a trailer's."""
TURN_S = 0.005
"""How long a connection may keep all others waiting."""


class ConnectionLimit:
    """Counts the connections of each peer that gunicorn holds; those of event streams were handed over."""

    def __init__(self, most: int, is_proxy: Callable[[str], bool]) -> None:
        self._most = most
        self._is_proxy = is_proxy
        self._held: Counter[str] = Counter()

    def take(self, peer: str) -> bool:
        """Count one more, until `give_back`. Returns False, without counting it, if that is too many."""
        if self._most and self._held[peer] >= self._most and not self._is_proxy(peer):
            return False
        self._held[peer] += 1
        return True

    def give_back(self, peer: str) -> None:
        self._held[peer] -= 1
        if not self._held[peer]:
            del self._held[peer]


class BoundedRequest(Request):  # type: ignore[misc]
    """A request whose header fields are limited together: gunicorn would take as many bytes as the largest
    number of them may have if each is of the largest size, and search all of them anew at each read."""

    def parse(self, unreader: Any) -> Any:
        self.max_buffer_headers = MAX_FIELDS_BYTES
        return super().parse(unreader)


def give_way() -> None:
    """Let all others go on if the connection that is served here has kept them waiting for long. Nothing
    else does while its bytes are there before they are asked for, of one request or of a thousand."""
    connection: Any = gevent.getcurrent()
    # The loop counts how often it has looked at all sockets: also while this connection waited for bytes.
    look: int = gevent.get_hub().loop.iteration
    now = time.monotonic()
    if vars(connection).get("turn") != look:
        connection.turn, connection.turn_began = look, now
    elif now - connection.turn_began > TURN_S:
        # With 0, gevent would come back up to 50 times before it looks at other sockets.
        gevent.sleep(0.001)


class PacedSocket:
    """What gunicorn reads a request's body from: `recv` raises TimeoutError when it comes too slowly.

    Time counts only while the service waits for bytes.
    """

    def __init__(self, sock: socket.socket, patience_s: float, most: int) -> None:
        self._sock = sock
        self._left_s = patience_s
        self._most = most

    def recv(self, size: int) -> bytes:
        give_way()
        self._sock.settimeout(max(0.001, self._left_s))
        began = time.monotonic()
        try:
            data = self._sock.recv(min(size, self._most))
        except TimeoutError:
            # With this number gunicorn closes the connection without a traceback in its log.
            raise TimeoutError(errno.ECONNRESET, "the request came too slowly") from None
        finally:
            self._left_s -= time.monotonic() - began
            self._sock.settimeout(None)
        self._left_s += len(data) / BYTES_PER_S
        return data


class PacedWorker(GeventWorker):  # type: ignore[misc]
    connection_limit: ConnectionLimit
    refusals: Any
    """Refusals, of a module that the master must not import. Both are set before the worker runs."""

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
        """Limit the time in which a head comes, which includes how long a connection was idle before it."""
        connection: Any = gevent.getcurrent()
        first = not hasattr(connection, "served")
        connection.served = True
        give_way()
        return gevent.Timeout(PATIENCE_S if first else self.cfg.keepalive, False)  # type: ignore[arg-type]

    def handle_request(self, listener_name: Any, req: Any, sock: Any, addr: Any) -> None:
        req.unreader.sock = PacedSocket(sock, PATIENCE_S, 1 << 16)
        try:
            super().handle_request(listener_name, req, sock, addr)
        finally:
            # gunicorn reads what is left of the body before the next head, and copies what it has received
            # for each 1,024 bytes of that.
            req.unreader.sock = PacedSocket(sock, self.cfg.keepalive, 8_192)


def _peer(addr: Any) -> str:
    return str(addr[0]) if addr else ""

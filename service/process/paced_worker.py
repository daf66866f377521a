"""gunicorn's gevent worker, for clients that send their requests slowly, perhaps on purpose."""

from __future__ import annotations

import errno
import socket
import time
from typing import Any

import gevent
from gunicorn.workers.ggevent import GeventWorker

PATIENCE_S = 10.0
"""How long a connection's first head, and any body, may keep the service waiting for bytes …"""
BYTES_PER_S = 1_000
"""… and a body a second more for as many of them as have come."""


class PacedSocket:
    """What gunicorn reads a request's body from: `recv` raises TimeoutError when it comes too slowly.

    Time counts only while the service waits for bytes.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._left_s = PATIENCE_S

    def recv(self, *args: Any) -> bytes:
        self._sock.settimeout(max(0.001, self._left_s))
        began = time.monotonic()
        try:
            data = self._sock.recv(*args)
        except TimeoutError:
            # With this number gunicorn closes the connection without a traceback in its log.
            raise TimeoutError(errno.ECONNRESET, "the request came too slowly") from None
        finally:
            self._left_s -= time.monotonic() - began
            self._sock.settimeout(None)
        self._left_s += len(data) / BYTES_PER_S
        return data


class PacedWorker(GeventWorker):  # type: ignore[misc]
    def timeout_ctx(self) -> Any:
        """Limit the time in which a head comes, which includes how long a connection was idle before it."""
        connection: Any = gevent.getcurrent()
        first = not hasattr(connection, "served")
        connection.served = True
        return gevent.Timeout(PATIENCE_S if first else self.cfg.keepalive, False)  # type: ignore[arg-type]

    def handle_request(self, listener_name: Any, req: Any, sock: Any, addr: Any) -> None:
        req.unreader.sock = PacedSocket(sock)
        try:
            super().handle_request(listener_name, req, sock, addr)
        finally:
            req.unreader.sock = sock

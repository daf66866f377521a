"""gunicorn's gevent worker, for clients that send their requests slowly, perhaps on purpose."""

from __future__ import annotations

import errno
import socket
import time
from typing import Any

import gevent.socket
from gunicorn.workers.ggevent import GeventWorker

PATIENCE_S = 10.0
"""How long a request may keep the service waiting for its bytes …"""
BYTES_PER_S = 1_000
"""… and a second more for as many of them as have come."""


class PacedSocket(gevent.socket.socket):
    """A client's socket whose `recv` raises TimeoutError when a request, head or body, takes too long to
    arrive.

    Time counts only while the service waits for bytes. How long a connection may be idle before its next
    request is gunicorn's `keepalive`.
    """

    def __init__(self, client: socket.socket) -> None:
        super().__init__(client.family, client.type, client.proto, fileno=client.detach())
        self._left_s = PATIENCE_S
        self._idle = False

    def recv(self, *args: Any) -> bytes:
        if self._idle:
            data: bytes = super().recv(*args)
            self._idle = False
            return data
        if self._left_s <= 0:
            raise _too_slow()
        self.settimeout(self._left_s)
        began = time.monotonic()
        try:
            data = super().recv(*args)
        except TimeoutError:
            raise _too_slow() from None
        finally:
            self._left_s -= time.monotonic() - began
            self.settimeout(None)
        self._left_s += len(data) / BYTES_PER_S
        return data

    def await_next(self) -> None:
        """The request is over. The time until the next one begins does not count."""
        self._left_s = PATIENCE_S
        self._idle = True


def _too_slow() -> TimeoutError:
    # With this number gunicorn closes the connection without a traceback in its log.
    return TimeoutError(errno.ECONNRESET, "the request came too slowly")


class PacedWorker(GeventWorker):  # type: ignore[misc]
    def handle(self, listener: Any, client: Any, addr: Any) -> None:
        super().handle(listener, PacedSocket(client), addr)

    def handle_request(self, listener_name: Any, req: Any, sock: Any, addr: Any) -> None:
        super().handle_request(listener_name, req, sock, addr)
        sock.await_next()

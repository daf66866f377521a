"""The socket that gunicorn reads requests from, for clients that send slowly or without end."""

from __future__ import annotations

import errno
import socket
import time

from service.process.turns import turns

BYTES_PER_S = 1_000
"""A body may take a second longer for each of this many bytes that have come."""
PIECE_BYTES = 1 << 16
"""Of a body, received at once."""
HEAD_PIECE_BYTES = 8_192
"""Of a head; and of what is left of a body before the next, which gunicorn copies for each 1,024 bytes of
it."""


class PacedSocket:
    """What gunicorn reads a request from: `recv` raises TimeoutError when it comes too slowly.

    Time counts only while the service waits for bytes. What has come is given out when it is its turn.
    """

    head_timeout_s: float
    """Seconds that a head may keep the service waiting."""
    body_timeout_s: float
    """The same for a body. Both are set before the worker runs."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self.await_head()

    def await_head(self, idle_s: float = 0) -> None:
        """Before a head: its first bytes may take `idle_s` if that is longer."""
        self._left_s, self._s_per_byte = max(idle_s, self.head_timeout_s), 0.0
        self._first, self.most = True, HEAD_PIECE_BYTES

    def await_body(self) -> None:
        self._left_s, self._s_per_byte = self.body_timeout_s, 1 / BYTES_PER_S
        self._first, self.most = False, PIECE_BYTES

    def recv(self, size: int) -> bytes:
        self._sock.settimeout(max(0.001, self._left_s))
        began = time.monotonic()
        try:
            data = self._sock.recv(min(size, self.most))
        except TimeoutError:
            # With this number gunicorn closes the connection without a traceback in its log.
            raise TimeoutError(errno.ECONNRESET, "the request came too slowly") from None
        finally:
            self._left_s -= time.monotonic() - began
            self._sock.settimeout(None)
        self._left_s += len(data) * self._s_per_byte
        if self._first:
            self._left_s = min(self._left_s, self.head_timeout_s)
        # One that is not whole after its first bytes has no right to be before others.
        turns.take(first=self._first)
        self._first = False
        return data

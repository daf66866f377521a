"""A proxy that does to HTTP what proxies and networks do: it refuses, cuts, and loses answers."""

from __future__ import annotations

import contextlib
import socket
import threading
import time

from tests.support.proxy import Proxy


def unavailable(retry_after_s: int | None) -> bytes:
    """A 503 as a proxy gives it: no JSON."""
    after = "" if retry_after_s is None else f"Retry-After: {retry_after_s}\r\n"
    head = f"HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/html\r\n{after}"
    return f"{head}Content-Length: 15\r\nConnection: close\r\n\r\n<h1>later</h1>\n".encode()


class Door(Proxy):
    """Forwards to a port of this machine. `opened` has the monotonic time of each connection."""

    def __init__(self, target: int) -> None:
        self.opened: list[float] = []
        self._refusal: bytes | None = None
        self._to_lose = 0
        super().__init__(target)

    def __enter__(self) -> Door:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def refuse(self, answer: bytes | None) -> None:
        """What every request is answered with from now on; None: they are let through."""
        self._refusal = answer

    def lose(self, answers: int) -> None:
        """So many next requests are done, and their answers are lost."""
        self._to_lose = answers

    def cut(self) -> None:
        """End all connections of now."""
        for sock in list(self._open):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def _serve(self, near: socket.socket) -> None:
        self.opened.append(time.monotonic())
        if self._refusal is not None:
            self._answer(near, self._refusal)
        elif self._to_lose:
            self._to_lose -= 1
            far = socket.create_connection(("127.0.0.1", self._target))
            self._open += [near, far]
            threading.Thread(target=self._forward, args=(near, far, self._era), daemon=True).start()
            threading.Thread(target=self._lose, args=(near, far), daemon=True).start()
        else:
            super()._serve(near)

    def _answer(self, near: socket.socket, answer: bytes) -> None:
        with near, contextlib.suppress(OSError):
            while b"\r\n\r\n" not in near.recv(1 << 16):
                pass
            near.sendall(answer)
            near.shutdown(socket.SHUT_WR)
            while near.recv(1 << 16):
                pass

    def _lose(self, near: socket.socket, far: socket.socket) -> None:
        with contextlib.suppress(OSError):
            # It was done when it is answered.
            assert far.recv(1 << 16)
            near.shutdown(socket.SHUT_RDWR)

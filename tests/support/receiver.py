"""A receiver of webhooks that behaves as the path it is called at says."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Self

from tests.support.wait import until

PAUSE_S = 0.2
"""Between two bytes of a receiver that drips."""


@dataclass(frozen=True, slots=True)
class Received:
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass(slots=True)
class Receiver:
    """`answers` are what it says at a path, one after the other, the last again and again; `before` is
    called with each request before it is answered."""

    tls: ssl.SSLContext | None = None
    answers: dict[str, list[bytes]] = field(default_factory=dict)
    before: Callable[[Received], None] = lambda _: None
    received: list[Received] = field(default_factory=list)
    port: int = 0
    hung: int = 0
    _server: socket.socket = field(default_factory=socket.socket)
    _over: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Self:
        self._server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._server.bind(("127.0.0.1", self.port))
        self._server.listen(256)
        self.port = self._server.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        with contextlib.suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()

    def url(self, path: str = "/ok", scheme: str = "http") -> str:
        return f"{scheme}://127.0.0.1:{self.port}{path}"

    def at(self, path: str) -> list[Received]:
        return [one for one in self.received if one.path == path]

    def wait(self, path: str, count: int = 1, seconds: float = 30) -> list[Received]:
        until(lambda: len(self.at(path)) >= count, seconds, lambda: f"{count} at {path}: {self.received}")
        return self.at(path)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self._server.accept()
                threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, plain: socket.socket) -> None:
        with contextlib.suppress(OSError, ValueError), plain, self._secured(plain) as sock:
            data = b""
            while b"\r\n\r\n" not in data:
                data += sock.recv(65_536) or self._gone()
            head, _, body = data.partition(b"\r\n\r\n")
            first, *lines = head.decode().split("\r\n")
            headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in lines)}
            while len(body) < int(headers.get("content-length", 0)):
                body += sock.recv(65_536) or self._gone()
            received = Received(first.split(" ")[1], headers, body)
            self.before(received)
            self.received.append(received)
            self._answer(sock, received.path)

    def _secured(self, sock: socket.socket) -> socket.socket:
        return sock if self.tls is None else self.tls.wrap_socket(sock, server_side=True)

    def _gone(self) -> bytes:
        raise OSError("the other side has gone")

    def _answer(self, sock: socket.socket, path: str) -> None:
        kind = path.split("/")[1]
        if path in self.answers:
            prepared = self.answers[path]
            sock.sendall(prepared.pop(0) if len(prepared) > 1 else prepared[0])
        elif kind == "ok":
            sock.sendall(answer(204))
        elif kind == "hang":
            self.hung += 1
            with contextlib.suppress(OSError):
                sock.recv(1)
        elif kind == "drip":
            for byte in answer(200, b"x" * 1000):
                sock.sendall(bytes([byte]))
                self._pause()
        elif kind == "huge":
            sock.sendall(b"HTTP/1.1 500 Oh\r\nContent-Length: 1000000000000\r\n\r\n")
            while True:
                sock.sendall(b"x" * 65_536)
        elif kind == "head":
            sock.sendall(b"HTTP/1.1 200 OK\r\n")
            while True:
                sock.sendall(b"X-More: " + b"x" * 8_000 + b"\r\n")
        elif kind == "continue":
            while True:
                sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _pause(self) -> None:
        if self._over.is_set():
            raise OSError("the test is over")
        time.sleep(PAUSE_S)


def answer(status: int, body: bytes = b"", **headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status} Said", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body

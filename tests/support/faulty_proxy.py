"""A proxy that does what proxies, networks and failovers do to connections: refuse, cut, lose answers,
stall, answer for a server that cannot, lead to another one."""

from __future__ import annotations

import contextlib
import itertools
import re
import socket
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

_RESET = struct.pack("ii", 1, 0)
_SLOW_PIECE = 512
_REDIS_COMMAND = re.compile(rb"\*(\d+)\r\n")
_REDIS_ANSWERS_ALWAYS = {b"CLIENT", b"SELECT", b"AUTH", b"HELLO", b"SSUBSCRIBE", b"SUNSUBSCRIBE"}
_SLOW_PAUSE_S = 0.02


def unavailable(retry_after_s: int | None) -> bytes:
    """A 503 as a proxy gives it: no JSON."""
    after = "" if retry_after_s is None else f"Retry-After: {retry_after_s}\r\n"
    head = f"HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/html\r\n{after}"
    return f"{head}Content-Length: 15\r\nConnection: close\r\n\r\n<h1>later</h1>\n".encode()


Target = int | tuple[str, int]
"""A port of this machine, or an address and a port."""


@dataclass(frozen=True, slots=True)
class Fate:
    """What becomes of a connection. After that many bytes to the server (`cut_up`) or to the client
    (`cut_down`) it is cut, by FIN or by RST; after that many to the client it falls silent. None: never."""

    cut_up: int | None = None
    cut_down: int | None = None
    silent: int | None = None
    reset: bool = False
    slow: bool = False


class FaultyProxy:
    """Forwards each connection to its target: of several, to the next that listens.

    `opened` has the monotonic time of each connection, `fates` what was to become of it. Call `close`.
    """

    def __init__(
        self, *targets: Target, fate: Callable[[], Fate] = Fate, listens: str = "127.0.0.1"
    ) -> None:
        self.opened: list[float] = []
        self.fates: list[Fate] = []
        self._targets = targets
        self._fate = fate
        self._refusal: bytes | None = None
        self._redis_error: bytes | None = None
        self._to_lose = 0
        self._era = 0
        self._flows = threading.Event()
        self._flows.set()
        self._open: set[socket.socket] = set()
        self._listener = socket.create_server((listens, 0))
        self.port: int = self._listener.getsockname()[1]
        self.url = f"http://{listens}:{self.port}"
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.resume()
        # Closing alone would leave accept() waiting in its thread.
        _shutdown(self._listener)
        self._listener.close()
        self.cut()

    def refuse(self, answer: bytes | None) -> None:
        """Answer every request like this from now on; None: let them through."""
        self._refusal = answer

    def answer_redis(self, error: str | None) -> None:
        """Answer every command of Redis with this error from now on, on the present connections too,
        except those that it answers in any state; None: let them through."""
        self._redis_error = None if error is None else f"-{error}\r\n".encode()

    def move(self, *targets: Target) -> None:
        """Lead new connections to these targets; the present ones stay where they are."""
        self._targets = targets

    def lose(self, answers: int) -> None:
        """Let the next requests, that many, be done, and lose their answers."""
        self._to_lose = answers

    def cut(self) -> None:
        """End all present connections; new ones work."""
        for sock in list(self._open):
            _shutdown(sock)

    def freeze(self) -> None:
        """Let nothing through on any present connection any more, though they stay open; new ones work."""
        self._era += 1

    def stall(self) -> None:
        """Let nothing through, on new connections either, until `resume`: then all of it."""
        self._flows.clear()

    def resume(self) -> None:
        self._flows.set()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            for number in itertools.count():
                near, _ = self._listener.accept()
                # Now, so that what is said once it is seen in `opened` is of the next.
                refusal = self._refusal
                lose = refusal is None and self._to_lose > 0
                self._to_lose -= lose
                self.fates.append(self._fate())
                # Before it is seen there, too: a cut that waited for it must reach it.
                self._open.add(near)
                self.opened.append(time.monotonic())
                arguments = (near, number, self.fates[-1], refusal, lose, self._era)
                threading.Thread(target=self._serve, args=arguments, daemon=True).start()

    def _serve(
        self, near: socket.socket, number: int, fate: Fate, refusal: bytes | None, lose: bool, era: int
    ) -> None:
        with near:
            if refusal is not None:
                _answer(near, refusal)
            elif (far := self._connect(number)) is not None:
                with far:
                    self._forward(near, far, fate, lose, era)
            self._open.discard(near)

    def _connect(self, number: int) -> socket.socket | None:
        first = number % len(self._targets)
        for target in self._targets[first:] + self._targets[:first]:
            address = ("127.0.0.1", target) if isinstance(target, int) else target
            with contextlib.suppress(OSError):
                far = socket.create_connection(address, 5)
                far.settimeout(None)
                return far
        return None

    def _forward(self, near: socket.socket, far: socket.socket, fate: Fate, lose: bool, era: int) -> None:
        """Both ways until both have ended."""
        self._open.add(far)
        was_cut = threading.Event()
        limit = fate.cut_down if fate.silent is None else fate.silent

        def up() -> None:
            if self._pass(near, far, era, fate.cut_up, instead=self._answered_here(near)):
                cut()
            elif era == self._era and not was_cut.is_set():
                _shutdown(far, socket.SHUT_WR)

        def down() -> None:
            if lose:
                far.recv(1)  # it was done when it is answered
                cut()
            elif self._pass(far, near, era, limit, fate.slow):
                if fate.silent is None:
                    cut()
            elif era == self._era and not was_cut.is_set():
                _shutdown(near, socket.SHUT_WR)

        def cut() -> None:
            was_cut.set()
            if fate.reset:
                # Closing it sends an RST, which the client sees only if no FIN came before.
                near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                _shutdown(near, socket.SHUT_RD)
            else:
                _shutdown(near)
            _shutdown(far)

        thread = threading.Thread(target=up, daemon=True)
        thread.start()
        with contextlib.suppress(OSError):
            down()
        thread.join()
        self._open.discard(far)

    def _answered_here(self, near: socket.socket) -> Callable[[bytes], bytes]:
        """A filter of the commands that `near` sends: those answered with the error do not pass."""
        waiting = b""

        def instead(chunk: bytes) -> bytes:
            nonlocal waiting
            if self._redis_error is None:
                chunk, waiting = waiting + chunk, b""
                return chunk
            *commands, waiting = _commands(waiting + chunk)
            passed = b""
            for command in commands:
                name = command.split(b"\r\n", 3)[2].upper()
                if name in _REDIS_ANSWERS_ALWAYS:
                    passed += command
                else:
                    near.sendall(self._redis_error)
            return passed

        return instead

    def _pass(
        self,
        source: socket.socket,
        sink: socket.socket,
        era: int,
        limit: int | None,
        slow: bool = False,
        instead: Callable[[bytes], bytes] = bytes,
    ) -> bool:
        """Pass on what comes until its end, or until `limit` bytes have passed, which is True. `instead`
        returns what to pass on of it."""
        left = limit
        with contextlib.suppress(OSError):
            while left is None or left > 0:
                chunk = source.recv(_SLOW_PIECE if slow else 1 << 16)
                if not chunk:
                    break
                if slow:
                    time.sleep(_SLOW_PAUSE_S)
                self._flows.wait()
                if left is not None:
                    chunk = chunk[:left]
                    left -= len(chunk)
                if era == self._era:
                    sink.sendall(instead(chunk))
        return left == 0


def _commands(data: bytes) -> list[bytes]:
    """The whole commands in data, as Redis gets them, and last what is not whole yet."""
    found: list[bytes] = []
    begin = 0
    while head := _REDIS_COMMAND.match(data, begin):
        end = head.end()
        for _ in range(int(head[1])):
            line_end = data.find(b"\r\n", end)
            if line_end < 0:
                return [*found, data[begin:]]
            end = line_end + 2 + int(data[end + 1 : line_end]) + 2
        if end > len(data):
            break
        found.append(data[begin:end])
        begin = end
    return [*found, data[begin:]]


def _answer(near: socket.socket, answer: bytes) -> None:
    with contextlib.suppress(OSError):
        while b"\r\n\r\n" not in near.recv(1 << 16):
            pass
        near.sendall(answer)
        near.shutdown(socket.SHUT_WR)
        while near.recv(1 << 16):
            pass


def _shutdown(sock: socket.socket, how: int = socket.SHUT_RDWR) -> None:
    with contextlib.suppress(OSError):
        sock.shutdown(how)

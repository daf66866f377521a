"""A proxy that does to connections what networks do: cuts them anywhere, falls silent, is slow."""

from __future__ import annotations

import contextlib
import random
import socket
import struct
import threading
import time
from dataclasses import dataclass

from tests.support.proxy import Proxy

_RESET = struct.pack("ii", 1, 0)
_PIECE = 512
_WAIT_S = 0.02


@dataclass(frozen=True, slots=True)
class Fate:
    """What becomes of a connection: after so many bytes up (to the server) or down (to the client) it is
    cut, by RST or FIN, or falls silent; or it is slow. None: never."""

    cut_up: int | None = None
    cut_down: int | None = None
    silent: int | None = None
    reset: bool = False
    slow: bool = False


def draw(rng: random.Random) -> Fate:
    """Half of all connections are well."""
    # Every order of magnitude is as likely: within the head, the first events, or after many.
    after = round(10 ** rng.uniform(0, 4.7))
    match rng.choices(["well", "cut_up", "cut_down", "silent", "slow"], [50, 8, 22, 8, 12])[0]:
        case "cut_up":
            return Fate(cut_up=rng.randrange(400), reset=rng.random() < 0.5)
        case "cut_down":
            return Fate(cut_down=after, reset=rng.random() < 0.5)
        case "silent":
            return Fate(silent=after)
        case "slow":
            return Fate(slow=True)
    return Fate()


class Wire(Proxy):
    """Forwards each connection to one of several ports that answers, and gives it a fate."""

    def __init__(self, targets: list[int], seed: str) -> None:
        self._targets = targets
        self._rng = random.Random(seed)
        self.fates: list[Fate] = []
        super().__init__(targets[0])

    def _serve(self, near: socket.socket) -> None:
        fate = draw(self._rng)
        self.fates.append(fate)
        targets = self._rng.sample(self._targets, len(self._targets))
        threading.Thread(target=self._begin, args=(near, targets, fate), daemon=True).start()

    def _begin(self, near: socket.socket, targets: list[int], fate: Fate) -> None:
        for port in targets:
            with contextlib.suppress(OSError):
                far = socket.create_connection(("127.0.0.1", port), 5)
                break
        else:
            near.close()
            return
        far.settimeout(None)
        self._open += [near, far]
        up = threading.Thread(target=self._up, args=(near, far, fate), daemon=True)
        up.start()
        self._down(near, far, fate)
        up.join()
        for sock in (near, far):
            self._open.remove(sock)
            sock.close()

    def _up(self, near: socket.socket, far: socket.socket, fate: Fate) -> None:
        left = fate.cut_up
        with contextlib.suppress(OSError):
            while chunk := near.recv(1 << 16):
                if left is not None:
                    chunk, left = chunk[:left], left - len(chunk)
                far.sendall(chunk)
                if left is not None and left <= 0:
                    break
        # The client has gone, or is to think so.
        _cut(near, far, fate.reset)

    def _down(self, near: socket.socket, far: socket.socket, fate: Fate) -> None:
        limit = fate.cut_down if fate.silent is None else fate.silent
        passed = 0
        with contextlib.suppress(OSError):
            while chunk := far.recv(_PIECE if fate.slow else 1 << 16):
                if limit is not None:
                    chunk = chunk[: limit - passed]
                if fate.slow:
                    time.sleep(_WAIT_S)
                near.sendall(chunk)
                passed += len(chunk)
                if limit is not None and passed >= limit:
                    break
        if fate.silent is None or passed < fate.silent:
            _cut(near, far, fate.reset)


def _cut(near: socket.socket, far: socket.socket, reset: bool) -> None:
    """End both halves. RST reaches the client only if nobody has said FIN before."""
    with contextlib.suppress(OSError):
        if reset:
            near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        else:
            near.shutdown(socket.SHUT_WR)
    for sock in (near, far):
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)

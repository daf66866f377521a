"""A TCP proxy that can fall silent: nothing comes through any more, or only later, and nobody is told."""

from __future__ import annotations

import contextlib
import socket
import threading


class Proxy:
    """Forwards to a port of this machine, until `freeze`, `stall` or `close`."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._era = 0
        self._flows = threading.Event()
        self._flows.set()
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def freeze(self) -> None:
        """All connections of now are dead from here on, though they stay open; new ones work."""
        self._era += 1

    def drop(self) -> None:
        """All connections of now are broken off; new ones work."""
        gone, self._open = self._open, []
        for sock in gone:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()

    def stall(self) -> None:
        """Nothing gets through any more, on new connections either, until `resume`: then all of it does."""
        self._flows.clear()

    def resume(self) -> None:
        self._flows.set()

    def close(self) -> None:
        self.resume()
        # Closing alone would leave accept() waiting in its thread.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        for sock in [self._listener, *self._open]:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                self._serve(near)

    def _serve(self, near: socket.socket) -> None:
        """Begin to forward what comes from a new client."""
        far = socket.create_connection(("127.0.0.1", self._target))
        self._open += [near, far]
        for source, sink in ((near, far), (far, near)):
            threading.Thread(target=self._forward, args=(source, sink, self._era), daemon=True).start()

    def _forward(self, source: socket.socket, sink: socket.socket, era: int) -> None:
        with contextlib.suppress(OSError):
            while chunk := source.recv(1 << 16):
                self._flows.wait()
                if era == self._era:
                    sink.sendall(chunk)
            if era == self._era:
                sink.shutdown(socket.SHUT_WR)

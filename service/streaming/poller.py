"""Which sockets of readers were closed, or can take more: epoll on Linux, `selectors` elsewhere."""

from __future__ import annotations

import os
import select
import selectors
import socket
import sys
from collections.abc import Iterable
from typing import Protocol

import gevent.monkey
import gevent.socket

SEND_BUFFER = 64 * 1024
"""Bytes that the kernel keeps for a reader (it doubles them): what one that stops reading costs."""
USER_TIMEOUT_MS = 300_000
"""How long written bytes may stay unacknowledged before a reader counts as unplugged. A reader that only
stopped reading looks the same, so this is long: such a reader comes back by itself, but late."""
PORTABLE_POLL_S = 0.2
"""How late a `Selector` may notice a socket that was added while it waited."""


class Poller(Protocol):
    """Owns the descriptors of readers. `wait` blocks; everything else needs the hub's lock."""

    def add(self, sock: socket.socket) -> int:
        """Returns a descriptor of its own for the socket, which the caller may close. Raises OSError."""
        ...

    def watch_writable(self, fd: int, wanted: bool) -> None:
        """Report from now on whether the descriptor can take more bytes, or stop reporting it."""
        ...

    def remove(self, fd: int) -> None:
        """Close the descriptor."""
        ...

    def wait(self) -> None:
        """Return as soon as `ready` may have something."""
        ...

    def ready(self) -> Iterable[tuple[int, bool]]:
        """Returns descriptors, and whether each has been closed (True) or can take more (False)."""
        ...


class Epoll:
    """Costs nothing for an idle reader, and hears of a close without reading (EPOLLRDHUP)."""

    def __init__(self) -> None:
        # gevent takes select.epoll away, as it blocks; watched by gevent's loop it does not.
        self._epoll: select.epoll = gevent.monkey.get_original("select", "epoll")()

    def add(self, sock: socket.socket) -> int:
        fd = _own(sock)
        try:
            self._epoll.register(fd, select.EPOLLRDHUP)
        except OSError:
            os.close(fd)
            raise
        return fd

    def watch_writable(self, fd: int, wanted: bool) -> None:
        self._epoll.modify(fd, select.EPOLLRDHUP | select.EPOLLOUT if wanted else select.EPOLLRDHUP)

    def remove(self, fd: int) -> None:
        self._epoll.unregister(fd)
        os.close(fd)

    def wait(self) -> None:
        if gevent.monkey.is_module_patched("socket"):
            gevent.socket.wait_read(self._epoll.fileno())
        else:
            self._epoll.poll(-1, 1)

    def ready(self) -> Iterable[tuple[int, bool]]:
        return [(fd, bool(mask & ~select.EPOLLOUT)) for fd, mask in self._epoll.poll(0, 1024)]


class Selector:
    """The same with what every platform has. A close shows as an end of file, so it must read."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        # Without any descriptor some selectors do not wait.
        self._idle = os.pipe()
        self._selector.register(self._idle[0], selectors.EVENT_READ)
        self._found: list[tuple[selectors.SelectorKey, int]] = []

    def add(self, sock: socket.socket) -> int:
        fd = _own(sock)
        self._selector.register(fd, selectors.EVENT_READ)
        return fd

    def watch_writable(self, fd: int, wanted: bool) -> None:
        events = selectors.EVENT_READ | selectors.EVENT_WRITE if wanted else selectors.EVENT_READ
        self._selector.modify(fd, events)

    def remove(self, fd: int) -> None:
        self._selector.unregister(fd)
        os.close(fd)

    def wait(self) -> None:
        self._found = self._selector.select(PORTABLE_POLL_S)

    def ready(self) -> Iterable[tuple[int, bool]]:
        found, self._found = self._found, []
        for key, events in found:
            # It may have been closed since, and its number be another's.
            if self._selector.get_map().get(key.fd) is not key:
                continue
            if events & selectors.EVENT_READ and _at_end(key.fd):
                yield key.fd, True
            elif events & selectors.EVENT_WRITE:
                yield key.fd, False


def new_poller() -> Poller:
    return Epoll() if sys.platform == "linux" else Selector()


def _own(sock: socket.socket) -> int:
    _tune(sock)
    fd = os.dup(sock.fileno())
    os.set_blocking(fd, False)
    return fd


def _at_end(fd: int) -> bool:
    try:
        return not os.read(fd, 4096)
    except BlockingIOError:
        return False
    except OSError:
        return True


def _tune(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
    if sock.family == socket.AF_UNIX:
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, USER_TIMEOUT_MS)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)

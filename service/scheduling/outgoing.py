"""Connections to other servers, for which there is one deadline whatever the other side does.

A timeout of a socket is for one read: a server that sends a byte now and then holds whoever waits for the
head of its answer for as long as it likes.
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

import gevent
import gevent.monkey
from gevent.threadpool import ThreadPool

from service.scheduling.blocking import in_pool

MAX_ADDRESSES = 3
"""Of one name that are tried."""
RESOLVERS = 4

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def resolve(host: str, port: int, limit_s: float) -> list[str]:
    """Return the addresses of a name, within `limit_s`, without greenlets within the limit of the
    machine's own resolver. Raises OSError.

    Names are looked up by threads of their own: a name server that does not answer holds up others of them
    at most, and not the files that the service reads in gevent's threads.
    """
    if not gevent.monkey.is_module_patched("socket"):
        return _addresses(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
    lookup = gevent.monkey.get_original("socket", "getaddrinfo")
    with gevent.Timeout(limit_s, TimeoutError("its name could not be resolved in time")):
        return _addresses(in_pool(_resolvers(), lambda: lookup(host, port, 0, socket.SOCK_STREAM)))


_pool: ThreadPool | None = None


def _resolvers() -> ThreadPool:
    global _pool
    if _pool is None:
        _pool = ThreadPool(RESOLVERS)
    return _pool


def _addresses(found: list[Any]) -> list[str]:
    return [str(entry[4][0]) for entry in found]


def connect(addresses: Sequence[Address | str], port: int, deadline: float) -> socket.socket:
    """Return a connection to the first of up to MAX_ADDRESSES that takes one before the deadline, a time of
    the monotonic clock. Raises OSError."""
    addresses = addresses[:MAX_ADDRESSES]
    last: OSError = OSError("its name has no address")
    for tried, address in enumerate(addresses):
        # Something is left for the others.
        left = (deadline - time.monotonic()) / (len(addresses) - tried)
        if left <= 0:
            raise TimeoutError("it could not be reached in time")
        try:
            return socket.create_connection((str(address), port), timeout=left)
        except OSError as error:
            last = error
    raise last


@contextlib.contextmanager
def shut_at(deadline: float, sock: socket.socket) -> Iterator[None]:
    """Shut the socket at the deadline, whatever the block does with it by then."""
    # Through another descriptor: TLS takes the first one away.
    with contextlib.closing(sock.dup()) as switch:
        late = threading.Timer(max(0.0, deadline - time.monotonic()), _shut, [switch])
        late.daemon = True
        late.start()
        try:
            yield
        finally:
            late.cancel()


def _shut(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):  # the other side was faster
        sock.shutdown(socket.SHUT_RDWR)

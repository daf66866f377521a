"""One POST to an address that a stranger has chosen, which harms nobody whatever is there.

The name is resolved once, every address it has is checked, and the connection goes to one of these very
addresses: a name that resolves otherwise a moment later leads nowhere else. Redirects are not followed, and
after LIMIT_S the connection is shut, whatever it was doing.
"""

from __future__ import annotations

import contextlib
import http.client
import io
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import gevent
import gevent.monkey
from gevent.threadpool import ThreadPool

from headway.contract.settings import Network
from service.scheduling.blocking import in_pool

LIMIT_S = 10.0
"""For all of it: the name, the connection, the request, the answer."""
MAX_ANSWER_BYTES = 65_536
"""Of its head and the part of its body that is read."""
MAX_TEXT_BYTES = 1_024
"""Of its body; the rest is not read."""
TEXT_S = 1.0
"""How long a body may take to begin, once its head was there."""
MAX_RETRY_AFTER_S = 3_600.0
MAX_ADDRESSES = 3
"""Of one name that are tried."""
RESOLVERS = 4

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Resolve = Callable[[str, int], list[str]]


class Refused(Exception):
    """Nothing is sent there; the message says why."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back, or `error`: why nothing did."""

    status: int | None
    text: str = ""
    error: str = ""
    retry_after_s: float = 0.0

    @property
    def accepted(self) -> bool:
        return self.status is not None and 200 <= self.status < 300


def permitted(address: Address, allowed: Collection[Network]) -> bool:
    """Whether something may be sent to an address: a public one, or one of `allowed`.

    An IPv6 address that stands for an IPv4 address (mapped, 6to4, NAT64, Teredo) is judged by both.
    """
    if any(address.version == network.version and address in network for network in allowed):
        return True
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped:
            return permitted(address.ipv4_mapped, allowed)
        if address.is_site_local or address in _LOCAL_NAT64:
            return False
        if not all(permitted(inner, allowed) for inner in _embedded(address)):
            return False
    return address.is_global and not address.is_multicast and not address.is_reserved


_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_LOCAL_NAT64 = ipaddress.ip_network("64:ff9b:1::/48")
_COMPATIBLE = ipaddress.ip_network("::/96")


def _embedded(address: ipaddress.IPv6Address) -> list[ipaddress.IPv4Address]:
    found = [address.sixtofour, *(address.teredo or ())]
    if address in _NAT64 or address in _COMPATIBLE:
        found.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    return [inner for inner in found if inner is not None]


def resolve(host: str, port: int) -> list[str]:
    """Return the addresses of a name, within LIMIT_S. Raises OSError.

    Names are looked up by threads of their own: a name server that does not answer holds up other webhooks
    at most, and not the files that the service reads in gevent's threads.
    """
    if not gevent.monkey.is_module_patched("socket"):
        return _addresses(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
    lookup = gevent.monkey.get_original("socket", "getaddrinfo")
    with gevent.Timeout(LIMIT_S, TimeoutError("its name could not be resolved in time")):
        return _addresses(in_pool(_resolvers(), lambda: lookup(host, port, 0, socket.SOCK_STREAM)))


_pool: ThreadPool | None = None


def _resolvers() -> ThreadPool:
    global _pool
    if _pool is None:
        _pool = ThreadPool(RESOLVERS)
    return _pool


def _addresses(found: list[Any]) -> list[str]:
    return [str(entry[4][0]) for entry in found]


def check(url: str, allowed: Collection[Network]) -> None:
    """Raises Refused for an address that can be seen to be refused without resolving its name."""
    parts = urlsplit(url)
    try:
        address = ipaddress.ip_address(parts.hostname or "")
    except ValueError:
        if parts.scheme == "http" and not allowed:
            raise Refused("must be https://, except for the addresses of WEBHOOK_ALLOW") from None
        return
    _check([address], parts.scheme, allowed)


def _check(addresses: list[Address], scheme: str, allowed: Collection[Network]) -> None:
    for address in addresses:
        if not permitted(address, allowed):
            raise Refused(f"{address} is not a public address, and not in WEBHOOK_ALLOW")
        if scheme != "https" and not any(
            address.version == network.version and address in network for network in allowed
        ):
            raise Refused("must be https://, except for the addresses of WEBHOOK_ALLOW")


class Poster:
    """Sends POSTs; safe for threads."""

    def __init__(self, allowed: Collection[Network], resolve: Resolve = resolve) -> None:
        self._allowed = allowed
        self._resolve = resolve
        self._tls = ssl.create_default_context()

    def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        """Send the body; returns within about LIMIT_S, and raises nothing."""
        deadline = time.monotonic() + LIMIT_S
        try:
            parts = urlsplit(url)
            host = parts.hostname or ""
            port = parts.port or (443 if parts.scheme == "https" else 80)
            # A scope (fe80::1%eth0) is no part of the address.
            found = dict.fromkeys(
                ipaddress.ip_address(text.partition("%")[0]) for text in self._resolve(host, port)
            )
            _check([*found], parts.scheme, self._allowed)
            sock = _connect([*found][:MAX_ADDRESSES], port, deadline)
        except Refused as error:
            return Answer(None, error=str(error))
        except (OSError, ValueError) as error:
            return Answer(None, error=f"no connection: {error or type(error).__name__}")
        # It is shut through another descriptor: TLS takes the first one away.
        switch = sock.dup()
        late = threading.Timer(max(0.0, deadline - time.monotonic()), _shut, [switch])
        late.daemon = True
        late.start()
        try:
            if parts.scheme == "https":
                sock = self._tls.wrap_socket(sock, server_hostname=host)
            return _exchange(sock, parts.netloc, _path(url), body, headers)
        except (OSError, ValueError, http.client.HTTPException) as error:
            if time.monotonic() >= deadline:
                return Answer(None, error=f"it took longer than {LIMIT_S:g} s")
            return Answer(None, error=str(error) or type(error).__name__)
        finally:
            late.cancel()
            switch.close()
            sock.close()


def _connect(addresses: list[Address], port: int, deadline: float) -> socket.socket:
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


def _shut(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):  # the other side was faster
        sock.shutdown(socket.SHUT_RDWR)


def _path(url: str) -> str:
    parts = urlsplit(url)
    return (parts.path or "/") + (f"?{parts.query}" if parts.query else "")


def _exchange(
    sock: socket.socket, netloc: str, path: str, body: bytes, headers: Mapping[str, str]
) -> Answer:
    sock.settimeout(LIMIT_S)
    connection = http.client.HTTPConnection(netloc)
    connection.sock = sock
    connection.request("POST", path, body, {"Host": netloc, "Connection": "close", **headers})
    response = http.client.HTTPResponse(_Bounded(sock), method="POST")  # type: ignore[arg-type]
    response.begin()
    text = b""
    # The status is what counts; a body that does not come changes nothing.
    sock.settimeout(TEXT_S)
    with contextlib.suppress(OSError, ValueError, http.client.HTTPException):
        text = response.read1(MAX_TEXT_BYTES)
    return Answer(
        response.status,
        text.decode("utf-8", "replace"),
        _complaint(response.status),
        _retry_after(response),
    )


def _complaint(status: int) -> str:
    if 200 <= status < 300:
        return ""
    if 300 <= status < 400:
        return f"it answered {status}; redirects are not followed"
    return f"it answered {status}"


def _retry_after(response: http.client.HTTPResponse) -> float:
    """What a 429 or 503 asks for, in seconds; a date, or what is not a number, counts as nothing."""
    given = response.headers.get("Retry-After", "").strip()
    if response.status not in (429, 503) or not (given.isascii() and given.isdigit()):
        return 0.0
    return min(float(given[:9]), MAX_RETRY_AFTER_S)


class _Bounded(io.RawIOBase):
    """What HTTPResponse takes for a socket: it reads up to MAX_ANSWER_BYTES."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._left = MAX_ANSWER_BYTES

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(self)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if self._left <= 0:
            raise ValueError(f"its answer is longer than {MAX_ANSWER_BYTES} bytes")
        count = self._sock.recv_into(buffer, min(len(buffer), self._left))
        self._left -= count
        return count

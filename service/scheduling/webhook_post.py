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
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from headway.contract.settings import Network
from service.scheduling import outgoing

LIMIT_S = 10.0
"""Seconds for all of it: the name, the connection, the request, the answer."""
MAX_ANSWER_BYTES = 65_536
"""Most bytes of an answer: its head, and the part of its body that is read."""
MAX_TEXT_BYTES = 1_024
"""Most bytes of an answer's body; the rest is not read."""
TEXT_S = 1.0
"""How long a body may take to begin, once its head was there."""
MAX_RETRY_AFTER_S = 3_600.0

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
    if any(address.version == network.version and address in network for network in _NOT_PUBLIC):
        return False
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped:
            return permitted(address.ipv4_mapped, allowed)
        if address.is_site_local:
            return False
        if not all(permitted(inner, allowed) for inner in _embedded(address)):
            return False
    return address.is_global and not address.is_multicast and not address.is_reserved


_NOT_PUBLIC = [
    ipaddress.ip_network(network)
    for network in (
        *("192.0.0.0/24", "192.88.99.0/24", "3fff::/20", "64:ff9b:1::/48"),
        "168.63.129.16/32",
    )
]
"""What Python, or an older one, takes for public: special networks, the first with a cloud's metadata, the
last a local NAT64; and the address at which Azure answers its virtual machines."""
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_COMPATIBLE = ipaddress.ip_network("::/96")


def _embedded(address: ipaddress.IPv6Address) -> list[ipaddress.IPv4Address]:
    found = [address.sixtofour, *(address.teredo or ())]
    if address in _NAT64 or address in _COMPATIBLE:
        found.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    return [inner for inner in found if inner is not None]


def check(url: str, allowed: Collection[Network]) -> None:
    """Check an address as far as that goes without resolving its name. Raises Refused."""
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

    def __init__(self, allowed: Collection[Network], resolve: Resolve | None = None) -> None:
        self._allowed = allowed
        self._resolve = resolve or (lambda host, port: outgoing.resolve(host, port, LIMIT_S))
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
            sock = outgoing.connect([*found], port, deadline)
        except Refused as error:
            return Answer(None, error=str(error))
        except (OSError, ValueError) as error:
            return Answer(None, error=f"no connection: {error or type(error).__name__}")
        try:
            with outgoing.shut_at(deadline, sock):
                if parts.scheme == "https":
                    sock = self._tls.wrap_socket(sock, server_hostname=host)
                return _exchange(sock, parts.netloc, _path(url), body, headers)
        except (OSError, ValueError, http.client.HTTPException) as error:
            if time.monotonic() >= deadline:
                return Answer(None, error=f"it took longer than {LIMIT_S:g} s")
            return Answer(None, error=str(error) or type(error).__name__)
        finally:
            sock.close()


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
    """Return the Retry-After of a 429 or 503 in seconds; a date, or what is not a number, counts as
    none."""
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

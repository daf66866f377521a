"""What a proxy says of a request: its client's address, its scheme and its host."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection
from wsgiref.types import WSGIEnvironment

from headway.contract.settings import Network

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class TrustedProxies:
    """Believes X-Forwarded-For, -Proto and -Host of the peers in its networks, and of nobody else."""

    def __init__(self, networks: Collection[Network]) -> None:
        self._networks = tuple(networks)

    def apply(self, environ: WSGIEnvironment) -> str | None:
        """Put what the proxies say where WSGI has it: REMOTE_ADDR and wsgi.url_scheme, and take the headers
        away. Returns the host that they say the client asked for, if any: whether it is one of ours is not
        for them to say."""
        forwarded: str = environ.pop("HTTP_X_FORWARDED_FOR", "")
        proto: str = environ.pop("HTTP_X_FORWARDED_PROTO", "")
        host: str = environ.pop("HTTP_X_FORWARDED_HOST", "")
        # Hardly any request has one of them in a setup without a proxy: look at them first.
        if not (forwarded or proto or host) or not self.trusts(environ.get("REMOTE_ADDR", "")):
            return None
        if forwarded:
            environ["REMOTE_ADDR"] = self._client(forwarded, environ["REMOTE_ADDR"])
        if proto.strip().lower() in ("http", "https"):
            environ["wsgi.url_scheme"] = proto.strip().lower()
        return host.rpartition(",")[2].strip() or None

    def trusts(self, peer: str) -> bool:
        """Return whether this is the address of a trusted proxy."""
        return self._trusts(_parsed(peer))

    def _client(self, forwarded: str, peer: str) -> str:
        """Return the right-most address that is no trusted proxy's: each entry was written by the proxy
        that comes after it, and what an untrusted one claims is not read."""
        found = peer
        for entry in reversed(forwarded.split(",")):
            address = _parsed(entry.strip())
            if address is None:
                return found
            found = str(address)
            if not self._trusts(address):
                return found
        return found

    def _trusts(self, address: Address | None) -> bool:
        return address is not None and any(address in network for network in self._networks)


def _parsed(text: str) -> Address | None:
    """Return the address; some proxies write its port, too. An IPv4 address in IPv6 is the former."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address

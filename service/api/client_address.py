"""Who asks: the client's address, also behind a proxy."""

from __future__ import annotations

import ipaddress
from wsgiref.types import WSGIEnvironment


def address(environ: WSGIEnvironment) -> str:
    """The address of the peer, or, if that is a proxy on this machine, of the proxy's client.

    X-Forwarded-For is believed only from loopback, and only its last entry: that is the one which the
    proxy has seen itself, whatever its client claims before it.
    """
    peer: str = environ.get("REMOTE_ADDR", "")
    forwarded: str = environ.get("HTTP_X_FORWARDED_FOR", "")
    # Hardly any request has the header in a setup without a proxy: look at it first.
    if not forwarded or not _is_here(peer):
        return peer
    return forwarded.rpartition(",")[2].strip() or peer


def _is_here(peer: str) -> bool:
    try:
        return ipaddress.ip_address(peer).is_loopback
    except ValueError:
        return False

"""Whose address, scheme and host count as the caller's."""

from __future__ import annotations

import ipaddress

import pytest

from headway.contract.settings import load
from service.api.trusted_proxies import TrustedProxies

BY_DEFAULT = load({"REDIS_URL": "redis://127.0.0.1"}).trusted_proxies
PRIVATE = "10.0.0.0/8,172.16.0.0/12,192.168.0.0/16,fc00::/8,fd00::/8"
OURS = frozenset(map(ipaddress.ip_network, ("10.0.0.0/8", "2001:db8:1::/48")))


def applied(networks: frozenset[object], peer: str, **headers: str) -> tuple[str, str, str | None]:
    """The address, the scheme and the host of a request from the peer with these headers."""
    environ = {"REMOTE_ADDR": peer, "wsgi.url_scheme": "http"}
    environ |= {f"HTTP_X_FORWARDED_{name}": value for name, value in headers.items()}
    host = TrustedProxies(networks).apply(environ)  # type: ignore[arg-type]
    assert not [name for name in environ if name.startswith("HTTP_")], "nothing else reads them"
    return environ["REMOTE_ADDR"], environ["wsgi.url_scheme"], host


@pytest.mark.parametrize(
    ("peer", "forwarded", "expected"),
    [
        ("127.0.0.1", "", "127.0.0.1"),
        ("127.0.0.1", "203.0.113.7", "203.0.113.7"),
        ("::1", "2001:db8::7", "2001:db8::7"),
        ("::ffff:127.0.0.1", "203.0.113.7", "203.0.113.7"),
        ("127.0.0.1", "what the client claims, 203.0.113.7", "203.0.113.7"),
        ("127.0.0.1", "203.0.113.7,", "127.0.0.1"),
        ("127.0.0.1", "unknown", "127.0.0.1"),
        ("192.0.2.1", "203.0.113.7", "192.0.2.1"),
        ("2001:db8::1", "203.0.113.7", "2001:db8::1"),
        ("", "203.0.113.7", ""),
    ],
)
def test_by_default_only_a_proxy_on_this_machine_is_believed(
    peer: str, forwarded: str, expected: str
) -> None:
    assert applied(BY_DEFAULT, peer, FOR=forwarded)[0] == expected


@pytest.mark.parametrize(
    ("peer", "forwarded", "expected"),
    [
        ("10.0.0.1", "203.0.113.7, 10.9.9.9", "203.0.113.7"),
        ("10.0.0.1", "198.51.100.1, 203.0.113.7, 10.9.9.9, 2001:db8:1::5", "203.0.113.7"),
        ("10.0.0.1", "10.0.0.7, 10.0.0.8", "10.0.0.7"),
        ("10.0.0.1", "198.51.100.1, nonsense, 10.9.9.9", "10.9.9.9"),
        ("10.0.0.1", "203.0.113.7:4711", "203.0.113.7"),
        ("10.0.0.1", "[2001:db8:2::7]:4711", "2001:db8:2::7"),
        ("127.0.0.1", "203.0.113.7", "127.0.0.1"),
        ("11.0.0.1", "203.0.113.7", "11.0.0.1"),
    ],
)
def test_the_caller_is_the_right_most_address_that_is_no_trusted_proxy(
    peer: str, forwarded: str, expected: str
) -> None:
    assert applied(OURS, peer, FOR=forwarded)[0] == expected


def test_scheme_and_host_are_believed_from_a_trusted_proxy_alone() -> None:
    said = {"PROTO": "https", "HOST": "evil.example, jobs.example"}
    assert applied(OURS, "10.0.0.1", **said) == ("10.0.0.1", "https", "jobs.example")
    assert applied(OURS, "192.0.2.1", **said) == ("192.0.2.1", "http", None)
    assert applied(OURS, "10.0.0.1", PROTO="https, http")[1] == "http"
    assert applied(OURS, "10.0.0.1", PROTO="gopher")[1] == "http"


def test_all_private_networks_may_be_trusted() -> None:
    assert len(load({"REDIS_URL": "redis://127.0.0.1", "TRUSTED_PROXIES": PRIVATE}).trusted_proxies) == 5

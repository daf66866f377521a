"""Where a store is: the URLs that REDIS_URL takes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal
from urllib.parse import parse_qsl, urlsplit

_SCHEME = re.compile(r"(redis|rediss)\+(sentinel|cluster)|redis|rediss|unix")
_PORTS = {"one": 6379, "sentinel": 26379, "cluster": 6379}
_PARAMETERS = {"db", "username", "password", "client_name", "health_check_interval"}
SPELLINGS = (
    "is none of redis://HOST, rediss://HOST, unix://PATH, redis+sentinel://HOST,HOST,…/NAME/DB and "
    "redis+cluster://HOST,HOST,… (rediss+… with TLS)"
)


@dataclass(frozen=True, slots=True)
class ServerUrl:
    kind: Literal["one", "sentinel", "cluster"]
    tls: bool
    hosts: tuple[tuple[str, int], ...]
    """Of the sentinels, or of some servers of the cluster."""
    service: str
    """What the sentinels call the primary."""
    plain: str
    """The URL of one server, as redis-py takes it; of one that is found otherwise, with all but its
    address."""

    @classmethod
    def of(cls, url: str) -> ServerUrl:
        """Parse a URL. Raises ValueError, whose message says of REDIS_URL what is wrong, and quotes none of
        it: it may hold a password."""
        scheme, separator, rest = url.partition("://")
        found = _SCHEME.fullmatch(scheme)
        if not separator or found is None or not rest:
            raise ValueError(SPELLINGS)
        kind = found[2] or "one"
        head, _, query = rest.partition("?")
        _check_parameters(query)
        netloc, slash, path = head.partition("/")
        user, at, hosts = netloc.rpartition("@")
        if kind == "one":
            if "," in hosts:
                raise ValueError(
                    "names several hosts, which only redis+sentinel://HOST,HOST,…/NAME/DB and "
                    "redis+cluster://HOST,HOST,… do"
                )
            _check_address(url)
            return cls("one", scheme == "rediss", (), "", url)
        pairs = tuple(_host_and_port(part, _PORTS[kind]) for part in hosts.split(","))
        parts = path.split("/") if path else []
        service, database = "", ""
        if kind == "sentinel":
            if len(parts) not in (1, 2) or not parts[0]:
                raise ValueError("lacks the primary's name: redis+sentinel://HOST,HOST,…/NAME/DB")
            service, database = parts[0], (parts[1] if len(parts) == 2 else "") or "0"
            if not database.isdigit():
                raise ValueError("has no database that is a number: redis+sentinel://HOST,HOST,…/NAME/DB")
        elif slash and path.strip("/") not in ("", "0"):
            raise ValueError("names a database, and a cluster has only the first")
        tls = scheme.startswith("rediss")
        plain = f"{'rediss' if tls else 'redis'}://{user}{at}unknown/{database}" + (
            f"?{query}" if query else ""
        )
        _check_address(plain)
        return cls("sentinel" if kind == "sentinel" else "cluster", tls, pairs, service, plain)


def _check_address(url: str) -> None:
    parts = None
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018
    except ValueError:
        # Its message would quote a part of the password.
        parts = None
    if parts is None:
        raise ValueError(
            "has no host and port that can be read; percent-encode special characters of a password"
        )
    if not (parts.netloc or parts.path):
        raise ValueError(SPELLINGS)


def _check_parameters(query: str) -> None:
    for name, _ in parse_qsl(query, keep_blank_values=True):
        if name.startswith("ssl_"):
            raise ValueError(
                "has an ssl_… parameter; REDIS_CA_FILE and REDIS_TLS_VERIFY say how TLS is verified"
            )
        if name not in _PARAMETERS:
            raise ValueError(f"has the parameter {name!r}; it takes {', '.join(sorted(_PARAMETERS))}")


def _host_and_port(text: str, port: int) -> tuple[str, int]:
    parts = None
    try:
        parts = urlsplit(f"//{text}")
        found = parts.hostname, parts.port or port
    except ValueError:
        found = None, port
    if not found[0] or (parts is not None and (parts.path or parts.username)):
        raise ValueError("has a host that cannot be read: it takes HOST or HOST:PORT, separated by commas")
    return found[0], found[1]

"""Where a store is, or a broker in Redis: the URLs that REDIS_URL takes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlsplit

_SCHEME = re.compile(r"(redis|rediss)\+(sentinel|cluster)|redis|rediss|unix")
_PORTS = {"one": 6379, "sentinel": 26379, "cluster": 6379}
_PARAMETERS = {"db", "username", "password", "client_name", "health_check_interval"}
_NUMBERS = {"db", "health_check_interval"}
_NUMBER = re.compile(r"[0-9]{1,9}")
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
        if "#" in url:
            # It would be the end of the address.
            raise ValueError("has a #; percent-encode special characters of a password")
        kind = found[2] or "one"
        head, _, query = rest.partition("?")
        has_database = _check_parameters(query)
        netloc, slash, path = head.partition("/")
        user, at, hosts = netloc.rpartition("@")
        if kind == "one":
            if "," in hosts:
                raise ValueError(
                    "names several hosts, which only redis+sentinel://HOST,HOST,…/NAME/DB and "
                    "redis+cluster://HOST,HOST,… do"
                )
            _check_address(url)
            if scheme == "unix" and (hosts or not path):
                raise ValueError("has no absolute path: unix:///PATH")
            if scheme != "unix" and path and not _NUMBER.fullmatch(path):
                raise ValueError(f"has no database that is a number: {scheme}://HOST/DB")
            return cls("one", scheme == "rediss", (), "", url)
        if has_database:
            raise ValueError("has the parameter 'db', which only a single address has")
        pairs = tuple(_host_and_port(part, _PORTS[kind]) for part in hosts.split(","))
        parts = path.split("/") if path else []
        service, database = "", ""
        if kind == "sentinel":
            if len(parts) not in (1, 2) or not parts[0]:
                raise ValueError("lacks the primary's name: redis+sentinel://HOST,HOST,…/NAME/DB")
            service, database = parts[0], (parts[1] if len(parts) == 2 else "") or "0"
            if not _NUMBER.fullmatch(database):
                raise ValueError("has no database that is a number: redis+sentinel://HOST,HOST,…/NAME/DB")
        elif slash and path.strip("/") not in ("", "0"):
            raise ValueError("names a database, and a cluster has only the first")
        tls = scheme.startswith("rediss")
        plain = f"{'rediss' if tls else 'redis'}://{user}{at}unknown/{database}" + (
            f"?{query}" if query else ""
        )
        if "@" in user or _check_address(plain).hostname != "unknown":
            raise ValueError("has a password before each host; one for all servers stands before the first")
        return cls("sentinel" if kind == "sentinel" else "cluster", tls, pairs, service, plain)

    @property
    def kombu(self) -> str:
        """The URL as kombu spells it: without parameters, each sentinel with a URL of its own, and a Unix
        socket with another scheme."""
        parts = urlsplit(self.plain)
        given = dict(parse_qsl(parts.query))
        username = given.get("username") or unquote(parts.username or "")
        password = given.get("password") or unquote(parts.password or "")
        login = f"{quote(username, safe='')}:{quote(password, safe='')}@" if username or password else ""
        if parts.scheme == "unix":
            return f"redis+socket://{login}{parts.path}?virtual_host={given.get('db', 0)}"
        database = given.get("db") or parts.path.lstrip("/") or "0"
        scheme = "sentinel" if self.kind == "sentinel" else parts.scheme
        hosts = self.hosts or ((parts.hostname or "localhost", parts.port or _PORTS["one"]),)
        return ";".join(
            f"{scheme}://{login}{f'[{host}]' if ':' in host else host}:{port}/{database}"
            for host, port in hosts
        )


def _check_address(url: str) -> SplitResult:
    """Return the parts of a URL with one host. Raises ValueError if it cannot be read."""
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
    return parts


def _check_parameters(query: str) -> bool:
    """Return whether the database is among the parameters. Raises ValueError for one that is not known, or
    is no number where it has to be one."""
    given = dict(parse_qsl(query, keep_blank_values=True))
    for name, value in given.items():
        if name.startswith("ssl_"):
            raise ValueError(
                "has an ssl_… parameter; REDIS_CA_FILE and REDIS_TLS_VERIFY say how TLS is verified"
            )
        if name not in _PARAMETERS:
            raise ValueError(f"has the parameter {name!r}; it takes {', '.join(sorted(_PARAMETERS))}")
        if name in _NUMBERS and not _NUMBER.fullmatch(value):
            raise ValueError(f"has the parameter {name!r}, which takes a number")
    return "db" in given


def _host_and_port(text: str, port: int) -> tuple[str, int]:
    parts = None
    try:
        parts = urlsplit(f"//{text}")
        found = parts.hostname, parts.port or port
    except ValueError:
        found = None, port
    if not found[0] or ";" in text or (parts is not None and (parts.path or parts.username)):
        raise ValueError("has a host that cannot be read: it takes HOST or HOST:PORT, separated by commas")
    return found[0], found[1]

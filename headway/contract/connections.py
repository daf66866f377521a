"""Connections that never stay at a server that takes no writes, and pools of them.

After a failover the same address leads to another server, sooner or later. So a connection asks what it
has reached before it is used, and one that is told READONLY, LOADING, MASTERDOWN and the like, or nothing
at all, is lost: whoever uses it gets a redis.ConnectionError (or TimeoutError), as of any that broke.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, cast

import redis
from redis.backoff import EqualJitterBackoff, NoBackoff
from redis.connection import AbstractConnection, parse_url
from redis.exceptions import ClusterDownError, ReadOnlyError, ResponseError
from redis.retry import Retry
from redis.sentinel import Sentinel

from headway.contract.server_url import ServerUrl

SENTINEL_S = 1.0
"""How long a sentinel, a server asked for the cluster's slots, or one that was silent has to answer."""
SILENT_S = 1.0
"""How long nobody tries to connect to a server that has just not answered."""
_SAID = re.compile(r"^(role|run_id):(\w+)", re.MULTILINE)


class NotPrimary(redis.ConnectionError):
    """The server at the other end takes no writes. `run_id` is what it calls itself."""

    def __init__(self, run_id: str = "") -> None:
        super().__init__("the server is a replica, which takes no writes")
        self.run_id = run_id


class Home:
    """What the connections of one pool share."""

    def __init__(self, sentinels: Sentinels | None = None) -> None:
        self.sentinels = sentinels
        """They say where the server is now, if that is not always the same place."""
        self.address: tuple[str, int] | None = None
        """Where it was said to be, when the last of them was made."""
        self.era = 0
        """Counted up when one of them was lost: those made before are not used again."""
        self.silent_until: float | None = None
        """If the server did not answer in time when it was last asked: the time (monotonic) before which
        nobody tries to connect to it."""


class ToPrimary(AbstractConnection):
    """A connection to a server that takes writes. Its `connect` raises NotPrimary if there is none.

    The caller that finds out that a server is silent waits for the usual timeout. Those after it do not,
    as they may have other servers to talk to: they get a TimeoutError at once, or once in SILENT_S after
    at most SENTINEL_S."""

    def __init__(self, *, home: Home, any_role: bool = False, **options: Any) -> None:
        self._home = home
        self._any_role = any_role
        self._era = 0
        self.run_id = ""
        """What the server calls itself: it is another after a restart."""
        super().__init__(**options)

    def connect(self) -> None:
        """Connect, unless it is connected. Called before each use."""
        home = self._home
        if self._era != home.era:
            self.disconnect()  # type: ignore[no-untyped-call]
        usual = self.socket_timeout, self.socket_connect_timeout
        if home.silent_until is not None:
            if time.monotonic() < home.silent_until:
                raise redis.TimeoutError("the server did not answer a moment ago")
            self.socket_timeout = self.socket_connect_timeout = min(SENTINEL_S, usual[0] or SENTINEL_S)
        try:
            super().connect()  # type: ignore[no-untyped-call]
        except redis.TimeoutError:
            home.silent_until = time.monotonic() + SILENT_S
            raise
        finally:
            self.socket_timeout, self.socket_connect_timeout = usual
        if home.silent_until is not None and (sock := self._get_socket()) is not None:
            home.silent_until = None
            sock.settimeout(self.socket_timeout)

    def _connect(self) -> Any:
        if self._home.sentinels is not None:
            self.host, self.port = self._home.address = self._home.sentinels.find()
        return super()._connect()  # type: ignore[no-untyped-call, safe-super]

    def on_connect_check_health(self, check_health: bool = True) -> None:
        # From before it is asked: what is lost meanwhile, this one may be too.
        self._era = self._home.era
        super().on_connect_check_health(check_health)
        self.send_command("INFO", "server", "replication", check_health=False)  # type: ignore[no-untyped-call]
        said = dict(_SAID.findall(str(self.read_response(), "utf-8")))
        self.run_id = said.get("run_id", "")
        if said.get("role") == "slave" and not self._any_role:
            raise NotPrimary(self.run_id)

    def read_response(self, *args: Any, **options: Any) -> Any:
        try:
            return super().read_response(*args, **options)
        # LOADING is a ConnectionError, MASTERDOWN a ClusterDownError.
        except (ReadOnlyError, ClusterDownError) as error:
            raise self._lost(f"{error.status_code} {error}") from None
        except ResponseError as error:
            if not str(error).startswith("UNBLOCKED"):
                raise
            raise self._lost(str(error)) from None
        except (redis.ConnectionError, redis.TimeoutError) as error:
            self._home.era += 1
            if isinstance(error, redis.TimeoutError) and self._home.silent_until is None:
                # The next one to connect finds out whether it still is.
                self._home.silent_until = time.monotonic()
            raise

    def _lost(self, why: str) -> redis.ConnectionError:
        self.disconnect()  # type: ignore[no-untyped-call]
        self._home.era += 1
        return redis.ConnectionError(why)


class _Tcp(ToPrimary, redis.Connection):
    pass


class _Tls(ToPrimary, redis.SSLConnection):
    pass


class _Socket(ToPrimary, redis.UnixDomainSocketConnection):
    pass


_KINDS = {
    redis.Connection: _Tcp,
    redis.SSLConnection: _Tls,
    redis.UnixDomainSocketConnection: _Socket,
}


def connect(
    url: str, *, tls: Mapping[str, Any] | None = None, connections: int = 32, timeout_s: float = 5
) -> redis.Redis:
    """Return a client of one server, with a bounded pool, whose callers wait for a free connection.

    `tls` says how the certificate of a rediss:// server is verified (`Settings.tls`); without it, by the
    system's authorities and by name. Of a redis+sentinel:// URL it is whichever server the sentinels name.

    What fails because the connection is lost is tried twice more at once, on a new one. A call that hangs
    is not: after `timeout_s` it raises redis.TimeoutError, so that a caller who must act in time can.
    """
    return redis.Redis(connection_pool=make_pool(ServerUrl.of(url), None, tls, connections, timeout_s))


def make_pool(
    url: ServerUrl,
    address: tuple[str, int] | None,
    tls: Mapping[str, Any] | None,
    connections: int,
    timeout_s: float,
) -> redis.BlockingConnectionPool:
    """A pool of connections to `address`, or if it is None to where the URL leads."""
    options = parse_url(url.plain)
    kind = options.pop("connection_class", redis.Connection)
    # A Unix socket has neither, and its connection class refuses them.
    if kind is not redis.UnixDomainSocketConnection:
        options.update(socket_keepalive=True, socket_connect_timeout=timeout_s)
    verified = dict(tls or {}) if url.tls else {}
    sentinels = None
    if url.kind == "sentinel":
        sentinels = Sentinels(url, {**verified, "ssl": True} if url.tls else {})
    if address is not None:
        options["host"], options["port"] = address
    return redis.BlockingConnectionPool(
        connection_class=_KINDS[kind],
        max_connections=connections,
        timeout=timeout_s,
        # RESP3 makes each connect log an error on Valkey.
        protocol=2,
        socket_timeout=timeout_s,
        retry=Retry(EqualJitterBackoff(cap=0.5, base=0.05), 2, supported_errors=(redis.ConnectionError,)),
        home=Home(sentinels),
        **options,
        **verified,
    )


def renew(pool: Any) -> None:
    """Have no connection of a pool used again: another server is the primary, and those that are open may
    still lead to the former one, which answers as if nothing had happened."""
    pool.connection_kwargs["home"].era += 1


class Sentinels:
    """They say where the primary is. Every method raises redis.RedisError if they cannot be asked."""

    def __init__(self, url: ServerUrl, options: Mapping[str, Any]) -> None:
        retry = Retry(NoBackoff(), 0)
        self._service = url.service
        self._asked = Sentinel(
            url.hosts,
            sentinel_kwargs={"socket_timeout": SENTINEL_S, "protocol": 2, "retry": retry, **options},
        )

    def find(self) -> tuple[str, int]:
        """Ask the sentinels in turn; return the first answer."""
        host, port = self._asked.discover_master(self._service)
        return str(host), int(port)

    def agreed(self) -> tuple[str, int]:
        """Return where the primary is for most of them: one that is cut off with a former primary knows of
        no other."""
        for sentinel in self._asked.sentinels:
            with suppress(redis.RedisError):
                sentinel.sentinel_ckquorum(self._service)
                found = sentinel.sentinel_get_master_addr_by_name(self._service)
                host, port = cast("tuple[bytes, int]", found)
                return host.decode(), int(port)
        raise redis.ConnectionError("no sentinel that is in touch with most of the others answers")

"""The servers of the store: who takes writes there, and connections that never stay at one that does not.

After a failover the same address leads to another server, sooner or later. So a connection asks what it
has reached before it is used, and one that is told READONLY, LOADING, MASTERDOWN and the like, or nothing
at all, is lost: whoever uses it gets a redis.ConnectionError (or TimeoutError), as of any that broke.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import redis
from redis.backoff import EqualJitterBackoff
from redis.connection import AbstractConnection, parse_url
from redis.exceptions import ClusterDownError, ReadOnlyError, ResponseError
from redis.retry import Retry

_SAID = re.compile(r"^(role|run_id):(\w+)", re.MULTILINE)


class NotPrimary(redis.ConnectionError):
    """The server at the other end takes no writes. `run_id` is what it calls itself."""

    def __init__(self, run_id: str = "") -> None:
        super().__init__("the server is a replica, which takes no writes")
        self.run_id = run_id


class _Home:
    """What the connections of one client share."""

    def __init__(self) -> None:
        self.era = 0
        """Counted up when one of them was lost: those made before are not used again."""


class ToPrimary(AbstractConnection):
    """A connection to a server that takes writes. Its `connect` raises NotPrimary if there is none."""

    def __init__(self, *, home: _Home, **options: Any) -> None:
        self._home = home
        self._era = 0
        self.run_id = ""
        """What the server calls itself: it is another after a restart."""
        super().__init__(**options)

    def connect(self) -> None:
        """Connect, unless it is connected. Called before each use."""
        if self._era != self._home.era:
            self.disconnect()  # type: ignore[no-untyped-call]
        super().connect()  # type: ignore[no-untyped-call]

    def on_connect_check_health(self, check_health: bool = True) -> None:
        # From before it is asked: what is lost meanwhile, this one may be too.
        self._era = self._home.era
        super().on_connect_check_health(check_health)
        self.send_command("INFO", "server", "replication", check_health=False)  # type: ignore[no-untyped-call]
        said = dict(_SAID.findall(str(self.read_response(), "utf-8")))
        self.run_id = said.get("run_id", "")
        if said.get("role") == "slave":
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
        except (redis.ConnectionError, redis.TimeoutError):
            self._home.era += 1
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
    """Return a client with a bounded pool, whose callers wait for a free connection.

    `tls` says how the certificate of a rediss:// server is verified (`Settings.tls`); without it, by the
    system's authorities and by name.

    What fails because the connection is lost is tried twice more at once, on a new one. A call that hangs
    is not: after `timeout_s` it raises redis.TimeoutError, so that a caller who must act in time can.
    """
    options = parse_url(url)
    kind = options.pop("connection_class", redis.Connection)
    # A Unix socket has neither, and its connection class refuses them.
    if kind is not redis.UnixDomainSocketConnection:
        options.update(socket_keepalive=True, socket_connect_timeout=timeout_s)
    if kind is redis.SSLConnection:
        options.update(tls or {})
    pool = redis.BlockingConnectionPool(
        connection_class={redis.SSLConnection: _Tls, redis.UnixDomainSocketConnection: _Socket}.get(
            kind, _Tcp
        ),
        max_connections=connections,
        timeout=timeout_s,
        # RESP3 makes each connect log an error on Valkey.
        protocol=2,
        socket_timeout=timeout_s,
        retry=Retry(EqualJitterBackoff(cap=0.5, base=0.05), 2, supported_errors=(redis.ConnectionError,)),
        home=_Home(),
        **options,
    )
    return redis.Redis(connection_pool=pool)

"""The servers of the store: who takes writes there, and connections that never stay at one that does not.

After a failover the same address leads to another server, sooner or later. So a connection asks what it
has reached before it is used, and one that is told READONLY, LOADING, MASTERDOWN and the like, or nothing
at all, is lost: whoever uses it gets a redis.ConnectionError (or TimeoutError), as of any that broke.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Protocol, TypeVar, cast

import redis
from redis.backoff import EqualJitterBackoff, NoBackoff
from redis.client import Pipeline
from redis.connection import AbstractConnection, parse_url
from redis.exceptions import (
    AskError,
    ClusterDownError,
    MovedError,
    ReadOnlyError,
    ResponseError,
    TryAgainError,
)
from redis.retry import Retry
from redis.sentinel import Sentinel

from headway.contract.layout import slot_of
from headway.contract.server_url import ServerUrl

SENTINEL_S = 1.0
"""How long a sentinel, a server asked for the cluster's slots, or one that was silent has to answer."""
SILENT_S = 1.0
"""How long nobody tries to connect to a server that has just not answered."""
MOVING_S = 3.0
"""How long a call waits for a slot that is on its way to another server."""
AGAIN_S = 0.1
T = TypeVar("T")
_SAID = re.compile(r"^(role|run_id):(\w+)", re.MULTILINE)


class NotPrimary(redis.ConnectionError):
    """The server at the other end takes no writes. `run_id` is what it calls itself."""

    def __init__(self, run_id: str = "") -> None:
        super().__init__("the server is a replica, which takes no writes")
        self.run_id = run_id


class _Home:
    """What the connections of one pool share."""

    def __init__(self, sentinels: _Sentinels | None = None) -> None:
        self.sentinels = sentinels
        """They say where the server is now, if that is not always the same place."""
        self.address: tuple[str, int] | None = None
        """Where it was said to be, when the last of them was made."""
        self.era = 0
        """Counted up when one of them was lost: those made before are not used again."""
        self.silent = False
        """Whether the server did not answer in time when it was last asked."""
        self.asked_again_at = float("-inf")
        """Before this time (monotonic) nobody tries to connect to it if it is silent."""


class ToPrimary(AbstractConnection):
    """A connection to a server that takes writes. Its `connect` raises NotPrimary if there is none.

    The caller that finds out that a server is silent waits for the usual timeout. Those after it do not,
    as they may have other servers to talk to: they get a TimeoutError at once, or once in SILENT_S after
    at most SENTINEL_S."""

    def __init__(self, *, home: _Home, any_role: bool = False, **options: Any) -> None:
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
        if home.silent and time.monotonic() < home.asked_again_at:
            raise redis.TimeoutError("the server did not answer a moment ago")
        usual = self.socket_timeout, self.socket_connect_timeout
        if home.silent:
            self.socket_timeout = self.socket_connect_timeout = min(SENTINEL_S, usual[0] or SENTINEL_S)
        try:
            super().connect()  # type: ignore[no-untyped-call]
        except redis.TimeoutError:
            home.silent, home.asked_again_at = True, time.monotonic() + SILENT_S
            raise
        finally:
            self.socket_timeout, self.socket_connect_timeout = usual
        if home.silent and (sock := self._get_socket()) is not None:
            home.silent = False
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
            self._home.silent = self._home.silent or isinstance(error, redis.TimeoutError)
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
    return redis.Redis(connection_pool=_pool(ServerUrl.of(url), None, tls, connections, timeout_s))


def _pool(
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
        sentinels = _Sentinels(url, {**verified, "ssl": True} if url.tls else {})
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
        home=_Home(sentinels),
        **options,
        **verified,
    )


def renew(pool: Any) -> None:
    """Have no connection of a pool used again: another server is the primary, and those that are open may
    still lead to the former one, which answers as if nothing had happened."""
    pool.connection_kwargs["home"].era += 1


class _Sentinels:
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


# -- all servers of a store ------------------------------------------------------------------------


class Servers(Protocol):
    """Who has which keys of a store. Only `refresh`, and the clients, wait for a server."""

    def at(self, key: str) -> redis.Redis:
        """Return a client of the primary where a key is, wherever that is at the time of each call."""
        ...

    def pool_of(self, key: str) -> Any:
        """Return the pool of connections to that primary; None while it is not known."""
        ...

    def pools(self) -> list[Any]:
        """Return the pools of all primaries, as far as they are known."""
        ...

    def refresh(self, *, older_than_s: float = 0) -> None:
        """Ask which primary has what, unless that is known for less. Raises redis.RedisError."""
        ...

    def confirm(self) -> None:
        """Check that no server that is asked can be a former primary, which lacks what was written since.
        Raises redis.RedisError if one might be. A server of a cluster finds out by itself; a single
        address is believed."""
        ...

    def close(self) -> None: ...


class OneServer:
    """A store on one primary: behind one address, or the one that sentinels name."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client

    def at(self, key: str) -> redis.Redis:  # noqa: ARG002
        return self._client

    def pool_of(self, key: str) -> Any:  # noqa: ARG002
        return self._client.connection_pool

    def pools(self) -> list[Any]:
        return [self._client.connection_pool]

    def refresh(self, *, older_than_s: float = 0) -> None:
        pass

    def confirm(self) -> None:
        home: _Home | None = self._client.connection_pool.connection_kwargs.get("home")
        sentinels = home and home.sentinels
        if home and sentinels and home.address not in (None, sentinels.agreed()):
            renew(self._client.connection_pool)
            raise redis.ConnectionError("another server is the primary")

    def close(self) -> None:
        self._client.close()


class Cluster:
    """The primaries of a Redis Cluster, each with a pool of its own.

    Not redis-py's cluster client: every call here names one slot, so that a plain client of its server
    does, with pipelines of scripts, transactions and the pool's bounds as with one server.
    """

    def __init__(
        self, make_pool: Callable[[tuple[str, int]], Any], seeds: Sequence[tuple[str, int]]
    ) -> None:
        self._make_pool = make_pool
        self._seeds = list(seeds)
        self._pools: dict[tuple[str, int], Any] = {}
        self._ranges: list[tuple[int, int, tuple[str, int]]] = []
        self._asked_at = float("-inf")
        self._asking = threading.Lock()
        self._clients: dict[int, redis.Redis] = {}

    def at(self, key: str) -> redis.Redis:
        slot = slot_of(key)
        client = self._clients.get(slot)
        if client is None:
            client = self._clients[slot] = _SlotClient(self, slot)
        return client

    def pool_of(self, key: str) -> Any:
        return self.pool_at(slot_of(key))

    def pool_at(self, slot: int) -> Any:
        for first, last, address in self._ranges:
            if first <= slot <= last:
                return self._pools.get(address)
        return None

    def pools(self) -> list[Any]:
        return list(self._pools.values())

    def refresh(self, *, older_than_s: float = 0) -> None:
        began = time.monotonic()
        with self._asking:
            # Of several that ask at once, one does.
            if self._asked_at >= began - older_than_s and self._ranges:
                return
            self._adopt(self._ask())
            self._asked_at = time.monotonic()

    def _ask(self) -> list[Any]:
        """Ask the servers in turn, first those that are known, then those of the URL; return the first
        answer."""
        error: redis.RedisError = redis.ConnectionError("no server of the cluster answers")
        for address in dict.fromkeys([*self._pools, *self._seeds]):
            pool = self._pools.get(address) or self._make_pool(address)
            try:
                connection = pool.connection_class(
                    **{
                        **pool.connection_kwargs,
                        "socket_timeout": SENTINEL_S,
                        "socket_connect_timeout": SENTINEL_S,
                        "retry": Retry(NoBackoff(), 0),
                        "any_role": True,
                    }
                )
                try:
                    connection.connect()
                    connection.send_command("CLUSTER", "SLOTS")
                    slots = connection.read_response()
                finally:
                    connection.disconnect()
                if slots:
                    return list(slots)
            except redis.RedisError as failed:
                error = failed
        raise error

    def _adopt(self, slots: list[Any]) -> None:
        ranges = []
        for first, last, primary, *_ in slots:
            host = primary[0].decode() if primary[0] else self._seeds[0][0]
            ranges.append((int(first), int(last), (host, int(primary[1]))))
        addresses = {address for _, _, address in ranges}
        pools = {address: self._pools.get(address) or self._make_pool(address) for address in addresses}
        gone = [pool for address, pool in self._pools.items() if address not in addresses]
        self._pools, self._ranges = pools, ranges
        for pool in gone:
            pool.disconnect(inuse_connections=False)

    def confirm(self) -> None:
        pass

    def close(self) -> None:
        for pool in self._pools.values():
            pool.disconnect()

    def insist(self, slot: int, call: Callable[[], T]) -> T:
        """Call what talks to the server of a slot. If that has become another, call it again there."""
        deadline = time.monotonic() + MOVING_S
        while True:
            pool = self.pool_at(slot)
            try:
                if pool is None:
                    self.refresh()
                return call()
            except (AskError, TryAgainError):
                # Only some keys of the slot have moved yet.
                if time.monotonic() > deadline:
                    raise
                time.sleep(AGAIN_S)
                self.refresh(older_than_s=AGAIN_S)
            except (MovedError, redis.ConnectionError, redis.TimeoutError) as error:
                try:
                    self.refresh(older_than_s=0 if isinstance(error, MovedError) else AGAIN_S)
                except redis.RedisError:
                    raise error from None
                if self.pool_at(slot) is pool or isinstance(error, redis.TimeoutError):
                    raise


class _SlotClient(redis.Redis):
    """A client of whichever server has a slot at the time of each call."""

    _made = False

    def __init__(self, cluster: Cluster, slot: int) -> None:
        self._cluster = cluster
        self._slot = slot
        super().__init__(protocol=2)
        self.auto_close_connection_pool = False
        self._made = True

    @property
    def connection_pool(self) -> Any:
        pool = self._cluster.pool_at(self._slot)
        if pool is None and self._made:
            self._cluster.refresh()
            pool = self._cluster.pool_at(self._slot)
            if pool is None:
                raise redis.ConnectionError(f"no server of the cluster has slot {self._slot}")
        return pool or self._unused

    @connection_pool.setter
    def connection_pool(self, pool: Any) -> None:
        # redis-py's constructor sets what it takes for the only one.
        self._unused = pool

    def execute_command(self, *args: Any, **options: Any) -> Any:
        return self._cluster.insist(
            self._slot,
            lambda: super(_SlotClient, self).execute_command(*args, **options),  # type: ignore[no-untyped-call]
        )

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> Any:
        return _SlotPipeline(self, transaction, shard_hint)


class _SlotPipeline(Pipeline):
    """The same in one round trip."""

    def __init__(self, client: _SlotClient, transaction: bool, shard_hint: str | None) -> None:
        self._client = client
        super().__init__(client.connection_pool, client.response_callbacks, transaction, shard_hint)

    def execute(self, raise_on_error: bool = True) -> list[Any]:
        commands, scripts = list(self.command_stack), set(self.scripts)

        def call() -> list[Any]:
            self.command_stack, self.scripts = list(commands), set(scripts)
            self.connection_pool = self._client.connection_pool
            replies = super(_SlotPipeline, self).execute(raise_on_error)
            for reply in replies:
                if isinstance(reply, (MovedError, AskError, TryAgainError)):
                    raise reply
            return replies

        return self._client._cluster.insist(self._client._slot, call)


def servers_of(
    url: str, *, tls: Mapping[str, Any] | None = None, connections: int = 32, timeout_s: float = 5
) -> Servers:
    """Return the servers of a store; nothing is connected yet. The arguments are those of `connect`, and
    the bound is that of each server."""
    parsed = ServerUrl.of(url)
    if parsed.kind != "cluster":
        return OneServer(connect(url, tls=tls, connections=connections, timeout_s=timeout_s))
    return Cluster(lambda address: _pool(parsed, address, tls, connections, timeout_s), parsed.hosts)

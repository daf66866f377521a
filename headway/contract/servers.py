"""Servers: who takes writes for which key of a store."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import redis

from headway.contract.cluster import Cluster
from headway.contract.connections import Home, connect, make_pool, renew
from headway.contract.server_url import ServerUrl


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
        home: Home | None = self._client.connection_pool.connection_kwargs.get("home")
        sentinels = home and home.sentinels
        if home and sentinels and home.address not in (None, sentinels.agreed()):
            renew(self._client.connection_pool)
            raise redis.ConnectionError("another server is the primary")

    def close(self) -> None:
        self._client.close()


def servers_of(
    url: str, *, tls: Mapping[str, Any] | None = None, connections: int = 32, timeout_s: float = 5
) -> Servers:
    """Return the servers of a store; nothing is connected yet. The arguments are those of `connect`, and
    the bound is that of each server."""
    parsed = ServerUrl.of(url)
    if parsed.kind != "cluster":
        return OneServer(connect(url, tls=tls, connections=connections, timeout_s=timeout_s))
    return Cluster(lambda address: make_pool(parsed, address, tls, connections, timeout_s), parsed.hosts)

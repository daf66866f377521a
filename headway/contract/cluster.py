"""Cluster: the primaries of a Redis Cluster, and clients that follow a slot from one to another."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import redis
from redis.backoff import NoBackoff
from redis.client import Pipeline
from redis.exceptions import AskError, MovedError, TryAgainError
from redis.retry import Retry

from headway.contract.connections import SENTINEL_S
from headway.contract.layout import slot_of

MOVING_S = 3.0
"""How long a call waits for a slot that is on its way to another server."""
AGAIN_S = 0.1
T = TypeVar("T")


class Cluster:
    """The servers (servers.py) of a store in a Redis Cluster: its primaries, each with a pool of its own.

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

"""Stores of several servers, on three hosts: what is started, who is primary, how roles and slots move."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from headway.contract.layout import SLOTS
from tests.hosts.network import FLOATING, Network
from tests.support.redis_cluster import Sentinels, Server, ValkeyCluster
from tests.support.wait import until

HOSTS = ("store1", "store2", "store3")
DURABLE = ("appendonly yes", "appendfsync always")
CALL_S = 0.5
"""A server that is asked here may be paused, or behind a cut."""


class Store:
    """A store in pieces. `url` is REDIS_URL; `servers` hold data, and `sentinels` watch them."""

    url: str
    servers: list[Server]
    sentinels: Sequence[Server] = ()
    loses = True
    """Whether what it has accepted may be lost when a primary dies or is cut off, since a replica takes its
    place that need not have all of it."""

    def primaries(self) -> list[Server]:
        """The servers that take themselves for one, as far as they answer."""
        return [server for server in self.servers if role(server) == "master"]

    def fail_over(self, luck: float, at: Callable[[float, Callable[[], None]], None]) -> str | None:
        """Change the primary on purpose; what was done. `at` calls back after so many seconds."""
        raise NotImplementedError

    def migrate(self, luck: float) -> str | None:
        """Move slots under load; what was done, None if there are no slots."""
        return None

    def well(self) -> bool:
        """Whether each replica follows its primary."""
        return len(self.primaries()) < len(self.servers) and all(map(follows, self.servers))

    def close(self) -> None:
        for server in (*self.sentinels, *self.servers):
            server.close()


def impatient(server: Server) -> redis.Redis:
    """A client of a server that may not answer."""
    return redis.Redis(
        server.host.address,
        server.port,
        decode_responses=True,
        protocol=2,
        socket_timeout=CALL_S,
        socket_connect_timeout=CALL_S,
        retry=Retry(NoBackoff(), 0),
    )


def role(server: Server) -> str:
    with suppress(redis.RedisError), impatient(server) as client:
        return str(client.info("replication")["role"])
    return ""


def follows(server: Server) -> bool:
    with suppress(redis.RedisError), impatient(server) as client:
        told = client.info("replication")
        return bool(told["role"] == "master" or told["master_link_status"] == "up")
    return False


class ClusterStore(Store):
    """A cluster: a primary on each host, its replica on the next."""

    def __init__(self, directory: Path, network: Network) -> None:
        hosts = [network.hosts[name] for name in HOSTS]
        self._cluster = ValkeyCluster(directory, *DURABLE, replicas=True, hosts=hosts)
        self.servers = self._cluster.servers
        self.url = self._cluster.url
        self.slots: list[int] = []
        """Those that are worth moving: they hold jobs."""

    def fail_over(self, luck: float, at: Callable[[float, Callable[[], None]], None]) -> str | None:
        replicas = [server for server in self.servers if role(server) == "slave" and follows(server)]
        if not replicas:
            return None
        chosen = replicas[int(luck * len(replicas))]
        # It waits until the replica has all, with the writers paused.
        with suppress(redis.RedisError), impatient(chosen) as client:
            client.execute_command("CLUSTER", "FAILOVER")
            return f"failover to {chosen.host.address}:{chosen.port}"
        return None

    def migrate(self, luck: float) -> str | None:
        rng = random.Random(luck)
        slot = rng.choice(self.slots or range(SLOTS))
        primaries = self.primaries()
        with suppress(redis.RedisError):
            for source in primaries:
                with impatient(source) as client:
                    ranges = client.execute_command("CLUSTER", "SLOTS")
                    others = [server for server in primaries if server is not source]
                    for first, last, primary, *_ in ranges:
                        if first <= slot <= last and primary[1] == source.port and others:
                            target = rng.choice(others)
                            with impatient(target) as there:
                                node = there.execute_command("CLUSTER", "MYID")
                            words = ("CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", slot, slot, "NODE", node)
                            client.execute_command(*words)
                            return f"migrated slot {slot} from {source.port} to {target.port}"
        return None

    def well(self) -> bool:
        if not super().well():
            return False
        with suppress(redis.RedisError), impatient(self.servers[0]) as client:
            return "cluster_state:ok" in str(client.execute_command("CLUSTER", "INFO")).replace("': '", ":")
        return False


class SentinelStore(Store):
    """A primary and its replica, and a sentinel on each host."""

    def __init__(self, directory: Path, network: Network) -> None:
        hosts = [network.hosts[name] for name in HOSTS]
        self._all = Sentinels(directory, *DURABLE, hosts=hosts)
        self.servers = [self._all.primary, self._all.replica]
        self.sentinels = self._all.sentinels
        self.url = self._all.url

    def fail_over(self, luck: float, at: Callable[[float, Callable[[], None]], None]) -> str | None:
        chosen = self.sentinels[int(luck * len(self.sentinels))]
        # Refused if one is under way, or no replica is good enough.
        with suppress(redis.RedisError), impatient(chosen) as client:
            client.execute_command("SENTINEL", "FAILOVER", "main")
            return f"failover by {chosen.host.address}"
        return None


class FloatingStore(Store):
    """Two servers behind an address that is moved by hand, and late."""

    loses = False

    def __init__(self, directory: Path, network: Network) -> None:
        self._network = network
        options = (*DURABLE, "repl-diskless-sync-delay 0")
        # Both have the same port, since it is the address that moves.
        first = Server(directory / "first", *options, "bind 0.0.0.0", host=network.hosts["store1"])
        other = Server(
            directory / "other",
            *options,
            *("bind 0.0.0.0", f"replicaof {first.host.address} {first.port}"),
            host=network.hosts["store2"],
            port=first.port,
        )
        self.servers = [first, other]
        network.float_to("store1")
        self.url = f"redis://{FLOATING}:{first.port}/0"
        until(self.well, what="the replica to follow")

    def fail_over(self, luck: float, at: Callable[[float, Callable[[], None]], None]) -> str | None:
        if len(self.primaries()) != 1 or not self.well():
            return None
        (old,) = self.primaries()
        (new,) = (server for server in self.servers if server is not old)
        with suppress(redis.RedisError), impatient(old) as from_, impatient(new) as to:
            from_.client_pause(2000, all=False)
            if from_.wait(1, 400) < 1 or _offset(from_) != _offset(to):
                from_.client_unpause()
                return None
            to.replicaof("NO", "ONE")
            from_.replicaof(new.host.address, new.port)
            # As a process that is told after it was started again would be.
            for client in (from_, to):
                client.config_rewrite()
            from_.client_unpause()
            late_s = luck * 4
            at(late_s, lambda: self._network.float_to(_name(self._network, new)))
            return f"failover to {new.host.address}, the address {late_s:.1f} s late"
        return None


def _offset(client: redis.Redis) -> int:
    told = client.info("replication")
    return int(told.get("slave_repl_offset", told["master_repl_offset"]))


def _name(network: Network, server: Server) -> str:
    return next(name for name, host in network.hosts.items() if host == server.host)


STORES: dict[str, Callable[[Path, Network], Store]] = {
    "cluster": ClusterStore,
    "sentinel": SentinelStore,
    "address": FloatingStore,
}

"""Real clusters and sentinels of the Valkey that the tests use."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import redis

from service.process import valkey
from tests.support.host import HERE, Host
from tests.support.stack import free_port
from tests.support.wait import until

SLOTS = 16384


class Server:
    """One process. It has ended when `close` returns."""

    def __init__(
        self,
        directory: Path,
        *options: str,
        sentinel: bool = False,
        host: Host = HERE,
        port: int | None = None,
        password: str | None = None,
    ) -> None:
        directory.mkdir(parents=True)
        self.port = port or free_port()
        self.host = host
        self._directory = directory
        self._arguments = ["--sentinel"] if sentinel else []
        # A host of the tests has nobody on it who must not reach the server.
        lines = [f"port {self.port}", f"bind {host.address}", f"dir {directory}", 'save ""', *options]
        self._config.write_text("\n".join([*lines, "protected-mode no"]) + "\n")
        self.process = self.start()
        self.client = redis.Redis(
            host.address, self.port, password=password, decode_responses=True, protocol=2
        )
        until(self._answers, what="a server to answer")

    @property
    def _config(self) -> Path:
        return self._directory / "server.conf"

    def start(self) -> subprocess.Popen[bytes]:
        """Start it, on what it has kept if it ran before."""
        with (self._directory / "log").open("ab") as out:
            self.process = subprocess.Popen(
                [*self.host.enter, valkey.binary(), self._config, *self._arguments],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return self.process

    def _answers(self) -> bool:
        try:
            return bool(self.client.ping())
        except redis.RedisError:
            return False

    def ask(self, *command: Any) -> Any:
        return self.client.execute_command(*command)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        self.client.close()
        self.kill()


class ValkeyCluster:
    """Three primaries, the slots in thirds, each with a replica if asked for."""

    def __init__(
        self,
        directory: Path,
        *more: str,
        replicas: bool = False,
        hosts: Sequence[Host] = (HERE, HERE, HERE),
    ) -> None:
        """`more` are lines of each server's configuration. A primary's replica is on the next host."""
        options = (
            *("cluster-enabled yes", "cluster-node-timeout 1000", "cluster-require-full-coverage no"),
            *("cluster-allow-replica-migration no", "repl-diskless-sync-delay 0", *more),
        )
        buses = [free_port() for _ in range(6 if replicas else 3)]
        self.servers = [
            Server(
                directory / f"node{n}",
                *options,
                f"cluster-port {bus}",
                host=hosts[(n + n // 3) % len(hosts)],
            )
            for n, bus in enumerate(buses)
        ]
        first, *others = self.servers
        for server, bus in zip(others, buses[1:], strict=True):
            first.ask("CLUSTER", "MEET", server.host.address, server.port, bus)
        for n, server in enumerate(self.servers[:3]):
            server.ask("CLUSTER", "ADDSLOTSRANGE", SLOTS * n // 3, SLOTS * (n + 1) // 3 - 1)
        until(lambda: all(len(self._nodes(server)) == len(self.servers) for server in self.servers), 30)
        for primary, replica in zip(self.servers[:3], self.servers[3:], strict=False):
            replica.ask("CLUSTER", "REPLICATE", primary.ask("CLUSTER", "MYID"))
        until(lambda: all(self._well(server) for server in self.servers), 30, "the cluster to be well")
        self.url = "redis+cluster://" + ",".join(f"{s.host.address}:{s.port}" for s in self.servers[:2])

    def _nodes(self, server: Server) -> list[str]:
        found = server.ask("CLUSTER", "NODES")
        return list(found) if isinstance(found, dict) else str(found).splitlines()

    def _well(self, server: Server) -> bool:
        info = server.ask("CLUSTER", "INFO")
        state = info["cluster_state"] if isinstance(info, dict) else str(info).split()[0]
        linked = (
            server in self.servers[:3] or server.client.info("replication")["master_link_status"] == "up"
        )
        return bool(state.endswith("ok")) and linked

    def server_of(self, slot: int) -> Server:
        return self.servers[slot * 3 // SLOTS]

    def move(self, slot: int, source: Server, target: Server) -> None:
        """Move a slot with all that is in it, at once."""
        source.ask(
            "CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", slot, slot, "NODE", target.ask("CLUSTER", "MYID")
        )
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            for first, last, primary, *_ in target.ask("CLUSTER", "SLOTS"):
                if first <= slot <= last and primary[1] == target.port:
                    return
            time.sleep(0.05)
        raise AssertionError("the slot has not moved")

    def close(self) -> None:
        for server in self.servers:
            server.close()


class Sentinels:
    """A primary, its replica, and three who watch over them."""

    def __init__(self, directory: Path, *more: str, hosts: Sequence[Host] = (HERE, HERE, HERE)) -> None:
        """Primary and replica are on the first two hosts; `more` are lines of their configurations."""
        options = ("appendonly yes", "repl-diskless-sync-delay 0", *more)
        first = hosts[0].address
        self.primary = Server(directory / "primary", *options, host=hosts[0])
        self.replica = Server(
            directory / "replica", *options, f"replicaof {first} {self.primary.port}", host=hosts[1]
        )
        until(
            lambda: self.replica.client.info("replication")["master_link_status"] == "up",
            what="the replica to follow",
        )
        self.sentinels = [
            Server(
                directory / f"sentinel{n}",
                f"sentinel monitor main {first} {self.primary.port} 2",
                "sentinel down-after-milliseconds main 1000",
                "sentinel failover-timeout main 5000",
                sentinel=True,
                host=host,
            )
            for n, host in enumerate(hosts)
        ]
        until(lambda: all(self._knows_all(sentinel) for sentinel in self.sentinels), 30, "the sentinels")
        addresses = ",".join(f"{s.host.address}:{s.port}" for s in self.sentinels)
        self.url = f"redis+sentinel://{addresses}/main/0"

    def _knows_all(self, sentinel: Server) -> bool:
        fields = sentinel.ask("SENTINEL", "MASTER", "main")
        if not isinstance(fields, dict):
            fields = dict(zip(fields[::2], fields[1::2], strict=True))
        return int(fields["num-other-sentinels"]) == 2 and int(fields["num-slaves"]) == 1

    def close(self) -> None:
        for server in (*self.sentinels, self.replica, self.primary):
            server.close()

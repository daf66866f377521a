"""Clients that come and are gone: what they leave behind in memory, descriptors and Redis."""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from tests.bench import process
from tests.bench.bench import Bench
from tests.bench.clients import Client
from tests.bench.peers import Headway

NAME = "aborts"
TITLE = "Connects and aborts: before, and 5 s after the last"
COUNT = 100_000
WARM_SHARE = 0.05
SETTLE_S = 5.0


@dataclass(frozen=True, slots=True)
class Left:
    rss_mib: float
    descriptors: int
    clients: int
    channels: int

    @classmethod
    def of(cls, server: Headway) -> Left:
        redis = server.stack.store.redis
        return cls(
            process.memory(server.pid).rss / 1024,
            process.descriptors(server.pid),
            int(redis.info("clients")["connected_clients"]),
            len(redis.pubsub_shardchannels()),
        )


def run(bench: Bench) -> None:
    count = 5_000 if bench.quick else COUNT
    for _ in range(bench.runs):
        with closing(Headway(bench.fresh())) as server:
            # The first share fills caches and pools; a leak shows in the rest.
            run_aborts(bench, server, round(count * WARM_SHARE))
            before = Left.of(server)
            got = run_aborts(bench, server, count)
            after = Left.of(server)
        bench.add(
            NAME,
            f"{count:,} aborts",
            server.name,
            connects_per_s=count / got["seconds"],
            RSS_before_MiB=before.rss_mib,
            RSS_after_MiB=after.rss_mib,
            descriptors_before=before.descriptors,
            descriptors_after=after.descriptors,
            Redis_clients_before=before.clients,
            Redis_clients_after=after.clients,
            channels_before=before.channels,
            channels_after=after.channels,
            failed=got["failed"],
            **{"not 200": got["not_200"]},
        )


def run_aborts(bench: Bench, server: Headway, count: int) -> dict[str, float]:
    path = server.path % 0
    command: list[str | Path] = [
        bench.binaries["aborts"],
        "127.0.0.1",
        str(server.port),
        path,
        str(count),
        "128",
    ]
    got = Client(command, limit_s=300).result()
    time.sleep(SETTLE_S)
    return got

"""`python -m tests.bench.profile`: on what a worker's process spends the CPU of a job that does nothing.

One process takes the jobs of a line one after the other, first as it is and then under cProfile. That makes
calls dearer: its shares say where to look, its times are not those of the first.
"""

from __future__ import annotations

import cProfile
import pstats
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from headway.contract.settings import Settings
from headway.contract.store import JobStore
from headway.sdk import runtime
from headway.sdk.job_type import JobType, Params
from headway.sdk.runtime import Runtime
from service.process import valkey
from tests.bench.appends import new_job
from tests.support.stack import free_port

JOBS = 2_000
GROUPS = {
    "/redis/": "redis-py: the round trip that ends a job and takes the next",
    "/headway/contract/": "headway.contract: keys, arguments, replies",
    "/headway/sdk/": "headway.sdk: the attempt, its reporter and meter",
    "/pydantic": "pydantic: the job's record, its parameters, its progress",
    "/json/": "json",
    "/pathlib": "pathlib: the scratch directory, which is looked for and is not there",
    "/logging/": "logging",
}
SENT = "sockets and hiredis"
REST = "the rest, most of it Python's own functions"


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="headway-profile-") as name:
        directory = Path(name)
        server = valkey.start(directory / "valkey", port=free_port())
        try:
            store = JobStore.of(Settings(redis_url=server.url, key_prefix="profile:"))
            plain_s = _measured(store, directory, lambda work: work())
            profile = cProfile.Profile(time.process_time)
            profiled_s = _measured(store, directory, profile.runcall)
            calls = {name[8:]: kind["calls"] for name, kind in store.redis.info("commandstats").items()}
        finally:
            server.stop()
    plain, profiled = (seconds / JOBS * 1e6 for seconds in (plain_s, profiled_s))
    print(f"{plain:.0f} µs of CPU for a job; {profiled:.0f} µs under cProfile:\n")
    for group, share in _shares(pstats.Stats(profile)).most_common():
        print(f"{share:6.1%}  {group}")
    scripts, inside = calls.pop("evalsha"), sum(calls.values())
    print(f"\n{scripts / JOBS:.1f} scripts for a job, with {inside / JOBS:.0f} commands in them")


def _measured(store: JobStore, directory: Path, run: Callable[[Callable[[], None]], object]) -> float:
    """The CPU seconds of this process in which JOBS jobs are worked off."""
    types = {"bench": JobType("bench", "Bench", "bench", Params, 1, lambda _: None)}
    ids = [store.create(new_job())[0] for _ in range(JOBS)]
    worker = Runtime(store, worker="bench", data_dir=directory, lease_s=60)
    # All of them for one message.
    runtime.TURN_S = 3600
    store.redis.config_resetstat()
    began = time.process_time()
    run(lambda: worker.run_next(types, "bench", ids[0]))
    return time.process_time() - began


def _shares(stats: pstats.Stats) -> Counter[str]:
    """The part of the time that was spent in each group's own code."""
    found: Counter[str] = Counter()
    entries: dict[tuple[str, int, str], tuple[Any, ...]] = stats.stats  # type: ignore[attr-defined]
    for (file, _, function), (_, _, own_s, _, _) in entries.items():
        where = next((label for part, label in GROUPS.items() if part in file), REST)
        if where == REST and ("socket" in function or "hiredis" in function):
            where = SENT
        found[where] += own_s
    total = sum(found.values())
    return Counter({name: own_s / total for name, own_s in found.items()})


if __name__ == "__main__":
    main()

"""`python -m tests.faults.failovers`: the primary changes again and again under running jobs. README.md."""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import redis

from headway.contract.events import ZERO
from service.process import valkey
from tests.support.faulty_proxy import FaultyProxy
from tests.support.stack import Stack, free_port
from tests.support.wait import until


class Pair:
    """Two servers, one the other's replica, behind one address that leads to the primary."""

    def __init__(self, first: valkey.Valkey, second: valkey.Valkey, address: FaultyProxy) -> None:
        self._ports = [first.port or 0, second.port or 0]
        self._clients = [redis.Redis.from_url(s.url, decode_responses=True) for s in (first, second)]
        self._address = address
        self._clients[1].replicaof("127.0.0.1", self._ports[0])
        self._follows()

    def fail_over(self) -> None:
        """The replica becomes the primary and the primary its replica, no write being lost. Connections to
        the old primary stay, and are answered READONLY."""
        self._follows()
        primary, replica = self._clients
        primary.client_pause(5000, all=False)
        until(lambda: self._offset(replica) == self._offset(primary), what="the replica to have it all")
        replica.replicaof("NO", "ONE")
        self._address.move(self._ports[1])
        primary.replicaof("127.0.0.1", self._ports[1])
        primary.client_unpause()
        self._ports.reverse()
        self._clients.reverse()

    def _follows(self) -> None:
        up = lambda: self._clients[1].info("replication").get("master_link_status") == "up"  # noqa: E731
        until(up, what="the replica to follow")

    @staticmethod
    def _offset(client: redis.Redis) -> int:
        told = client.info("replication")
        return int(told.get("slave_repl_offset", told["master_repl_offset"]))

    def close(self) -> None:
        for client in self._clients:
            client.close()


def work(lasting_s: float, n: int) -> tuple[str, dict[str, Any]]:
    """The type and parameters of the n-th job: half of them last as long as the failovers, the others make
    something."""
    match n % 4:
        case 1:
            return "file.checksum", {"input": "sample:40", "algorithm": "sha256"}
        case 3:
            return "video.encode", {"input": "sample:20", "width": 320, "preset": "mp4"}
    return "simulate", {"duration_s": lasting_s + n, "rate": 20 + n, "stages": 1 + n % 3, "log_every": 20}


def right(params: dict[str, Any]) -> dict[str, Any]:
    """What a `simulate` has to come to."""
    return {"updates": round(params["duration_s"] * params["rate"])}


def content(stack: Stack, job: dict[str, Any]) -> dict[str, Any]:
    """What a job made: its result without times, and its files by their digests."""
    made = {name: value for name, value in (job["result"] or {}).items() if name != "seconds"}
    for artifact in job["artifacts"]:
        made[artifact["name"]] = hashlib.sha256(stack.call("GET", artifact["url"])[2]).hexdigest()
    return made


def faults(stack: Stack, job: dict[str, Any], expected: dict[str, Any]) -> list[str]:
    """What is wrong with a job that ended, and with its events."""
    page = stack.store.read(job["id"], ZERO, 10_000)
    events = page.events if page else []
    ends = sum(event.type == "end" for event in events)
    found = []
    if (job["state"], job["attempt"], ends) != ("succeeded", 1, 1):
        found.append(f"{ends} ends: {json.dumps(job)}")
    if content(stack, job) != expected:
        found.append(f"{job['type']}: {content(stack, job)} instead of {expected}")
    if job["type"] == "simulate":
        said = [json.loads(event.data)["message"] for event in events if event.type == "log"]
        updates, every = expected["updates"], job["params"]["log_every"]
        if said != [f"update {n} of {updates}" for n in range(every, updates + 1, every)]:
            found.append(f"{job['id']}: of {updates // every} log lines came {len(said)}")
    return found


def run(directory: Path, times: int, jobs: int, gap_s: float) -> int:
    """Returns how many things were not as they should be."""
    wanted = [work(times * gap_s + 5, n) for n in range(jobs)]
    with ExitStack() as last:
        other = valkey.start(directory / "other", port=free_port())
        last.callback(other.stop)
        stack = last.enter_context(Stack(directory, AUTH="none", WORKER_CONCURRENCY=str(jobs)))
        address = last.enter_context(FaultyProxy(stack.valkey_port))
        pair = Pair(stack.valkey, other, address)
        last.callback(pair.close)
        stack.environ["REDIS_URL"] = f"redis://127.0.0.1:{address.port}/0"
        stack.store = stack.new_store(5)
        stack.start_web()
        stack.start_worker()
        undisturbed = {
            kind: content(stack, stack.wait_ended(stack.submit(kind, params)["id"], 300))
            for kind, params in dict(wanted).items()
            if kind != "simulate"
        }
        expected = [undisturbed.get(kind) or right(params) for kind, params in wanted]
        ids = [stack.submit(kind, params)["id"] for kind, params in wanted]
        until(
            lambda: all(stack.get(f"/jobs/{job_id}")[1]["state"] == "running" for job_id in ids),
            what="all jobs to run",
        )
        before = stack.living()
        began = time.monotonic()
        for _ in range(times):
            time.sleep(gap_s)
            pair.fail_over()
        print(
            f"{times} failovers under {jobs} running jobs in {time.monotonic() - began:.0f} s", flush=True
        )
        wrong: list[str] = []
        ended = [stack.wait_ended(job_id, times * 4 * gap_s + 120) for job_id in ids]
        for job, made in zip(ended, expected, strict=True):
            wrong += faults(stack, job, made)
        after = stack.living()
        wrong += [
            f"{name}: {before[name]} became {after[name]}" for name in before if before[name] != after[name]
        ]
        print("jobs:", dict(Counter((job["type"], job["state"], job["attempt"]) for job in ended)))
        print(
            "\n".join(wrong)
            or "each ended once, in its first attempt, with the right content; no process was restarted"
        )
        return len(wrong)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.failovers", description=__doc__)
    parser.add_argument("--times", type=int, default=100, help="failovers (100)")
    parser.add_argument("--jobs", type=int, default=20, help="jobs that run meanwhile (20)")
    parser.add_argument("--gap", type=float, default=0.5, help="seconds between two failovers (0.5)")
    given = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="headway-failovers-"))
    print(f"in {directory}", flush=True)
    wrong = run(directory, given.times, given.jobs, given.gap)
    if not wrong:
        shutil.rmtree(directory)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

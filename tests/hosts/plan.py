"""What happens to the hosts, drawn from the seed of a run."""

from __future__ import annotations

import random

from tests.faults import plan
from tests.faults.plan import Fault, Plan

KILLS = {
    **{"pool": 3, "encoder": 2, "worker group": 2, "web": 3, "web child": 1},
    **{"valkey": 6, "sentinel": 1, "rabbitmq": 1, "seaweed": 2, "haproxy": 1},
}
PAUSES = {
    **{"pool": 3, "encoder": 1, "worker group": 2, "web": 3},
    **{"valkey": 6, "sentinel": 1, "rabbitmq": 1, "seaweed": 2, "haproxy": 1},
}
HOSTS = {
    **{"store1": 3, "store2": 3, "store3": 3, "web1": 2, "web2": 2},
    **{"worker1": 2, "worker2": 2, "broker": 1, "files": 1},
}
"""Whose cable is pulled, who is deaf, who is mute."""
ACTS = {
    "kill": 30,
    "pause": 20,
    "unplug": 10,
    "deaf": 8,
    "mute": 8,
    "split": 8,
    "failover": 8,
    "migrate": 6,
}
STORAGE = {"refuse": 2, "slow": 1, "stall": 1}
"""What the object storage does."""
LONGEST_S = {"pool": 9.0, "worker group": 9.0, "valkey": 8.0, "unplug": 9.0, "split": 9.0, "refuse": 9.0}
ELSE_S = 5.0


def draw(seed: int, jobs: int, faults: int, gap_s: float, only: set[str] | None = None) -> Plan:
    """The same plan for the same arguments. Jobs are those of tests/faults; `only` are the kinds of faults
    that there shall be."""
    rng = random.Random(f"{seed} hosts")
    odds = {act: n for act, n in (ACTS | STORAGE).items() if only is None or act in only}
    return Plan(
        seed, plan.draw(seed, jobs, 0, gap_s).jobs, [_fault(rng, odds, gap_s) for _ in range(faults)]
    )


def _fault(rng: random.Random, odds: dict[str, int], gap_s: float) -> Fault:
    act = _one_of(rng, odds)
    what = ""
    if act in ("kill", "pause"):
        what = _one_of(rng, KILLS if act == "kill" else PAUSES)
    elif act in ("unplug", "deaf", "mute"):
        what = _one_of(rng, HOSTS)
    elif act in STORAGE:
        what = "storage"
    elif act == "split":
        # A primary goes with some of those who write to it.
        what = rng.choice(["web1 worker1", "web2 worker2", "web1 web2", "worker1 worker2", ""])
    longest = LONGEST_S.get(what, LONGEST_S.get(act, ELSE_S))
    return Fault(act, what, rng.uniform(0, 2 * gap_s), rng.uniform(0.2, longest), rng.random())


def _one_of(rng: random.Random, odds: dict[str, int]) -> str:
    return rng.choices(list(odds), list(odds.values()))[0]

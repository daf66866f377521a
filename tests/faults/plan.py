"""What a run does, drawn from its seed: the jobs and who deals with them, the faults and when."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

from tests.support.faulty_proxy import Fate

GROUPS = ["red", "green"]
QUEUE = "default"
"""Of simulate."""

KILLS = {"pool": 5, "encoder": 4, "worker": 2, "worker group": 1, "web": 2, "web child": 1, "valkey": 2}
PAUSES = {"pool": 4, "encoder": 1, "worker": 1, "worker group": 1, "web": 2, "valkey": 2}
STOPS = {"worker": 1}
HOLDS = {"types/simulate": 2, "types/video.encode": 1, f"queues/{QUEUE}": 2}
ACTS = {"kill": (KILLS, 10), "pause": (PAUSES, 7), "stop": (STOPS, 1), "hold": (HOLDS, 2)}
"""How often each is drawn. A group is the process with its children, as when a machine goes."""
UNIQUE = ["a", "b", "c"]
LONGEST_S = {"pool": 9.0, "encoder": 4.0, "worker": 4.0, "worker group": 9.0, "web": 5.0, "valkey": 5.0}
"""Pauses of whoever holds a lease are often longer than the lease."""


@dataclass(frozen=True, slots=True)
class JobPlan:
    """A submission, and what is done with its job. Times in seconds after it was accepted."""

    key: str
    body: dict[str, Any]
    patient: bool
    """Whether the submitter asks again until it is answered."""
    again: bool
    """Whether it asks once more after it was."""
    cancel_after: float | None
    says: int
    """How many messages are sent to it."""
    watch: str
    """What its reader begins with: "0", "nothing", "foreign" (another stream's id), or "" for no reader."""
    watch_after: float
    run_after: float | None = None
    """Its run_at."""
    copies: int = 0
    """It is a batch of so many jobs, rather than one."""


@dataclass(frozen=True, slots=True)
class Fault:
    """`what` is killed, and comes back after `seconds`; or is paused for so long; or, a worker, is told to
    end; or, a queue or type, is paused and resumed after `seconds`. `after` seconds from the last fault."""

    act: str
    what: str
    after: float
    seconds: float
    luck: float
    """Which of several: 0…1."""


@dataclass(frozen=True, slots=True)
class Plan:
    seed: int
    jobs: list[JobPlan] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)


def draw(seed: int, jobs: int, faults: int, gap_s: float) -> Plan:
    """The same plan for the same arguments. `gap_s` is the mean time between faults."""
    rng = random.Random(seed)
    return Plan(
        seed,
        [_job(rng, seed, n) for n in range(jobs)],
        [_fault(rng, gap_s) for _ in range(faults)],
    )


def _job(rng: random.Random, seed: int, n: int) -> JobPlan:
    key = f"s{seed}-{n}"
    body = _encode(rng) if rng.random() < 0.25 else _simulate(rng)
    body["labels"] = {"key": key}
    body["max_attempts"] = rng.randint(2, 6)
    if rng.random() < 0.5:
        body["group"] = rng.choice(GROUPS)
    # Drawn apart, so that a seed has the jobs and faults that it had before there were messages.
    apart = random.Random(f"{key} messages")
    if body["type"] == "simulate" and not body["params"].get("ignore_cancel"):
        body["params"]["message_every"] = apart.choice([0, 1, 3])
    if rng.random() < 0.06:
        body["timeout_s"] = round(rng.uniform(1, 8), 1)
    queueing = random.Random(f"{key} queue")
    copies = queueing.randint(2, 5) if queueing.random() < 0.06 else 0
    run_after = None
    if queueing.random() < 0.4:
        body["priority"] = queueing.randint(0, 9)
    if queueing.random() < 0.12:
        run_after = round(queueing.uniform(0.5, 6), 1)
    if queueing.random() < 0.12:
        body["expires_s"] = round(queueing.uniform(1, 8), 1)
    if not copies and queueing.random() < 0.2:
        while_ = queueing.choice(["live", "queued"])
        body["unique"] = {"key": f"{queueing.choice(UNIQUE)} {while_}", "while": while_}
    # Who is answered with another's job must not meddle with it.
    alone = not copies and "unique" not in body
    patient, again = rng.random() < 0.85, rng.random() < 0.4
    cancel_after = rng.uniform(0, 4) if rng.random() < 0.2 else None
    says = apart.choice([0, 0, 3, 10])
    return JobPlan(
        key,
        body,
        patient=patient,
        again=again,
        cancel_after=cancel_after if alone else None,
        says=says if alone else 0,
        watch=rng.choices(["0", "nothing", "foreign", ""], [45, 35, 8, 12])[0],
        watch_after=rng.choice([0.0, 0.0, rng.uniform(0, 5)]),
        run_after=run_after,
        copies=copies,
    )


def _encode(rng: random.Random) -> dict[str, Any]:
    return {
        "type": "video.encode",
        "params": {
            "input": f"sample:{rng.randint(2, 5)}",
            "width": rng.choice([160, 240, 320]),
            "poster": rng.random() < 0.5,
        },
    }


def _simulate(rng: random.Random) -> dict[str, Any]:
    params: dict[str, Any] = {
        "duration_s": round(rng.uniform(0.3, 4), 1),
        "rate": rng.choice([5, 10, 20, 40]),
        "stages": rng.randint(1, 3),
        "log_every": rng.choice([0, 1, 1, 5]),
    }
    if rng.random() < 0.2:
        params["fail_at"] = round(rng.uniform(0, 1), 2)
        params["fail_attempts"] = rng.choice([1, 1, 2, 100])
    if rng.random() < 0.1:
        params |= {"ignore_cancel": True, "log_every": 0}
    return {"type": "simulate", "params": params}


def _fault(rng: random.Random, gap_s: float) -> Fault:
    act = rng.choices(list(ACTS), [often for _, often in ACTS.values()])[0]
    odds = ACTS[act][0]
    what = rng.choices(list(odds), list(odds.values()))[0]
    longest = {"pause": LONGEST_S.get(what, 0), "hold": 15.0}.get(act, 2.5)
    return Fault(act, what, rng.uniform(0, 2 * gap_s), rng.uniform(0.1, longest), rng.random())


def draw_fate(rng: random.Random) -> Fate:
    """What becomes of a connection: half of them are well."""
    # Every order of magnitude is as likely: within the head, the first events, or after many.
    after = round(10 ** rng.uniform(0, 4.7))
    match rng.choices(["well", "cut_up", "cut_down", "silent", "slow"], [50, 8, 22, 8, 12])[0]:
        case "cut_up":
            return Fate(cut_up=rng.randrange(400), reset=rng.random() < 0.5)
        case "cut_down":
            return Fate(cut_down=after, reset=rng.random() < 0.5)
        case "silent":
            return Fate(silent=after)
        case "slow":
            return Fate(slow=True)
    return Fate()

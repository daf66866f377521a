"""What a run has shown, in words."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from tests.faults.checker import check
from tests.faults.history import History
from tests.faults.run import upper_bound

SHOWN = 40


def report(history: History, directory: Path) -> int:
    violations = check(history)
    print(summary(history))
    for violation in violations[:SHOWN]:
        print(f"VIOLATION {violation}")
    if len(violations) > SHOWN:
        print(f"… and {len(violations) - SHOWN} more")
    faults = len(history.faults)
    if violations:
        print(f"{len(violations)} violations after {faults} faults; {directory}")
        return 1
    print(
        f"no violation in {faults} faults: with 95 % confidence a fault causes one with a probability "
        f"below {upper_bound(max(1, faults)):.2%} (rule of three)"
    )
    return 0


def summary(history: History) -> str:
    acts = Counter(" ".join(fault.split()[1:3]).rstrip("12") for fault in history.faults)
    states = Counter(d["state"] for d in history.documents.values())
    answers = Counter(a.status for s in history.submissions for a in s.answers)
    tried = Counter(d["attempt"] for d in history.documents.values())
    connections = [c for r in history.readings for c in r.connections]
    resets = sum(e.event == "reset" for r in history.readings for e in r.events)
    return "\n".join(
        (
            f"faults: {_counts(acts)}",
            f"jobs: {_counts(states)}; attempts: {_counts(tried)}",
            f"submissions: {len(history.submissions)}, answers: {_counts(answers)} (0: none)",
            f"readers: {len(history.readings)} on {len(connections)} connections, "
            f"{sum(len(r.events) for r in history.readings)} events, {resets} resets",
            f"looks: {len(history.looks)}, with encoders {sum(bool(k.encoders) for k in history.looks)}, "
            f"calm {sum(k.calm for k in history.looks)}, "
            f"a worker free {sum(k.free for k in history.looks)}",
        )
    )


def _counts(counter: Counter[str] | Counter[int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counter.items())) or "none"

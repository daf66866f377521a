"""What a run has shown, in words."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from tests.faults.checker import check
from tests.faults.history import History
from tests.faults.run import Run, TimeIsUp, upper_bound

SHOWN = 40


def carry_out(
    name: str, what: str, prepare: Callable[[Path, Callable[[str], None]], Run], *, seed: int, keep: bool
) -> int:
    """Make a run in a directory of its own, and say what it has shown. The directory is kept if that is
    bad, or with `keep`. Returns the exit status."""
    directory = Path(tempfile.mkdtemp(prefix=f"headway-{name}-"))
    began = time.monotonic()

    def say(text: str) -> None:
        print(f"{time.monotonic() - began:6.1f} s  {text}", flush=True)

    say(f"seed {seed}: {what}, in {directory}")
    run = prepare(directory, say)
    status = 1
    try:
        run.run()
        say("checking")
        status = max(report(history, directory) for history in run.histories.values())
    except TimeIsUp as error:
        say(f"the time was up: {error}")
    finally:
        for owner, history in run.histories.items():
            history.save(directory / f"history-{owner}.json")
        if status == 0 and not keep:
            shutil.rmtree(directory, ignore_errors=True)
        else:
            say(f"kept in {directory}; check it again: python -m tests.faults --check {directory}")
        say(f"the seed was {seed}")
    return status


def check_again(directory: Path) -> int:
    """Say what a kept run has shown. Raises SystemExit if there is none."""
    kept = sorted(directory.glob("history-*.json"))
    if not kept:
        raise SystemExit(f"{directory}: no history is kept there")
    return max(report(History.load(path), directory) for path in kept)


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

"""`python -m tests.faults`: breaks the stack while it works, and checks what all parties saw. README.md."""

from __future__ import annotations

import argparse
import secrets
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.faults import plan
from tests.faults.checker import check
from tests.faults.history import History
from tests.faults.run import Run, TimeIsUp, upper_bound

SHOWN = 40


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--faults", type=int, default=300, help="kills and pauses (300)")
    parser.add_argument("--jobs", type=int, default=300, help="jobs (300)")
    parser.add_argument("--seed", type=int, help="draws jobs, faults and what the proxy does (random)")
    parser.add_argument("--gap", type=float, default=1.4, help="mean seconds between faults (1.4)")
    parser.add_argument(
        "--seconds-limit", type=float, default=1500, help="the run ends after so long (1500)"
    )
    parser.add_argument("--keep", action="store_true", help="keep the histories even if all is well")
    parser.add_argument(
        "--check", type=Path, metavar="DIRECTORY", help="only check a history that was kept"
    )
    return parser.parse_args()


def main() -> int:
    given = options()
    if given.check is not None:
        return report(History.load(given.check / "history.json"), given.check)
    seed = secrets.randbelow(10**6) if given.seed is None else given.seed
    directory = Path(tempfile.mkdtemp(prefix="headway-faults-"))
    began = time.monotonic()

    def say(text: str) -> None:
        print(f"{time.monotonic() - began:6.1f} s  {text}", flush=True)

    say(f"seed {seed}: {given.faults} faults over {given.jobs} jobs, in {directory}")
    run = Run(plan.draw(seed, given.jobs, given.faults, given.gap), directory, given.seconds_limit, say)
    status = 1
    try:
        run.run()
        say("checking")
        status = report(run.history, directory)
    except TimeIsUp as error:
        say(f"the time was up: {error}")
    finally:
        run.history.save(directory / "history.json")
        if status == 0 and not given.keep:
            shutil.rmtree(directory, ignore_errors=True)
        else:
            say(f"kept in {directory}; check it again with --check {directory}")
        say(f"the seed was {seed}")
    return status


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


if __name__ == "__main__":
    sys.exit(main())

"""`python -m tests.faults`: breaks the stack while it works, and checks what all parties saw. README.md."""

from __future__ import annotations

import argparse
import secrets
import shutil
import sys
import tempfile
import time
from pathlib import Path

from tests.faults import plan
from tests.faults.history import History
from tests.faults.report import report
from tests.faults.run import Run, TimeIsUp


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--faults", type=int, default=300, help="kills and pauses (300)")
    parser.add_argument("--jobs", type=int, default=300, help="jobs (300)")
    parser.add_argument("--seed", type=int, help="draws jobs, faults and what the proxy does (random)")
    parser.add_argument("--gap", type=float, default=1.4, help="mean seconds between faults (1.4)")
    parser.add_argument(
        "--seconds-limit", type=float, default=1500, help="no fault comes after so long (1500)"
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
        (history,) = run.histories.values()
        status = report(history, directory)
    except TimeIsUp as error:
        say(f"the time was up: {error}")
    finally:
        for history in run.histories.values():
            history.save(directory / "history.json")
        if status == 0 and not given.keep:
            shutil.rmtree(directory, ignore_errors=True)
        else:
            say(f"kept in {directory}; check it again with --check {directory}")
        say(f"the seed was {seed}")
    return status


if __name__ == "__main__":
    sys.exit(main())

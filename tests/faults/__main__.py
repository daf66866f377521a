"""`python -m tests.faults`: breaks the stack while it works, and checks what all parties saw. README.md."""

from __future__ import annotations

import argparse
import secrets
import sys
from collections.abc import Callable
from pathlib import Path

from tests.faults import plan
from tests.faults.report import carry_out, check_again
from tests.faults.run import Run


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
        return check_again(given.check)
    seed = secrets.randbelow(10**6) if given.seed is None else given.seed

    def prepare(directory: Path, say: Callable[[str], None]) -> Run:
        return Run(
            plan.draw(seed, given.jobs, given.faults, given.gap), directory, given.seconds_limit, say
        )

    what = f"{given.faults} faults over {given.jobs} jobs"
    return carry_out("faults", what, prepare, seed=seed, keep=given.keep)


if __name__ == "__main__":
    sys.exit(main())

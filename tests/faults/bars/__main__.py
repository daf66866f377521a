"""`python -m tests.faults.bars`: a browser's bars through faults, and what they showed. ../README.md."""

from __future__ import annotations

import argparse
import secrets
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

from tests.faults.bars.run import Lengths, Report, Run
from tests.support.browser import Browser
from tests.support.fake_worker import claim, create
from tests.support.stack import Stack
from tests.support.tabs import Tabs

SHOWN = 20


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.bars", description=__doc__)
    parser.add_argument("--rounds", type=int, default=2, help="how often each fault happens (2)")
    parser.add_argument("--seed", type=int, help="draws jobs and the order of faults (random)")
    parser.add_argument("--heartbeat", type=float, default=2, help="HEARTBEAT_S (2)")
    parser.add_argument("--tabs", type=int, default=20, help="tabs whose connection moves (20)")
    return parser.parse_args()


def main() -> int:
    given = options()
    seed = secrets.randbelow(10**6) if given.seed is None else given.seed
    directory = Path(tempfile.mkdtemp(prefix="headway-bars-"))
    began = time.monotonic()

    def say(text: str) -> None:
        print(f"{time.monotonic() - began:6.1f} s  {text}", flush=True)

    say(f"seed {seed}, in {directory}")
    status = 1
    try:
        run = Run(directory, seed, Lengths(), given.heartbeat, say)
        try:
            report = run.go(given.rounds)
        finally:
            run.close()
        print(summary(report, run.bound_ms))
        status = int(bool(report.verdict.lies) or report.right_bars < report.bars)
        if given.tabs:
            say(f"{given.tabs} tabs, and the one that holds their connection is closed")
            print(moves(directory / "moves", given.tabs))
    finally:
        if status == 0:
            shutil.rmtree(directory, ignore_errors=True)
        else:
            say(f"kept in {directory}")
        say(f"the seed was {seed}")
    return status


def summary(report: Report, bound_ms: int) -> str:
    verdict = report.verdict
    lies = "".join(f"LIE {lie}\n" for lie in verdict.lies[:SHOWN])
    return (
        f"{lies}{len(report.faults)} faults; {report.right_jobs} of {report.jobs} jobs and "
        f"{report.right_bars} of {report.bars} bars show the right end\n"
        f"{verdict.samples} samples, {verdict.fresh} of them fresh, {len(verdict.lies)} lies; the oldest "
        f"that was shown as fresh was out of date for {verdict.oldest_ms} ms, the bound is {bound_ms}; "
        f"{verdict.excused} in the moment of waking"
    )


def moves(directory: Path, count: int) -> str:
    """How long it takes from the closing of the tab with the connection until all others are live again."""
    with (
        Stack(directory / "stack", AUTH="none", HEARTBEAT_S="15", DRAIN_S="0") as stack,
        Browser(directory / "browser") as browser,
    ):
        stack.start_web()
        tabs = Tabs(browser, stack.url)
        for _ in range(count + 1):
            job_id = create(stack.store)
            claim(stack.store, job_id)
            tabs.follow(job_id)
        took = [_move(tabs, tabs.leader) for _ in range(count)]
    return (
        f"{count} moves of the connection: median {statistics.median(took):.0f} ms, "
        f"the longest {max(took):.0f} ms"
    )


def _move(tabs: Tabs, leader: str) -> float:
    at = tabs.close(leader)
    live = f"statuses.find(([when, status]) => when > {at} && status === 'live')?.[0]"
    return max(float(tabs.until(tab, live)) - at for tab in tabs.open)


if __name__ == "__main__":
    sys.exit(main())

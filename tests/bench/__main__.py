"""`python -m tests.bench`: everything that is compared, in one go; a table and JSON. See README.md."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from tests.bench import (
    aborts,
    celery_cost,
    clients,
    fanout,
    figures,
    machine,
    memory,
    outage,
    peers,
    process,
    queue,
    slow,
    spread,
    store,
    storm,
    table,
)
from tests.bench.bench import Bench

SCENARIOS = {
    module.NAME: module
    for module in (fanout, spread, memory, storm, aborts, slow, outage, store, queue, celery_cost)
}
RESULTS = Path(__file__).parent / "results"


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small numbers, one run: does it work at all?")
    parser.add_argument("--only", metavar="NAME[,NAME]", help=f"of {', '.join(SCENARIOS)}")
    parser.add_argument("--runs", type=int, help="medians of so many (3)")
    parser.add_argument("--connections", type=int, help="readers of the large cases (10,000)")
    parser.add_argument("--seconds", type=float, help="how long a load lasts (8)")
    parser.add_argument(
        "--peers", choices=["installed", "all"], default="installed", help="all: install them"
    )
    given = parser.parse_args()
    given.names = given.only.split(",") if given.only else list(SCENARIOS)
    for name in given.names:
        if name not in SCENARIOS:
            parser.error(f"no scenario {name!r}, only {', '.join(SCENARIOS)}")
    return given


def main() -> None:
    given = options()
    process.raise_descriptor_limit()
    began = datetime.now(UTC)
    with tempfile.TemporaryDirectory(prefix="headway-bench-") as name:
        directory = Path(name)
        bench = Bench(
            directory=directory,
            binaries=clients.compile_all(directory),
            runs=given.runs or (1 if given.quick else 3),
            connections=given.connections or (1000 if given.quick else 10_000),
            seconds=given.seconds or (2.0 if given.quick else 8.0),
            quick=given.quick,
            python=peers.environment(directory / "venv") if given.peers == "all" else None,
        )
        bench.note("load of the machine before: {:.1f} {:.1f} {:.1f}".format(*os.getloadavg()))
        for name in given.names:
            print(f"{SCENARIOS[name].TITLE} …", flush=True)
            start = time.monotonic()
            try:
                SCENARIOS[name].run(bench)
            except (clients.ClientError, AssertionError, OSError, subprocess.SubprocessError) as error:
                # What the others measured is worth having.
                bench.note(f"{name} stopped: {error}")
            print(f"  ({time.monotonic() - start:.0f} s)", flush=True)
    report(bench, given.names, began)


def report(bench: Bench, names: list[str], began: datetime) -> None:
    facts = machine.facts()
    print(f"\n{machine.line(facts)}; {bench.runs} runs: median (lowest–highest)")
    for name in names:
        found = table.rows(sample for sample in bench.samples if sample.scenario == name)
        if found:
            print(f"\n{table.text(SCENARIOS[name].TITLE, found)}")
    reached = figures.figures(bench.samples)
    if reached:
        print("\n## Figures to reach\n")
    for figure in reached:
        print(figure)
    for note in bench.notes:
        print(f"\nnote: {note}")
    RESULTS.mkdir(exist_ok=True)
    target = RESULTS / f"{began:%Y%m%dT%H%M%SZ}.json"
    result = {
        "at": began.isoformat(),
        "machine": facts,
        "runs": bench.runs,
        "samples": table.as_json(bench.samples),
        "notes": bench.notes,
        "figures": [str(figure) for figure in reached],
    }
    target.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    print(f"\n{target.relative_to(Path.cwd()) if target.is_relative_to(Path.cwd()) else target}")


if __name__ == "__main__":
    main()

"""Bench: what every scenario is handed. The options, the clients, a directory for each server."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.bench import process
from tests.bench.table import Sample


@dataclass(slots=True)
class Bench:
    directory: Path
    binaries: dict[str, Path]
    runs: int = 3
    connections: int = 10_000
    seconds: float = 8.0
    """How long a load lasts."""
    quick: bool = False
    python: Path | None = None
    """An interpreter that has the peers that are Python packages."""
    samples: list[Sample] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """What was left out and why, and whatever should make a reader of the table careful."""
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def fresh(self) -> Path:
        """A new directory."""
        directory = self.directory / f"{next(self._numbers)}"
        directory.mkdir()
        return directory

    def note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)
            print(f"  note: {text}", flush=True)

    def note_trouble(self, scenario: str, who: str, got: dict[str, Any]) -> None:
        """What sseload says of connections that did not stay open."""
        if got["failed"] or got["closed"]:
            words = got.get("words", "")
            self.note(f"{scenario}, {who}: {got['failed']} failed, {got['closed']} closed. {words}")

    def add(self, scenario: str, case: str, who: str, **values: float) -> None:
        """One run's values; a name's last part after _ is the unit: p99_ms."""
        named = {_title(name): float(value) for name, value in values.items()}
        self.samples.append(Sample(scenario, case, who, named))
        print(f"  {case}, {who}: " + ", ".join(f"{k} {v:,.4g}" for k, v in named.items()), flush=True)


def _title(name: str) -> str:
    return name.replace("_per_s", "/s").replace("_", " ")


class Window:
    """CPU time of processes between two moments."""

    def __init__(self, **pids: int | None) -> None:
        self._before = {name: process.cpu_s(pid) for name, pid in pids.items() if pid is not None}
        self._pids = pids

    def end(self) -> dict[str, float]:
        """CPU seconds since the beginning, by name."""
        return {
            name: process.cpu_s(self._pids[name] or 0) - before for name, before in self._before.items()
        }

"""The processes of a run, as /proc shows them. Linux only."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class Process:
    pid: int
    parent: int
    session: int
    stopped: bool
    command: str


def table() -> dict[int, Process]:
    """All processes of this machine that live (a zombie does not)."""
    found = {}
    for entry in PROC.iterdir():
        if not entry.name.isdigit():
            continue
        with suppress(OSError, IndexError):
            # The name stands in parentheses and may hold anything [proc(5)].
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if fields[0] not in "ZX":
                pid = int(entry.name)
                found[pid] = Process(pid, int(fields[1]), int(fields[3]), fields[0] == "T", command)
    return found


def ours(mark: str) -> list[int]:
    """Processes that were started with `mark` in their environment."""
    found = []
    for entry in PROC.iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with suppress(OSError):
                if mark.encode() in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
    return found


def signal_all(pids: list[int], number: signal.Signals) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)

"""Processes as /proc shows them. Linux only."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Process:
    pid: int
    parent: int
    session: int
    state: str
    cpu_s: float
    """User and system time of all its threads, living and ended, without its children."""
    reaped_s: float
    """The same of its children that have ended."""
    command: str

    @property
    def stopped(self) -> bool:
        return self.state == "T"


def parse(stat: str, command: bytes = b"", ticks: int = TICKS) -> Process:
    """The texts of /proc/<pid>/stat and cmdline."""
    # The name stands in parentheses and may hold anything, parentheses and spaces too [proc(5)].
    head, _, rest = stat.rpartition(")")
    fields = rest.split()
    user, system, reaped_user, reaped_system = map(int, fields[11:15])
    return Process(
        pid=int(head.partition(" ")[0]),
        parent=int(fields[1]),
        session=int(fields[3]),
        state=fields[0],
        cpu_s=(user + system) / ticks,
        reaped_s=(reaped_user + reaped_system) / ticks,
        command=command.replace(b"\0", b" ").decode(errors="replace"),
    )


def table() -> dict[int, Process]:
    """All processes of this machine that live (a zombie does not)."""
    found = {}
    for entry in _entries():
        with suppress(OSError, ValueError):
            process = parse((entry / "stat").read_text(), (entry / "cmdline").read_bytes())
            if process.state not in "ZX":
                found[process.pid] = process
    return found


def descendants(pid: int, among: dict[int, Process] | None = None) -> list[Process]:
    """A process's children, their children, and so on; among all processes, unless told otherwise."""
    everything = (table() if among is None else among).values()
    found: list[Process] = []
    parents = [pid]
    for parent in parents:
        children = [process for process in everything if process.parent == parent]
        found += children
        parents += [child.pid for child in children]
    return found


def directory_of(pid: int) -> str:
    """Where a process works; an empty text if it has gone."""
    with suppress(OSError):
        return str((PROC / str(pid) / "cwd").readlink())
    return ""


def ours(mark: str, directory: Path | None = None) -> list[int]:
    """Processes that were started with `mark` in their environment, or work in the directory.

    Valkey wipes its environment (it writes its title there), but works in a directory of its own.
    """
    found = []
    for entry in _entries():
        if int(entry.name) != os.getpid():
            with suppress(OSError):  # it has gone, or is not ours to read
                marked = mark.encode() in (entry / "environ").read_bytes().split(b"\0")
                if marked or (directory and (entry / "cwd").readlink().is_relative_to(directory)):
                    found.append(int(entry.name))
    return found


def signal_all(pids: Iterable[int], number: signal.Signals) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def _entries() -> list[Path]:
    return [entry for entry in PROC.iterdir() if entry.name.isdigit()]

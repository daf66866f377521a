"""Processes as /proc shows them: CPU time, memory, descriptors; with their children. Linux only."""

from __future__ import annotations

import resource
from dataclasses import dataclass

from tests.support import processes
from tests.support.processes import PROC, Process


@dataclass(frozen=True, slots=True)
class Memory:
    """Resident memory in KiB; pss shares out among processes what they share."""

    rss: int
    pss: int

    def __add__(self, other: Memory) -> Memory:
        return Memory(self.rss + other.rss, self.pss + other.pss)


def parse_rollup(text: str) -> Memory:
    """/proc/<pid>/smaps_rollup; 0 for what it does not mention."""
    found = {}
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if value.endswith(" kB"):
            found[name] = int(value[:-3])
    return Memory(found.get("Rss", 0), found.get("Pss", 0))


def parse_io(text: str) -> int:
    """/proc/<pid>/io: how often it has called write(2) and its kin, on sockets too."""
    return next((int(line[6:]) for line in text.splitlines() if line.startswith("syscw:")), 0)


def parse_schedstat(text: str) -> float:
    """/proc/<pid>/schedstat: for how many seconds its main thread could have run and had no core."""
    return int(text.split()[1]) / 1e9


def tree(pid: int) -> list[Process]:
    """A process and its descendants; empty if it is not there."""
    table = processes.table()
    return [table[pid], *processes.descendants(pid, table)] if pid in table else []


def cpu_s(pid: int) -> float:
    """CPU time of a process and its living children."""
    return sum(stat.cpu_s for stat in tree(pid))


def writes(pid: int) -> int:
    """System calls that write, of a process and its children."""
    return sum(parse_io((PROC / str(stat.pid) / "io").read_text()) for stat in tree(pid))


def waited_s(pid: int) -> float:
    """How long a process and its children had work and no core to do it on."""
    return sum(parse_schedstat((PROC / str(stat.pid) / "schedstat").read_text()) for stat in tree(pid))


def memory(pid: int) -> Memory:
    """Of a process and its children."""
    rollups = ((PROC / str(stat.pid) / "smaps_rollup").read_text() for stat in tree(pid))
    return sum(map(parse_rollup, rollups), Memory(0, 0))


def descriptors(pid: int) -> int:
    """Open ones, of a process and its children."""
    return sum(len(list((PROC / str(stat.pid) / "fd").iterdir())) for stat in tree(pid))


def raise_descriptor_limit() -> int:
    """As many descriptors as this user may have, for us and what we start."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard

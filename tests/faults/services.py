"""What a run breaks: processes that are killed and paused, and started again."""

from __future__ import annotations

import re
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from headway.contract.store import JobStore
from tests.faults.history import Encoder, File, Stop
from tests.faults.plan import Fault
from tests.support import processes
from tests.support.faulty_proxy import Target
from tests.support.processes import Process

SETTLED = {"worker": 8.0}
"""Seconds after its start, or the end of a pause, from which a process is expected to do its work, if they
are not those of all others."""
SETTLED_S = 5.0
DRAIN_S = 6.0
"""DRAIN_JOBS_S: longer than most jobs of a run."""
STOPPED_S = 5.0
"""Within which a worker has ended then."""
AGAIN_S = 0.5
"""Until a process that ended by itself is started again."""


@dataclass(frozen=True, slots=True)
class Owner:
    """Somebody whose jobs these are, and the headers by which the service knows them."""

    name: str
    headers: dict[str, str] = field(default_factory=dict)


class Service:
    """One of the stack's processes, started again after each end."""

    def __init__(
        self, name: str, start: Callable[[], subprocess.Popen[bytes]], process: subprocess.Popen[bytes]
    ) -> None:
        self.name = name
        self.kind = name.rstrip("123456789")
        self._start = start
        self.process = process
        self.well_since = time.monotonic()
        self.again_at: float | None = None
        self.paused = False
        self.starts = 1
        self.stopping: Stop | None = None

    @property
    def up(self) -> bool:
        return self.again_at is None and not self.paused and self.process.poll() is None

    @property
    def settled(self) -> bool:
        well_s = time.monotonic() - self.well_since
        return self.up and self.stopping is None and well_s > SETTLED.get(self.kind, SETTLED_S)

    def note_end(self) -> None:
        """If it was told to end, and has: how."""
        if self.stopping and self.process.poll() is not None:
            self.stopping.status = self.process.returncode
            self.stopping.seconds = time.time() - self.stopping.at
            self.stopping = None

    def supervise(self) -> None:
        """Start it again when it is time to. To be called often."""
        self.note_end()
        if self.again_at is None and self.process.poll() is not None:
            self.paused = False
            self.again_at = time.monotonic() + AGAIN_S
        if self.again_at is not None and time.monotonic() >= self.again_at:
            self.process.wait()
            self.again_at = None
            self.process = self._start()
            self.starts += 1
            self.well_since = time.monotonic()


class Services:
    """What is there to be broken. To be used from one thread that stays."""

    directory: Path
    services: list[Service]
    addresses: list[str]
    """Where clients may ask: host and port."""
    through: list[Target]
    """Where the proxy leads that cuts and stalls."""
    owners: list[Owner]
    lossy: bool = False
    """Whether something was broken by which the store may have lost what it had accepted."""

    def __init__(self) -> None:
        self.services = []
        self.stops: list[Stop] = []
        self._later: list[tuple[float, Callable[[], None]]] = []

    # -- looking -----------------------------------------------------------------------------------

    def of(self, kind: str) -> list[Service]:
        return [service for service in self.services if service.kind == kind]

    @property
    def calm(self) -> bool:
        """Whether the store and a web process have been well for a while."""
        stores = all(store.settled for store in self.of("valkey"))
        return stores and any(web.settled for web in self.of("web"))

    @property
    def work(self) -> list[Path]:
        """Where workers keep what attempts need."""
        return [self.directory / "work"]

    def new_store(self, timeout_s: float) -> JobStore:
        raise NotImplementedError

    def files(self) -> list[File]:
        """What the jobs have made, as it is kept."""
        raise NotImplementedError

    def end(self, seconds: float = 15) -> list[str]:
        """Ask all but the stores to end, and say what is still there afterwards."""
        raise NotImplementedError

    def close(self) -> None:
        """End everything that was started."""
        raise NotImplementedError

    def pool(self, worker: Service, table: dict[int, Process]) -> list[Process]:
        """The processes of a worker that run tasks."""
        return [p for p in table.values() if p.parent == worker.process.pid and "worker" in p.command]

    def encoders(self, table: dict[int, Process]) -> list[Encoder]:
        """Processes that work in an attempt's directory, or have a file there among their arguments."""
        found = []
        for p in table.values():
            places = f"{processes.directory_of(p.pid)}/ {p.command}"
            named = re.search(rf"{re.escape(str(self.directory))}/(?:\w+/)?work/([\w-]+)/(\d+)/", places)
            if named:
                parent = table.get(p.parent)
                held = p.stopped or (parent is not None and parent.stopped)
                found.append(Encoder(p.pid, named[1], int(named[2]), held))
        return found

    # -- breaking ----------------------------------------------------------------------------------

    def break_(self, fault: Fault, busy: list[int]) -> str | None:
        """Do it, if there is something to do it to; what was done. `busy`: pool processes with a job."""
        table = processes.table()
        kind, _, part = fault.what.partition(" ")
        if fault.act == "stop":
            return self._stop(fault, table)
        if kind in ("pool", "encoder"):
            return self._break_one(fault, kind, busy, table)
        candidates = [service for service in self.of(kind) if service.up]
        if not candidates:
            return None
        service = candidates[int(fault.luck * len(candidates))]
        pid = service.process.pid
        if kind != "web":
            self._disturb({pid} if kind == "worker" else set())
        if part == "child":
            children = [p.pid for p in table.values() if p.parent == pid]
            if not children:
                return None
            processes.signal_all(children[:1], signal.SIGKILL)
            return f"killed {service.name}'s child {children[0]}"
        pids = [pid]
        if part == "group" or kind != "worker":
            pids += [p.pid for p in table.values() if p.session == pid and p.pid != pid]
        if fault.act == "kill":
            service.again_at = time.monotonic() + fault.seconds
            processes.signal_all(pids, signal.SIGKILL)
            return f"killed {service.name} {part} {pids}"
        service.paused = True
        processes.signal_all(pids, signal.SIGSTOP)

        def resume() -> None:
            processes.signal_all(pids, signal.SIGCONT)
            if service.process.pid == pid:
                service.paused = False
                service.well_since = time.monotonic()

        self._at(fault.seconds, resume)
        return f"paused {service.name} {part} {pids} for {fault.seconds:.1f} s"

    def _break_one(self, fault: Fault, kind: str, busy: list[int], table: dict[int, Process]) -> str | None:
        if kind == "encoder":
            pids = [e.pid for e in self.encoders(table) if not e.held]
        else:
            pids = [
                p.pid for worker in self.of("worker") for p in self.pool(worker, table) if not p.stopped
            ]
            # Mostly one that works.
            pids = [pid for pid in pids if pid in busy] if fault.luck < 0.8 else pids
        if not pids:
            return None
        pid = pids[int(fault.luck * 997) % len(pids)]
        self._disturb({pid, *(p.parent for p in table.values() if p.pid == pid)})
        if fault.act == "kill":
            processes.signal_all([pid], signal.SIGKILL)
            return f"killed {kind} {pid}"
        processes.signal_all([pid], signal.SIGSTOP)
        self._at(fault.seconds, lambda: processes.signal_all([pid], signal.SIGCONT))
        return f"paused {kind} {pid} for {fault.seconds:.1f} s"

    def _stop(self, fault: Fault, table: dict[int, Process]) -> str | None:
        """Tell a worker to end, as a deployment does: what it is doing goes on for a while."""
        candidates = [worker for worker in self.of("worker") if worker.settled]
        if not candidates:
            return None
        worker = candidates[int(fault.luck * len(candidates))]
        pid = worker.process.pid
        stop = Stop([pid, *(p.pid for p in self.pool(worker, table))], time.time())
        stop.disturbed = any(p.stopped for p in table.values() if p.pid in stop.pids) or not self.calm
        self.stops.append(stop)
        worker.stopping = stop
        worker.process.send_signal(signal.SIGTERM)
        return f"told {worker.name} to end"

    def _disturb(self, pids: set[int]) -> None:
        """Stops under way are undisturbed no more, if these processes or (none) the store are."""
        for service in self.of("worker"):
            if service.stopping and (not pids or pids & set(service.stopping.pids)):
                service.stopping.disturbed = True

    def _at(self, seconds: float, call: Callable[[], None]) -> None:
        self._later.append((time.monotonic() + seconds, call))

    def supervise(self, *, all_well: bool = False) -> None:
        """End pauses and start what is to be started again; all at once if all is to be well."""
        now = time.monotonic()
        due = [call for at, call in self._later if all_well or at <= now]
        self._later = [(at, call) for at, call in self._later if not (all_well or at <= now)]
        for call in due:
            call()
        for service in self.services:
            if all_well and service.again_at is not None:
                service.again_at = 0.0
            service.supervise()

"""The real stack, to be broken: Valkey, two web processes, two workers; what ends is started again."""

from __future__ import annotations

import os
import re
import secrets
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

from tests.faults.history import Encoder, Stop
from tests.faults.plan import Fault
from tests.support import processes
from tests.support.processes import Process
from tests.support.stack import Stack, free_port

SETTLED = {"valkey": 5.0, "web": 5.0, "worker": 8.0}
"""Seconds after its start, or the end of a pause, from which a process is expected to do its work."""
DRAIN_S = 6.0
"""DRAIN_JOBS_S: longer than most jobs of a run."""
STOPPED_S = 5.0
"""Within which a worker has ended then."""
AGAIN_S = 0.5
"""Until a process that ended by itself is started again."""


class Service:
    """One of the stack's processes, started again after each end."""

    def __init__(
        self, name: str, start: Callable[[], subprocess.Popen[bytes]], process: subprocess.Popen[bytes]
    ) -> None:
        self.name = name
        self.kind = name.rstrip("12")
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
        return self.up and self.stopping is None and well_s > SETTLED[self.kind]

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


class FaultStack(Stack):
    """Everything that a run starts; `close` ends all of it. To be used from one thread that stays."""

    def __init__(self, directory: Path) -> None:
        # All that is started inherits it, so that it is found whoever its parent is by then.
        os.environ["HEADWAY_FAULTS"] = secrets.token_hex(8)
        self._mark = f"HEADWAY_FAULTS={os.environ['HEADWAY_FAULTS']}"
        directory = directory.resolve()
        # A web process that is killed leaves its directory of metrics there.
        (directory / "tmp").mkdir()
        super().__init__(
            directory,
            fsync="always",
            AUTH="none",
            TMPDIR=str(directory / "tmp"),
            LEASE_S="3",
            HEARTBEAT_S="1",
            DRAIN_S="1",
            DRAIN_JOBS_S=f"{DRAIN_S:g}",
            LOG_FORMAT="json",
            LOG_LEVEL="INFO",
        )
        self.ports = [self.port, free_port()]
        self.services: list[Service] = []
        self._later: list[tuple[float, Callable[[], None]]] = []
        self.stops: list[Stop] = []
        try:
            self.services.append(Service("valkey", self._start_valkey, self.valkey.process))
            for n, port in enumerate(self.ports, 1):
                start = partial(self.start, f"web{n}", "-m", "service", "web", PORT=str(port))
                self.services.append(Service(f"web{n}", start, start()))
            for n in (1, 2):
                start = partial(self.start, f"worker{n}", "-m", "worker")
                self.services.append(Service(f"worker{n}", start, start()))
        except BaseException:
            self.close()
            raise

    def _start_valkey(self) -> subprocess.Popen[bytes]:
        self.start_valkey()
        return self.valkey.process

    # -- looking -----------------------------------------------------------------------------------

    def of(self, kind: str) -> list[Service]:
        return [service for service in self.services if service.kind == kind]

    @property
    def calm(self) -> bool:
        """Whether the store and a web process have been well for a while."""
        return self.of("valkey")[0].settled and any(web.settled for web in self.of("web"))

    def pool(self, worker: Service, table: dict[int, Process]) -> list[Process]:
        """The processes of a worker that run tasks."""
        return [p for p in table.values() if p.parent == worker.process.pid and "worker" in p.command]

    def encoders(self, table: dict[int, Process]) -> list[Encoder]:
        """Processes that work in an attempt's directory, or have a file there among their arguments."""
        found = []
        for p in table.values():
            places = f"{processes.directory_of(p.pid)}/ {p.command}"
            named = re.search(rf"{re.escape(str(self.directory))}/work/([\w-]+)/(\d+)/", places)
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
        if part == "group" or kind == "web":
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

    # -- the end -----------------------------------------------------------------------------------

    def end(self, seconds: float = 15) -> list[str]:
        """Ask all but the store to end, and say what is still there afterwards."""
        self.supervise(all_well=True)
        asked = [service for service in self.services if service.kind != "valkey"]
        processes.signal_all([service.process.pid for service in asked], signal.SIGTERM)
        deadline = time.monotonic() + seconds
        for service in asked:
            with suppress(subprocess.TimeoutExpired):
                service.process.wait(max(0.1, deadline - time.monotonic()))
        for service in asked:
            service.note_end()
        left = self._strays()
        while left and time.monotonic() < deadline:
            time.sleep(0.1)
            left = self._strays()
        return [f"process {p.pid} ({p.command[:120]})" for p in left]

    def _strays(self) -> list[Process]:
        table = processes.table()
        return [table[p] for p in processes.ours(self._mark) if p in table and p != self.valkey.process.pid]

    def close(self) -> None:
        """End everything this run has started, whoever its parent is by now."""
        processes.signal_all(processes.ours(self._mark), signal.SIGKILL)
        self.kill_valkey()
        super().close()
        os.environ.pop(self._mark.partition("=")[0], None)

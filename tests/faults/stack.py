"""The real stack, to be broken: Valkey, two web processes, two workers; what ends is started again."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import time
from contextlib import suppress
from functools import partial
from pathlib import Path

from headway.contract.store import JobStore
from tests.faults.history import File
from tests.faults.services import DRAIN_S, Owner, Service, Services
from tests.support import processes
from tests.support.credentials import OWNER
from tests.support.processes import Process
from tests.support.stack import Stack, free_port


class FaultStack(Services, Stack):
    """Everything that a run starts; `close` ends all of it. To be used from one thread that stays."""

    def __init__(self, directory: Path) -> None:
        # All that is started inherits it, so that it is found whoever its parent is by then.
        os.environ["HEADWAY_FAULTS"] = secrets.token_hex(8)
        self._mark = f"HEADWAY_FAULTS={os.environ['HEADWAY_FAULTS']}"
        directory = directory.resolve()
        # A web process that is killed leaves its directory of metrics there.
        (directory / "tmp").mkdir()
        Stack.__init__(
            self,
            directory,
            fsync="always",
            AUTH="none",
            TMPDIR=str(directory / "tmp"),
            KEEP_PROGRESS="0",
            LEASE_S="3",
            HEARTBEAT_S="1",
            DRAIN_S="1",
            DRAIN_JOBS_S=f"{DRAIN_S:g}",
            LOG_FORMAT="json",
            LOG_LEVEL="INFO",
        )
        Services.__init__(self)
        self.ports = [self.port, free_port()]
        self.addresses = [f"127.0.0.1:{port}" for port in self.ports]
        self.through = [("127.0.0.1", port) for port in self.ports]
        self.owners = [Owner(OWNER)]
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

    def new_store(self, timeout_s: float = 60) -> JobStore:
        return Stack.new_store(self, timeout_s)

    def files(self) -> list[File]:
        root = self.directory / "artifacts"
        found = []
        for path in root.rglob("*") if root.is_dir() else ():
            # Beside the jobs lies the mark of whose files these are.
            if path.is_file() and path.parent != root:
                job_id, attempt, *name = path.relative_to(root).parts
                found.append(File(job_id, int(attempt), "/".join(name), path.stat().st_size))
        return found

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
        Stack.close(self)
        os.environ.pop(self._mark.partition("=")[0], None)

"""The real thing for tests: Valkey, the web process under gunicorn, a Celery worker; ports of their own."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, Self

from headway.contract.settings import load
from headway.contract.store import JobStore
from headway.sdk.sandbox import LAUNCHER
from service.process import valkey
from tests.support import credentials, processes
from tests.support.checkout import ROOT
from tests.support.programs import with_us
from tests.support.wait import until

STOP_S = 10
"""Within which all that is asked to end must have ended: what the contract promises."""

_held: list[socket.socket] = []


def free_port() -> int:
    """A port that nobody else is given while this process lives, neither beside it nor after it is used.

    A socket that is bound to it, and does not listen, keeps it from the kernel's choice, and in nobody's
    way who binds that very port with SO_REUSEADDR, as servers do.
    """
    holder = socket.socket()
    holder.bind(("127.0.0.1", 0))
    # Not before: bound with it, two could be given one port.
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    _held.append(holder)
    port: int = holder.getsockname()[1]
    return port


class Stack:
    """Processes that belong together. `environ` is what all of them get on top of the defaults.

    Authentication is on, unless `environ` has `AUTH="none"`. The key of tests/support/credentials.py opens
    everything, and what is asked here is asked with `headers`, which hold it.
    With `fsync` "always", Valkey loses nothing that it has answered, however it ends.
    """

    checkout = ROOT
    """Where the processes run, and what they import."""

    def __init__(self, directory: Path, *, fsync: str = "everysec", **environ: str) -> None:
        self.directory = directory
        self.valkey_port, self.port = free_port(), free_port()
        self._fsync = fsync
        self.start_valkey()
        self.environ = {
            **os.environ,
            "PYTHONPATH": str(self.checkout),
            "PYTHONUNBUFFERED": "1",
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "REDIS_URL": self.valkey.url,
            "HOST": "127.0.0.1",
            "PORT": str(self.port),
            "DATA_DIR": str(directory),
            "WORKER_CONCURRENCY": "2",
            "AUTH": "keys",
            # So that a test knows where to look; tests/integration/test_layout.py has more of them.
            "PARTITIONS": "1",
            # So that what readers were given can be compared with all that was written.
            "KEEP_PROGRESS": "1",
            **environ,
        }
        self.url = f"http://127.0.0.1:{self.port}"
        self.use_store()
        self.headers = credentials.BEARER
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        """Those that run, by the name they were started under."""

    def use_store(self) -> None:
        """Look into the store that `environ` names from now on, where the tests' key is known."""
        self.store = self.new_store()
        credentials.admit(self.store)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def new_store(self, timeout_s: float = 60) -> JobStore:
        """A store as the processes have it; its calls wait so long, since a test may stop the server."""
        return JobStore.of(load(self.environ), timeout_s=timeout_s)

    def log(self, name: str) -> str:
        return (self.directory / f"{name}.log").read_text(errors="replace")

    def start(self, name: str, *arguments: str, **environ: str) -> subprocess.Popen[bytes]:
        """Run Python with these arguments; what it says goes to `log(name)`."""
        with (self.directory / f"{name}.log").open("ab") as out:
            process = subprocess.Popen(
                with_us([sys.executable, *arguments]),
                cwd=self.checkout,
                env={**self.environ, **environ},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.processes[name] = process
        return process

    def pid(self, name: str) -> int:
        return self.processes[name].pid

    def start_web(self, *, threads: bool = False) -> None:
        """The web process; with `threads` under gunicorn's threaded worker, without greenlets."""
        gunicorn = [
            "gunicorn",
            "--config",
            "python:service.process.gunicorn_conf",
            "service.process.wsgi:app",
        ]
        command = [*gunicorn, "-k", "gthread", "--threads", "64"] if threads else ["service", "web"]
        process = self.start("web", "-m", *command)

        def ready() -> bool:
            assert process.poll() is None, self.log("web")
            try:
                return self.get("/readyz")[0] == 200
            except OSError:
                return False

        until(ready, what="the web process to be ready")

    def start_worker(self, *arguments: str) -> None:
        """The worker, or what these arguments make of it."""
        process = self.start("worker", *(arguments or ("-m", "worker")))

        def registered() -> bool:
            assert process.poll() is None, self.log("worker")
            # By its pid: one that was killed before it counts as alive for a while.
            return any(worker.pid == process.pid for worker in self.store.registry.workers())

        until(registered, what="the worker to register")

    def stop(self, name: str, signum: int = signal.SIGTERM, seconds: float = 30) -> int:
        """End a process; what is left of its group is killed. Its exit status."""
        process = self.processes.pop(name)
        process.send_signal(signum)
        try:
            return process.wait(seconds)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def living(self) -> dict[str, list[int]]:
        """The processes that those we started have; what a job starts for a moment is not among them."""
        return {
            name: sorted(
                child.pid
                for child in processes.descendants(process.pid)
                if child.command.startswith(sys.executable) and LAUNCHER not in child.command
            )
            for name, process in self.processes.items()
        }

    def uploads(self) -> set[Path]:
        """What is kept of uploads. Tests that share a stack run in any order: compare with what was there
        before."""
        return set((self.directory / "uploads").glob("*"))

    def start_valkey(self) -> None:
        """Valkey, on what it has kept if it ran before."""
        self.valkey = valkey.start(self.directory / "valkey", port=self.valkey_port, fsync=self._fsync)

    def kill_valkey(self) -> None:
        self.valkey.process.kill()
        self.valkey.process.wait()

    def restart_web(self, signum: int = signal.SIGKILL) -> None:
        """The web process goes (killed with all its children, unless told otherwise) and comes back."""
        process = self.processes.pop("web")
        os.killpg(process.pid, signum)
        process.wait(15)
        self.start_web()

    def close(self) -> None:
        for name in list(self.processes):
            self.stop(name)
        self.store.servers.close()
        self.valkey.stop()

    # -- HTTP ----------------------------------------------------------------------------------

    def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        headers: dict[str, str] | None = None,
        timeout: float = 30,
    ) -> tuple[int, dict[str, str], bytes]:
        """Status, headers with lower-case names, body. A body that is not bytes is sent as JSON.

        A request with a credential of its own has no other; an empty `Authorization` stands for none.
        """
        headers = credentials.added(self.headers, headers or {}, path)
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
            headers.setdefault("Content-Type", "application/json")
        request = urllib.request.Request(self.url + path, body, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=timeout) as response:
                return response.status, {k.lower(): v for k, v in response.headers.items()}, response.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, {k.lower(): v for k, v in error.headers.items()}, error.read()

    def get(self, path: str, **kwargs: Any) -> tuple[int, Any]:
        """Status and the decoded JSON (or the bytes of anything else)."""
        status, headers, body = self.call("GET", path, **kwargs)
        return status, json.loads(body) if "json" in headers.get("content-type", "") else body

    def metric(self, name: str) -> float:
        """The sum over all labels."""
        text = self.call("GET", "/metrics")[2].decode()
        return sum(map(float, re.findall(rf"^{name}(?:{{[^}}]*}})? (\S+)$", text, re.MULTILINE)))

    def submit(self, type: str, params: dict[str, Any], **more: Any) -> dict[str, Any]:
        status, _, body = self.call("POST", "/jobs", {"type": type, "params": params, **more})
        assert status == 202, body
        job: dict[str, Any] = json.loads(body)
        return job

    def document(self, job_id: str) -> dict[str, Any]:
        """The job as events have it: without what GET adds of the moment at which it is asked."""
        job: dict[str, Any] = self.get(f"/jobs/{job_id}")[1]
        del job["waiting_reason"], job["children"]
        return job

    def wait_ended(self, job_id: str, seconds: float = 60) -> dict[str, Any]:
        """The job, once it has ended."""

        def ended() -> Any:
            job = self.get(f"/jobs/{job_id}")[1]
            return job if job["finished_at"] else None

        job: dict[str, Any] = until(ended, seconds, f"job {job_id} to end")
        return job

"""The servers that are compared: Headway, nginx with nchan, a bare write(2) loop, sse-starlette.

Each is started fresh for a case and gone after it. What a peer needs and is not there makes it Missing,
and the table says why.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from abc import ABC, abstractmethod
from pathlib import Path

from tests.bench import jobs
from tests.bench.clients import HERE, Client, ClientError
from tests.bench.publisher import Spec
from tests.support.checkout import ROOT
from tests.support.stack import Stack, free_port

NCHAN_MODULES = (
    Path("/usr/lib/nginx/modules/ngx_nchan_module.so"),
    Path("/usr/share/nginx/modules/ngx_nchan_module.so"),
    Path("/usr/lib64/nginx/modules/ngx_nchan_module.so"),
)
RAWFAN_EVENT = 169
"""So many bytes are in an event of rawfan without padding …"""
HEADWAY_EVENT = 338
"""… and so many in one of the publisher's, give or take a digit."""


class Missing(RuntimeError):
    """A peer is not installed; the message says what is missing."""


class Publishing(Client):
    """A publisher process: made when it has connected, it waits for its ready file, or is at work."""

    def __init__(self, spec: Spec) -> None:
        command: list[str | Path] = [sys.executable, "-m", "tests.bench.publisher", spec.argument()]
        super().__init__(command, spec.seconds * 4 + 60, PYTHONPATH=str(ROOT))
        assert self.process.stdout is not None
        if self.process.stdout.readline() != "waiting\n":
            raise ClientError(f"the publisher: {self.process.communicate()[1][-800:]}")


class Server(ABC):
    """A running server. `path` has a %d for the number of a job; `pid` and its children serve."""

    name: str
    port: int
    path: str
    pid: int
    store_pid: int | None = None

    @abstractmethod
    def publish(self, rate: float, seconds: float, ready: Path, **more: object) -> Publishing | None:
        """A publisher that begins when the file exists; None if the server makes its events by itself."""

    @abstractmethod
    def close(self) -> None: ...


class Headway(Server):
    name = "headway"

    def __init__(
        self,
        directory: Path,
        count: int = 1,
        *,
        tickets: bool = False,
        fsync: str = "everysec",
        **environ: str,
    ) -> None:
        # As the peers are, unless readers have tickets: open to everybody, who is at one address here.
        auth = "keys" if tickets else "none"
        environ = {"AUTH": auth, "MAX_STREAMS_PER_CALLER": "0", "MAX_STREAMS_PER_OWNER": "0", **environ}
        self.stack = Stack(directory, fsync=fsync, DRAIN_S="0.5", **environ)
        try:
            assert self.stack.valkey.port is not None
            self.jobs = jobs.make(self.stack.valkey.port, count)
            self._saved = self.jobs.save(directory / "jobs.json")
            self.stack.start_web()
        except BaseException:
            self.stack.close()
            raise
        self.port = self.stack.port
        self.path = self.jobs.path
        if tickets:
            self.name = "headway, tickets"
            _, _, made = self.stack.call("POST", "/tickets", {"feed": True, "ttl_s": 3600})
            self.path += f"?ticket={json.loads(made)['ticket']}"
        self.store_pid = self.stack.valkey.process.pid

    @property
    def pid(self) -> int:  # type: ignore[override]  # the web process may be started again
        return self.stack.pid("web")

    def publish(self, rate: float, seconds: float, ready: Path, **more: object) -> Publishing:
        return Publishing(Spec(rate, seconds, str(ready), jobs=str(self._saved), **more))  # type: ignore[arg-type]

    def close(self) -> None:
        self.stack.close()


class _Process(Server):
    """A server that is one process group, ended with all that is in it."""

    def __init__(self, command: list[str | Path], directory: Path, **environ: str) -> None:
        self._log = directory / "server.log"
        with self._log.open("ab") as out:
            self._process = subprocess.Popen(
                command,
                env={**os.environ, **environ},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        self.pid = self._process.pid

    def wait_answers(self, path: str, method: str = "GET") -> None:
        deadline = time.monotonic() + 20
        while True:
            request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", method=method)
            try:
                with urllib.request.urlopen(request, timeout=1):
                    return
            except urllib.error.HTTPError:
                return
            except OSError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    self.close()
                    raise ClientError(f"{self.name}: {self._log.read_text()[-500:]}") from None
                time.sleep(0.05)

    def close(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


class _Http(_Process):
    """One that is published to over HTTP."""

    path = "/events/%d"

    def __init__(self, command: list[str | Path], directory: Path, port: int, count: int) -> None:
        self.port = port
        self._count = count
        super().__init__(command, directory)
        self.wait_answers("/")

    def publish(self, rate: float, seconds: float, ready: Path, **more: object) -> Publishing:
        spec = Spec(
            rate,
            seconds,
            str(ready),
            port=self.port,
            path="/publish/%d",
            count=self._count,
            **more,  # type: ignore[arg-type]
        )
        return Publishing(spec)


class Nchan(_Http):
    name = "nchan"

    def __init__(self, directory: Path, count: int = 1) -> None:
        nginx = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin")
        module = next((path for path in NCHAN_MODULES if path.exists()), None)
        if nginx is None or module is None:
            raise Missing("nginx with nchan is not installed (Debian: libnginx-mod-nchan)")
        port = free_port()
        descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        text = (HERE / "nginx.conf").read_text()
        for name, value in {
            "module": module,
            "directory": directory,
            "port": port,
            "descriptors": descriptors,
            "connections": descriptors - 100,
        }.items():
            text = text.replace(f"{{{name}}}", str(value))
        # As root the worker would become another user, who may not enter our directory.
        (directory / "nginx.conf").write_text(f"user root;\n{text}" if os.geteuid() == 0 else text)
        super().__init__([nginx, "-p", directory, "-c", directory / "nginx.conf"], directory, port, count)


class Starlette(_Http):
    name = "sse-starlette"

    def __init__(self, directory: Path, count: int = 1, *, python: Path | None = None) -> None:
        if python is None:
            raise Missing("sse-starlette is not installed (--peers all installs it for the run)")
        port = free_port()
        command: list[str | Path] = [
            python, "-m", "uvicorn", "--host", "127.0.0.1", "--port", str(port), "--backlog", "4096",
            "--loop", "uvloop", "--http", "httptools", "--no-access-log", "--log-level", "warning",
            "--app-dir", HERE, "starlette_app:app",
        ]  # fmt: skip
        super().__init__(command, directory, port, count)


class RawFan(_Process):
    """Not a server anyone would use, but what the kernel's part of the work costs."""

    name = "write(2) loop"
    path = "/"

    def __init__(self, binary: Path, directory: Path, rate: float, seconds: float, ready: Path) -> None:
        self.port = free_port()
        command: list[str | Path] = [binary, str(self.port), str(rate), str(seconds)]
        pad = str(HEADWAY_EVENT - RAWFAN_EVENT)
        super().__init__(command, directory, RAWFAN_READY=str(ready), RAWFAN_PAD=pad)
        time.sleep(0.2)  # it listens at once, and a connection made to find out would be counted

    def publish(self, rate: float, seconds: float, ready: Path, **more: object) -> None:
        return None


def environment(directory: Path) -> Path:
    """A virtual environment with the peers that are Python packages; its interpreter."""
    subprocess.run([sys.executable, "-m", "venv", directory], check=True)
    python = directory / "bin" / "python"
    subprocess.run(
        [
            python,
            "-m",
            "pip",
            "install",
            "-q",
            "--disable-pip-version-check",
            "-r",
            HERE / "requirements.txt",
        ],
        check=True,
    )
    return python

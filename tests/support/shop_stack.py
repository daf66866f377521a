"""Headway beside somebody's Celery project: its worker, a process that sends its tasks, its own broker."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from headway.contract.events import ZERO
from headway.contract.foreign import job_id_of, placed
from headway.contract.records import Job
from headway.contract.states import State
from tests.support.checkout import ROOT
from tests.support.sse import Seen
from tests.support.stack import Stack
from tests.support.wait import until

LEASE_S = 5.0
PATIENCE_S = 120.0
TASKS = "tests.support.shop.tasks"


class ShopStack(Stack):
    """The web process, and a project that writes to its Redis under other database numbers."""

    def __init__(
        self, directory: Path, *, broker: str = "", fsync: str = "everysec", **environ: str
    ) -> None:
        environ = {"LEASE_S": str(LEASE_S), **environ}
        super().__init__(directory, fsync=fsync, HEARTBEAT_S="1", DRAIN_S="1", LOG_LEVEL="INFO", **environ)
        self.shop_environ = {
            "SHOP_BROKER": broker or f"redis://127.0.0.1:{self.valkey_port}/3",
            "SHOP_BACKEND": f"redis://127.0.0.1:{self.valkey_port}/4",
            "HEADWAY_REDIS_URL": self.valkey.url,
            # It takes pickle, which Celery warns a superuser of.
            "C_FORCE_ROOT": "1",
            **environ,
        }
        # Of Headway's own: the project has other settings, and other uses for such names.
        for name in ("REDIS_URL", "HOST", "PORT", "DATA_DIR"):
            self.shop_environ.setdefault(name, "of another program")
        self._sender: subprocess.Popen[str] | None = None

    def start_shop(self, *arguments: str, name: str = "shop", **environ: str) -> subprocess.Popen[bytes]:
        """The project's worker, ready when it counts as alive."""
        command = ("-m", "celery", "-A", TASKS, "worker", "-c", "2", "-l", "INFO", "-n", f"{name}@%h")
        process = self.start(name, *command, *arguments, **{**self.shop_environ, **environ})
        until(lambda: self._is_up(process, name), what=lambda: f"the shop's worker:\n{self.log(name)}")
        return process

    def _is_up(self, process: subprocess.Popen[bytes], name: str) -> bool:
        assert process.poll() is None, self.log(name)
        return any(worker.name.startswith(f"{name}@") for worker in self.store.registry.workers())

    def send(self, expression: str) -> Any:
        """Evaluate it where the project's tasks are in scope. Returns the id of its result."""
        if self._sender is None:
            self._sender = self.new_sender()
        assert self._sender.stdin is not None
        assert self._sender.stdout is not None
        self._sender.stdin.write(expression + "\n")
        self._sender.stdin.flush()
        answer = self._sender.stdout.readline()
        assert answer, f"the sender has ended: {expression}\n{self.log('sender')}"
        return json.loads(answer)

    def new_sender(self, **environ: str) -> subprocess.Popen[str]:
        with (self.directory / "sender.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "tests.support.shop.sender"],
                cwd=ROOT,
                env={**os.environ, **self.environ, **self.shop_environ, **environ},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )

    def close(self) -> None:
        if self._sender is not None:
            self._sender.communicate(timeout=30)
        super().close()

    # -- the jobs of tasks -------------------------------------------------------------------------

    def job_id(self, task_id: str) -> str:
        return placed(self.store.keys, "local", job_id_of("local", task_id))

    def find(self, task_id: str) -> Job | None:
        return self.store.get(self.job_id(task_id))

    def until(self, task_id: str, holds: Callable[[Job], bool], seconds: float = PATIENCE_S) -> Job:
        """The task's job as soon as it is so."""
        found: Job | None = None

        def look() -> bool:
            nonlocal found
            found = self.find(task_id)
            return found is not None and holds(found)

        until(look, seconds, lambda: f"job: {found!r}\n{self._tail()}")
        assert found is not None
        return found

    def _tail(self) -> str:
        return "\n".join(f"{name}:\n{self.log(name)[-3000:]}" for name in self.processes if name != "web")

    def ended(self, task_id: str, seconds: float = PATIENCE_S) -> Job:
        return self.until(task_id, lambda job: job.ended, seconds)

    def running(self, task_id: str) -> Job:
        return self.until(task_id, lambda job: job.state is State.RUNNING)

    def do(self, expression: str) -> Job:
        """Send a task and wait for its job's end."""
        return self.ended(self.send(expression))

    def events(self, task_id: str, *types: str) -> list[Seen]:
        page = self.store.read(self.job_id(task_id), ZERO, 10_000)
        assert page is not None
        return [
            Seen(str(e.id), e.type, json.loads(e.data)) for e in page.events if not types or e.type in types
        ]

    def feed(self, group: str) -> list[Seen]:
        """What the feed of a group keeps."""
        page = self.store.feeds.read("local", group, ZERO, 10_000)
        return [Seen(str(e.id), e.type, json.loads(e.data)) for e in page.events]

    def states(self, task_id: str) -> list[str]:
        """What the job went through."""
        return [
            e.data["state"]
            for e in self.events(task_id, "state", "end")
            if "cancel_requested" not in e.data or e.event == "end"
        ]

"""The queues that Headway's is compared with: Celery, huey, dramatiq, RQ and BullMQ. Each has a Valkey of
its own, a worker of two processes, and the tasks of tests/bench/queue_projects."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import redis

from service.process import valkey
from tests.bench.bench import Bench
from tests.support.checkout import ROOT
from tests.support.stack import free_port

PROJECTS = "tests.bench.queue_projects"
BULLMQ = ("bullmq@6.7.0", "ioredis@5.11.1")


@dataclass(frozen=True, slots=True)
class Peer:
    name: str
    sender: list[str | Path]
    """The command that sends tasks; NAME COUNT PAUSE_S are added to it."""
    worker: list[str | Path]
    left: list[tuple[str, str]]
    """Redis commands whose numbers add up to the tasks that wait or are being run."""
    updates: bool = True
    """Whether it can report progress."""
    slow: bool = False
    """Whether it gets a tenth of the tasks, as more would take too long."""
    node_modules: str = ""


class Project:
    """A peer with its server, and no worker yet."""

    def __init__(self, peer: Peer, directory: Path) -> None:
        self.peer = peer
        self.begins = directory / "begins"
        self._directory = directory
        self.server = valkey.start(directory / "valkey", port=free_port())
        self._redis = redis.Redis(port=self.server.port or 0)
        self._environ = {
            **os.environ,
            "BENCH_BROKER": f"redis://127.0.0.1:{self.server.port}/0",
            "BENCH_BEGINS": str(self.begins),
            "BENCH_NODE_MODULES": peer.node_modules,
            "C_FORCE_ROOT": "1",
            "PYTHONPATH": str(ROOT),
        }

    def send(self, name: str, count: int, pause_s: float = 0) -> list[str]:
        """Send a task `count` times. Returns when each was sent, in ns, and at last the seconds it took."""
        command = [*self.peer.sender, name, str(count), str(pause_s)]
        sent = subprocess.run(
            command, cwd=ROOT, env=self._environ, stdout=subprocess.PIPE, text=True, check=True
        )
        return sent.stdout.split()

    def left(self) -> int:
        """Return how many tasks wait or are being run."""
        return sum(int(self._redis.execute_command(*count)) for count in self.peer.left)

    @contextmanager
    def working(self) -> Iterator[int]:
        """Run the worker in the block. Yields the pid of the parent of its two processes."""
        with (self._directory / "worker.log").open("ab") as log:
            worker = subprocess.Popen(self.peer.worker, cwd=ROOT, env=self._environ, stdout=log, stderr=log)
        try:
            yield worker.pid
        finally:
            worker.terminate()
            worker.wait(30)

    def close(self) -> None:
        self._redis.close()
        self.server.stop()


def peers(bench: Bench) -> Iterator[Peer]:
    """Yield the peers that can run here; a note says what the others lack."""
    celery = f"{PROJECTS}.celery_project"
    yield Peer(
        "Celery",
        [sys.executable, "-m", celery],
        [sys.executable, "-m", "celery", "-A", celery, "worker", "-c", "2", "-l", "WARNING",
         "--without-gossip", "--without-mingle"],
        [("LLEN", "celery"), ("HLEN", "unacked")],
    )  # fmt: skip
    if bench.python is None:
        bench.note("huey, dramatiq, RQ and BullMQ are left out (--peers all installs them for the run)")
        return
    python, scripts = bench.python, bench.python.parent
    yield Peer(
        "huey",
        [python, "-m", f"{PROJECTS}.huey_project"],
        [scripts / "huey_consumer", f"{PROJECTS}.huey_project.huey", "-w", "2", "-k", "process", "-q"],
        [("LLEN", "huey.redis.bench")],
    )
    yield Peer(
        "dramatiq",
        [python, "-m", f"{PROJECTS}.dramatiq_project"],
        [scripts / "dramatiq", f"{PROJECTS}.dramatiq_project", "-p", "2", "-t", "1"],
        [("LLEN", "dramatiq:default")],
        updates=False,
    )
    yield Peer(
        "RQ",
        [python, "-m", f"{PROJECTS}.rq_project"],
        ["sh", "-c", f'exec "{scripts}/rq" worker-pool -q -u "$BENCH_BROKER" -n 2 default'],
        [("LLEN", "rq:queue:default"), ("ZCARD", "rq:wip:default")],
        slow=True,
    )
    npm, node = shutil.which("npm"), shutil.which("node")
    if npm is None or node is None:
        bench.note("BullMQ is left out: Node.js and npm are not installed")
        return
    modules = bench.directory / "node"
    if not modules.exists():
        modules.mkdir()
        subprocess.run(
            [npm, "install", "--silent", "--no-audit", "--no-fund", "--prefix", modules, *BULLMQ],
            check=True,
        )
    script = ROOT / "tests/bench/queue_projects/bullmq_project.mjs"
    yield Peer(
        "BullMQ",
        [node, script],
        [node, script, "work"],
        [("LLEN", "bull:bench:wait"), ("LLEN", "bull:bench:active")],
        node_modules=str(modules),
    )

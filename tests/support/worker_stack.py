"""A real Valkey, a real `python -m worker`, and the little of the service that they need."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis
from celery import Celery

from headway.contract.events import ZERO
from headway.contract.records import Job
from headway.contract.settings import Settings
from headway.contract.states import State
from headway.contract.store import JobStore, NewJob
from service.process import valkey
from worker.media import ffmpeg

ROOT = Path(__file__).parents[2]
LEASE_S = 1.5


@dataclass(frozen=True)
class Seen:
    """An event, decoded."""

    type: str
    data: dict[str, Any]


class WorkerStack:
    """Submits jobs as the service does: a hash in the store, a message by name, and answers to alarms."""

    def __init__(self, directory: Path, **env: str) -> None:
        self.data_dir = directory
        self.valkey = valkey.start(directory / "valkey")
        self.store = JobStore.of(Settings(redis_url=self.valkey.url, key_prefix="test:"), timeout_s=2)
        self.sender = Celery("sender", broker=self.valkey.url, set_as_current=False)
        self.sender.conf.update(
            broker_transport_options={"global_keyprefix": "test:"}, task_ignore_result=True
        )
        self.env = {
            **{name: value for name, value in os.environ.items() if name not in ("FFMPEG", "FFPROBE")},
            "REDIS_URL": self.valkey.url,
            "KEY_PREFIX": "test:",
            "DATA_DIR": str(directory),
            "WORKER_CONCURRENCY": "2",
            "LEASE_S": str(LEASE_S),
            "LOG_LEVEL": "INFO",
            **env,
        }
        self.log = directory / "worker.log"
        self.command = ["-m", "worker"]
        self.worker = self.start_worker()

    def start_worker(self) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            worker = subprocess.Popen(
                [sys.executable, *self.command], env=self.env, cwd=ROOT, stderr=log, start_new_session=True
            )
        eventually(
            lambda: any(alive for _, alive in self.store.registry.types().values()), "the worker registers"
        )
        return worker

    def close(self) -> None:
        # How it stops is for the tests of that; everything it started dies with it.
        with suppress(ProcessLookupError):
            os.killpg(self.worker.pid, signal.SIGKILL)
        self.worker.wait()
        self.sender.close()
        self.store.redis.close()
        self.valkey.stop()

    # -- jobs --------------------------------------------------------------------------------------

    def submit(self, name: str, *, max_attempts: int = 3, owner: str = "owner", **params: Any) -> str:
        described, _ = self.store.registry.types()[name]
        queue = described["queue"]
        job_id, *_ = self.store.create(
            NewJob(owner=owner, type=name, params=params, queue=queue, max_attempts=max_attempts)
        )
        self.send(name, job_id, queue)
        return job_id

    def send(self, name: str, job_id: str, queue: str) -> None:
        self.sender.send_task(name, args=[job_id], queue=queue)

    def answer_alarms(self) -> None:
        for job_id in self.store.alarms.due(0):
            due = self.store.alarms.answer(job_id)
            if due is not None:
                self.send(due.type, due.id, due.queue)

    def job(self, job_id: str) -> Job:
        job = self.store.get(job_id)
        assert job is not None
        return job

    def until(self, job_id: str, holds: Callable[[Job], bool], timeout_s: float = 60) -> Job:
        """The job as soon as it is so, alarms being answered meanwhile."""
        job = self.job(job_id)

        def look() -> bool:
            nonlocal job
            with suppress(redis.RedisError):
                self.answer_alarms()
                job = self.job(job_id)
                return holds(job)
            return False

        eventually(look, lambda: f"job: {job!r}\n{self.log.read_text()[-4000:]}", timeout_s)
        return job

    def ended(self, job_id: str, timeout_s: float = 60) -> Job:
        return self.until(job_id, lambda job: job.ended, timeout_s)

    def running(self, job_id: str) -> Job:
        return self.until(job_id, lambda job: job.state is State.RUNNING)

    def do(self, name: str, **options: Any) -> Job:
        return self.ended(self.submit(name, **options))

    def events(self, job_id: str, *types: str) -> list[Seen]:
        page = self.store.read(job_id, ZERO, 10_000)
        assert page is not None
        return [Seen(e.type, json.loads(e.data)) for e in page.events if not types or e.type in types]

    # -- processes and files -----------------------------------------------------------------------

    def pool_process(self, job_id: str) -> int:
        """The process that runs the job."""
        worker = self.store.redis.hget(self.store.keys.job(job_id), "_worker")
        assert isinstance(worker, bytes)
        return int(json.loads(worker).rpartition(":")[2])

    def encoders(self) -> list[int]:
        """Processes that have a file of ours among their arguments."""
        found = []
        for entry in Path("/proc").iterdir():
            with suppress(OSError):
                if entry.name.isdigit() and str(self.data_dir / "work") in (
                    entry / "cmdline"
                ).read_bytes().decode(errors="replace"):
                    found.append(int(entry.name))
        return found

    def work_files(self) -> list[Path]:
        # Directories may vanish meanwhile, which rglob does not take.
        return [Path(at) / name for at, _, names in os.walk(self.data_dir / "work") for name in names]

    def artifact(self, job: Job, name: str) -> Path:
        found = next(artifact for artifact in job.artifacts if artifact.name == name)
        return self.data_dir / "artifacts" / job.id / str(found.attempt) / name

    def upload(self, content: bytes, name: str = "clip.mp4") -> str:
        """What POST /uploads leaves; returns the reference."""
        upload_id = os.urandom(11).hex()
        directory = self.data_dir / "uploads" / upload_id
        directory.mkdir(parents=True)
        (directory / "data").write_bytes(content)
        meta = {"id": upload_id, "name": name, "size": len(content), "media_type": "video/mp4"}
        (directory / "meta.json").write_text(json.dumps(meta))
        return f"upload:{upload_id}"

    def film(self, name: str, *args: str) -> str:
        """Make a small file with ffmpeg below DATA_DIR; returns the reference."""
        path = self.data_dir / "films" / name
        path.parent.mkdir(exist_ok=True)
        made = subprocess.run(
            [ffmpeg.locate("ffmpeg"), "-nostdin", "-loglevel", "error", "-y", *args, str(path)],
            check=False,
            capture_output=True,
            cwd=path.parent,
        )
        assert made.returncode == 0, made.stderr
        return f"file:films/{name}"


def eventually(
    holds: Callable[[], object], what: str | Callable[[], str] = "it", timeout_s: float = 60
) -> None:
    """Wait until it is so; fails after the time."""
    deadline = time.monotonic() + timeout_s
    while not holds():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout_s} s: {what if isinstance(what, str) else what()}")
        time.sleep(0.01)

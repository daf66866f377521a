"""A real Valkey, a real `python -m worker`, and the little of the service that they need."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import redis
from celery import Celery

from headway.contract.events import ZERO
from headway.contract.new_job import NewJob
from headway.contract.records import Job
from headway.contract.states import State
from headway.sdk.job import Job as TaskJob
from headway.sdk.job_type import Params
from tests.support import processes
from tests.support.sse import Seen
from tests.support.stack import Stack
from tests.support.wait import until
from worker.media import ffmpeg

LEASE_S = 1.5

Task = Callable[[TaskJob[Params]], Any]
Do = Callable[..., Job]
"""Runs a task in this process and returns its job: the fixture `do`."""


class WorkerStack(Stack):
    """Submits jobs as the service does: a hash in the store, a message by name, and answers to alarms."""

    def __init__(self, directory: Path, **environ: str) -> None:
        super().__init__(
            directory, **{"KEY_PREFIX": "test:", "LEASE_S": str(LEASE_S), "LOG_LEVEL": "INFO", **environ}
        )
        self.sender = Celery("sender", broker=self.valkey.url, set_as_current=False)
        self.sender.conf.update(
            broker_transport_options={"global_keyprefix": "test:"}, task_ignore_result=True
        )
        self.start_worker()

    @property
    def worker(self) -> subprocess.Popen[bytes]:
        return self.processes["worker"]

    def close(self) -> None:
        # How it stops is for the tests of that.
        if "worker" in self.processes:
            self.worker.kill()
        self.sender.close()
        super().close()

    # -- jobs --------------------------------------------------------------------------------------

    def enqueue(self, name: str, *, max_attempts: int = 3, owner: str = "owner", **params: Any) -> str:
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

        until(look, timeout_s, lambda: f"job: {job!r}\n{self.log('worker')[-4000:]}")
        return job

    def ended(self, job_id: str, timeout_s: float = 60) -> Job:
        return self.until(job_id, lambda job: job.ended, timeout_s)

    def running(self, job_id: str) -> Job:
        return self.until(job_id, lambda job: job.state is State.RUNNING)

    def do(self, name: str, **options: Any) -> Job:
        return self.ended(self.enqueue(name, **options))

    def events(self, job_id: str, *types: str) -> list[Seen]:
        page = self.store.read(job_id, ZERO, 10_000)
        assert page is not None
        return [
            Seen(str(e.id), e.type, json.loads(e.data)) for e in page.events if not types or e.type in types
        ]

    # -- processes and files -----------------------------------------------------------------------

    def pool_process(self, job_id: str) -> int:
        """The process that runs the job."""
        worker = self.store.redis.hget(self.store.keys.job(job_id), "_worker")
        assert isinstance(worker, bytes)
        return int(json.loads(worker).rpartition(":")[2])

    def encoders(self) -> list[int]:
        """Processes that have a file of ours among their arguments, or work beside it."""
        work = str(self.directory / "work")
        return [
            p.pid for p in processes.table().values() if work in p.command + processes.directory_of(p.pid)
        ]

    def work_files(self) -> list[Path]:
        # Directories may vanish meanwhile, which rglob does not take.
        return [Path(at) / name for at, _, names in os.walk(self.directory / "work") for name in names]

    def artifact(self, job: Job, name: str) -> Path:
        found = next(artifact for artifact in job.artifacts if artifact.name == name)
        return self.directory / "artifacts" / job.id / str(found.attempt) / name

    def upload(self, content: bytes, name: str = "clip.mp4") -> str:
        """What POST /uploads leaves; returns the reference."""
        upload_id = os.urandom(11).hex()
        directory = self.directory / "uploads" / upload_id
        directory.mkdir(parents=True)
        (directory / "data").write_bytes(content)
        meta = {
            "id": upload_id,
            "name": name,
            "size": len(content),
            "media_type": "video/mp4",
            "owner": "owner",
        }
        (directory / "meta.json").write_text(json.dumps(meta))
        return f"upload:{upload_id}"

    def film(self, name: str, *args: str) -> str:
        """Make a small file with ffmpeg below DATA_DIR; returns the reference."""
        path = self.directory / "films" / name
        path.parent.mkdir(exist_ok=True)
        made = subprocess.run(
            [ffmpeg.locate("ffmpeg"), "-nostdin", "-loglevel", "error", "-y", *args, str(path)],
            check=False,
            capture_output=True,
            cwd=path.parent,
        )
        assert made.returncode == 0, made.stderr
        return f"file:films/{name}"

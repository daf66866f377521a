"""Job: what a task uses to report how far it is, and to learn that it must end."""

from __future__ import annotations

import errno
import json
import mimetypes
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Literal, Protocol, TypeVar

from pydantic import BaseModel

from headway.contract.encoding import dumps
from headway.contract.records import MAX_CHECKPOINT_BYTES, Artifact
from headway.contract.store import JobStore
from headway.sdk.meter import Meter, Plan, Share, Stage
from headway.sdk.sandbox import Sandbox
from headway.sdk.stopping import Stop
from headway.sdk.subprocesses import Children, Stream

P = TypeVar("P", bound=BaseModel)
T = TypeVar("T")

Level = Literal["debug", "info", "warning", "error"]

_ARTIFACT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", re.ASCII)
_MEDIA_TYPES = {
    ".m3u8": "application/vnd.apple.mpegurl",
    ".m4a": "audio/mp4",
    ".m4s": "video/iso.segment",
    ".mp4": "video/mp4",
    ".ts": "video/mp2t",
    ".webm": "video/webm",
}


class Reports(Protocol):
    """Where a job's events go: headway.sdk.reporter.Reporter, or a list in a test."""

    def log(self, level: Level, message: str) -> None: ...

    def publish(self, artifact: Artifact) -> None: ...

    def keep(self, checkpoint: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Place:
    """Where an attempt keeps its files: a directory of its own for each, all on one file system."""

    data_dir: Path
    job_id: str
    attempt: int

    @property
    def work(self) -> Path:
        """Removed with the attempt."""
        return self.data_dir / "work" / self.job_id / str(self.attempt)

    @property
    def artifacts(self) -> Path:
        """Kept with the job. An old attempt cannot disturb a newer one's."""
        return self.data_dir / "artifacts" / self.job_id / str(self.attempt)


class Job(Generic[P]):
    """One attempt at a job, as its task sees it.

    Reporting never blocks and never fails the task, and all of it may raise JobStopped (a BaseException)
    when the job must end: the task lets that pass. To be called from the thread that runs the task,
    except `log`.
    """

    def __init__(
        self,
        *,
        params: P,
        owner: str,
        place: Place,
        store: JobStore,
        reports: Reports,
        meter: Meter,
        stop: Stop,
        children: Children,
        checkpoint: str = "",
    ) -> None:
        self.params = params
        self.id = place.job_id
        self.owner = owner
        self.attempt = place.attempt
        """Counts from 1."""
        self.data_dir = place.data_dir
        self.store = store
        """For reading other jobs. Writing is the runtime's."""
        self._checkpoint = checkpoint
        self._place = place
        self._reports = reports
        self._meter = meter
        self._stop = stop
        self._children = children
        self._plan: Plan | None = None

    # -- progress ----------------------------------------------------------------------------------

    @contextmanager
    def plan(self, **weights: float) -> Iterator[None]:
        """Announce the job's stages, in order, each with the time it takes compared with the others.

        Without a plan a job has one stage. Raises ValueError inside another plan, or for a weight that
        is not positive.
        """
        if self._plan is not None:
            raise ValueError("a job has one plan")
        self._plan = Plan(weights)
        try:
            yield
        finally:
            self._plan = None

    @contextmanager
    def stage(self, name: str, total: float | None = None, unit: str | None = None) -> Iterator[Stage]:
        """Begin a stage of the plan. Without `total` its fraction, and the job's, is unknown.

        Raises ValueError for a stage that is not in the plan.
        """
        self._stop.check()
        share = Share() if self._plan is None else self._plan.share(name)
        stage = Stage(name, total, unit, share, time.monotonic(), self._stop)
        self._meter.stage = stage
        yield stage
        stage.done = True

    def track(
        self,
        items: Iterable[T],
        *,
        stage: str = "work",
        total: float | None = None,
        unit: str | None = "items",
    ) -> Iterator[T]:
        """The items, counted as a stage. `total` is their number if that can be known."""
        if total is None and isinstance(items, Sized):
            total = len(items)
        with self.stage(stage, total, unit) as counter:
            for item in items:
                yield item
                counter.advance()

    def log(self, message: str, level: Level = "info") -> None:
        """Add a line to the job's log. Each is an event of its own, in order; of more than 200 in a
        second, and of more than 5,000 while Redis is away, one line says how many were left out."""
        self._reports.log(level, str(message))
        self._stop.check()

    @property
    def checkpoint(self) -> Any:
        """What the job left last for its next attempt, or None.

        Set it to anything that is JSON; it is kept with the next report, 0.25 s later at most, and always
        before the attempt ends by itself (one that is killed may lose that last quarter of a second). A
        newer one replaces it, only the holder's is taken, and a job that is submitted again with
        POST /jobs/{id}/retry starts from it too. Raises RecordError for what is no JSON, RecordTooLarge
        for more than MAX_CHECKPOINT_BYTES of it.
        """
        return json.loads(self._checkpoint) if self._checkpoint else None

    @checkpoint.setter
    def checkpoint(self, value: Any) -> None:
        self._checkpoint = dumps(value, MAX_CHECKPOINT_BYTES, "the checkpoint")
        self._reports.keep(self._checkpoint)

    # -- files -------------------------------------------------------------------------------------

    @property
    def workdir(self) -> Path:
        """A directory of this attempt's own, removed when it ends."""
        self._place.work.mkdir(parents=True, exist_ok=True)
        return self._place.work

    def artifact(
        self, name: str, path: Path, media_type: str | None = None, *, index: str | None = None
    ) -> Artifact:
        """Publish a finished file (moved, not copied) as `name`; returns when the job shows it.

        Of a directory, `index` is the file to begin with, as "hls" with "master.m3u8" makes the artifact
        "hls/master.m3u8"; the files beside it are reachable by their names. The same name again replaces
        the artifact. Blocks while Redis is away. Raises ValueError for a name that is not
        `[A-Za-z0-9][A-Za-z0-9._-]*`, OSError.
        """
        self._stop.check()
        if not _ARTIFACT_NAME.fullmatch(name) or (index is not None) != path.is_dir():
            raise ValueError(f"not the name of an artifact, or a directory without an index: {name!r}")
        target = self._place.artifacts / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.is_dir():
            shutil.rmtree(target)
        _move(path, target, self.workdir)
        shown = target if index is None else target / index
        full_name = name if index is None else f"{name}/{index}"
        artifact = Artifact(
            name=full_name,
            media_type=media_type
            or _MEDIA_TYPES.get(shown.suffix)
            or mimetypes.guess_type(shown.name)[0]
            or "application/octet-stream",
            size=shown.stat().st_size,
            url=f"/jobs/{self.id}/artifacts/{full_name}",
            attempt=self.attempt,
        )
        self._reports.publish(artifact)
        return artifact

    # -- subprocesses and the end ------------------------------------------------------------------

    def subprocess(
        self,
        args: Sequence[str | Path],
        *,
        stdin: Stream = subprocess.DEVNULL,
        stdout: Stream = subprocess.DEVNULL,
        stderr: Stream = subprocess.DEVNULL,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        sandbox: Sandbox | None = None,
    ) -> AbstractContextManager[subprocess.Popen[bytes]]:
        """A subprocess for the length of a with-block; see Children.run. It ends with the job (TERM,
        2 s later KILL, to its whole process group), and is killed when this process is. With a
        `sandbox` it can touch only what that names, as far as the setting SANDBOX and the kernel go."""
        return self._children.run(
            args, stdin=stdin, stdout=stdout, stderr=stderr, cwd=cwd, env=env, sandbox=sandbox
        )

    def check(self) -> None:
        """Raise JobStopped if the job must end."""
        self._stop.check()

    def sleep(self, seconds: float) -> None:
        """Like time.sleep, but raises JobStopped as soon as the job must end."""
        if self._stop.wait(seconds):
            self._stop.check()

    def shield(self) -> AbstractContextManager[None]:
        """Hold cancellation back until the block is left, for steps that must not be torn; the next call
        after it raises. Keep it short: the worker's shutdown does not wait longer than 4 s, and a lost
        lease not at all."""
        return self._stop.shield()


def _move(path: Path, target: Path, workdir: Path) -> None:
    """Put a file or directory in its place in one step, however far it comes from."""
    try:
        os.replace(path, target)  # noqa: PTH105
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        near = workdir / f".{target.name}.moving"
        shutil.move(path, near)
        os.replace(near, target)  # noqa: PTH105

"""Job: how a task reports its progress and learns that it must end."""

from __future__ import annotations

import hashlib
import json
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any, Generic, Literal, Protocol, TypeVar, get_args

import redis
from pydantic import BaseModel

from headway.contract.encoding import dumps
from headway.contract.files import Files
from headway.contract.media_types import media_type_of
from headway.contract.messages import Message, message_body
from headway.contract.new_job import NewJob
from headway.contract.records import ARTIFACT_NAME, MAX_CHECKPOINT_BYTES, Artifact
from headway.contract.records import Job as JobRecord
from headway.contract.states import LIVE
from headway.contract.store import Claim, JobStore, StaleFence
from headway.sdk.attempt_dirs import AttemptDirs
from headway.sdk.job_files import JobFiles
from headway.sdk.meter import Meter, Plan, Stage, StageWeight
from headway.sdk.output import Output
from headway.sdk.sandbox import Sandbox
from headway.sdk.stopping import JobWaits, LeaseLost, Stop
from headway.sdk.subprocesses import Stream, Subprocesses

P = TypeVar("P", bound=BaseModel)
T = TypeVar("T")

Level = Literal["debug", "info", "warning", "error"]
LEVELS = get_args(Level)

MESSAGES_POLL_S = 0.2
"""Between two looks for messages, while a task waits for one."""


class Reports(Protocol):
    """Where a job sends its events: headway.sdk.reporter.Reporter, or a list in a test."""

    def log(self, level: Level, message: str) -> None: ...

    def publish(self, artifact: Artifact) -> None: ...

    def send(self, body: str) -> None: ...

    def save_checkpoint(self, checkpoint: str, read: str = "") -> None: ...


class Job(Generic[P]):
    """One attempt at a job, as its task sees it.

    Reporting neither blocks nor fails the task. Every method may raise JobStopped (a BaseException) when
    the job must end; the task lets it pass. Call them from the thread that runs the task; `log` may be
    called from any.
    """

    def __init__(
        self,
        *,
        params: P,
        claim: Claim,
        dirs: AttemptDirs,
        output: Output,
        store: JobStore,
        files: Files,
        reports: Reports,
        meter: Meter,
        stop: Stop,
        subprocesses: Subprocesses,
    ) -> None:
        self.params = params
        self.id = dirs.job_id
        self.owner = claim.ref.owner
        self.attempt = dirs.attempt
        """Counts from 1."""
        self.data_dir = dirs.data_dir
        self.store = store
        """For reading other jobs. Only the runtime writes."""
        self.files = JobFiles(files, dirs, output, stop, lambda why: reports.log("warning", why))
        self._claim = claim
        self._checkpoint = claim.checkpoint
        self._woken = claim.woken
        self._submitted: Counter[str] = Counter()
        self._read = ""
        self._dirs = dirs
        self._reports = reports
        self._meter = meter
        self._stop = stop
        self._subprocesses = subprocesses
        self._plan: Plan | None = None

    # -- progress ----------------------------------------------------------------------------------

    @contextmanager
    def plan(self, **weights: float) -> Iterator[None]:
        """Announce the job's stages, in order, each with its weight: its duration relative to the others.

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
        weight = StageWeight() if self._plan is None else self._plan.weight(name)
        stage = Stage(name, total, unit, weight, time.monotonic(), self._stop)
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
        """Yield the items, counting them as a stage. `total` defaults to their number, if they have one."""
        if total is None and isinstance(items, Sized):
            total = len(items)
        with self.stage(stage, total, unit) as counter:
            for item in items:
                yield item
                counter.advance()

    def log(self, message: str, level: Level = "info") -> None:
        """Add a line to the job's log: an event of its own, in order. Beyond 200 lines a second, or 5,000
        while Redis is unreachable, one line says how many were left out. Raises ValueError for another
        level."""
        if level not in LEVELS:
            raise ValueError(f"a log line's level is one of {', '.join(LEVELS)}, and not {level!r}")
        self._reports.log(level, str(message))
        self._stop.check()

    @property
    def checkpoint(self) -> Any:
        """The JSON value that this or an earlier attempt saved last, or None.

        Set it to any JSON value to replace it. The value is stored with the next report, at most 0.25 s
        later, and always before the attempt ends by itself (one that is killed may lose that last quarter
        of a second). Only the holder of the job can store one. A job that is submitted again with
        POST /jobs/{id}/retry starts from it too. Raises RecordError for a value that is not JSON,
        RecordTooLarge for one of more than MAX_CHECKPOINT_BYTES.
        """
        return json.loads(self._checkpoint) if self._checkpoint else None

    @checkpoint.setter
    def checkpoint(self, value: Any) -> None:
        self._checkpoint = dumps(value, MAX_CHECKPOINT_BYTES, "the checkpoint")
        self._reports.save_checkpoint(self._checkpoint, self._read)

    # -- messages ----------------------------------------------------------------------------------

    def send(self, name: str, data: Any = None) -> None:
        """Send a message to whoever watches the job: an event of its own, in order and never left out.

        `data` is any JSON up to MAX_MESSAGE_BYTES. Waits after 200 messages in a second, and while 4 MiB of
        them cannot be sent. Raises RecordError, which is a ValueError, for a bad name or data.
        """
        self._reports.send(message_body("task", name, data))

    def messages(self, wait_s: float = 0) -> Iterator[Message]:
        """Yield the messages that are sent to the job, each once and in order, until there is none for
        `wait_s` seconds. Call it again for later ones.

        A checkpoint remembers which were yielded before it: the next attempt begins with the messages after
        those; if no checkpoint was saved, with the first. While Redis is unreachable there are none.
        """
        until = time.monotonic() + wait_s
        while True:
            self._stop.check()
            found: list[Message] = []
            with suppress(redis.RedisError):
                found = self._unread()
            for message in found:
                self._read = message.id
                yield message
                until = time.monotonic() + wait_s
            left_s = until - time.monotonic()
            if not found and left_s <= 0:
                return
            if not found:
                self._stop.wait(min(left_s, MESSAGES_POLL_S))

    def await_message(self, limit_s: float | None = None) -> bool:
        """Return once there is a message for `messages` to yield; False if there was none for `limit_s`
        seconds.

        Until then the worker's place is free: the attempt ends here, and goes on when there is a message.
        The task is called again, from its beginning, with what it saved as its `checkpoint`.
        """
        return self._await("message", limit_s, lambda: bool(self._unread()))

    def _unread(self) -> list[Message]:
        return self.store.messages.unread(self.id, self._read or "0")

    def _await(
        self, what: Literal["children", "message"], limit_s: float | None, is_there: Callable[[], bool]
    ) -> bool:
        self._stop.check()
        if is_there():
            return True
        if self._woken == "timeout":
            self._woken = ""
            return False
        stage = self._meter.stage
        weight = StageWeight() if stage is None else stage.weight
        named = (
            None if stage is None else {"name": stage.name, "index": weight.index, "count": weight.count}
        )
        bar = {"before": weight.before, "share": weight.share, "stage": named}
        raise JobWaits(what, limit_s, dumps(bar) if what == "children" else "")

    # -- children ----------------------------------------------------------------------------------

    def submit(
        self,
        type: str,
        params: Mapping[str, Any],
        *,
        size: float = 1,
        labels: Mapping[str, str] | None = None,
        max_attempts: int | None = None,
        timeout_s: float | None = None,
        key: str | None = None,
    ) -> str:
        """Submit a job that is a child of this one. Returns its id.

        The children of a job are a group, whose name is the job's id, and are canceled when the job ends
        before them. `size` is how large a child is beside the others. A task that runs again gets the
        children that it has: by their `key`, or else the first, second, … with this type and parameters.
        Raises ValueError for a type that no worker has registered.
        """
        self._stop.check()
        known = self.store.registry.types().get(type)
        if known is None:
            raise ValueError(f"no worker has registered the job type {type!r}")
        text = json.dumps([type, dict(params)], sort_keys=True)
        self._submitted[text] += 1
        name = f"key {key}" if key is not None else f"{self._submitted[text]} {text}"
        new = NewJob(
            owner=self.owner,
            type=type,
            params=dict(params),
            queue=known[0]["queue"],
            max_attempts=max_attempts or known[0]["max_attempts"] or self._claim.job.max_attempts,
            group=self.id,
            labels=dict(labels or {}),
            timeout_s=timeout_s or self._claim.job.timeout_s,
            size=size,
            parent=self.id,
            parent_fence=self._claim.fence,
            trace=self._claim.trace,
        )
        digest = hashlib.blake2b(f"child of {self.id} {name}".encode(), digest_size=20).hexdigest()
        try:
            return self.store.create(new, once=(digest, "child"))[0]
        except StaleFence:
            self._stop.request(LeaseLost)
            raise LeaseLost from None

    def children(self) -> list[JobRecord]:
        """Return the children, as they are now, in the order of their submission."""
        found: list[JobRecord] = []
        cursor = None
        while True:
            pages, cursor = self.store.listings.page(self.owner, group=self.id, limit=500, cursor=cursor)
            found += (JobRecord.model_validate_json(page.document) for page in pages)
            if cursor is None:
                return [child for child in reversed(found) if child.parent == self.id]

    def await_children(self, limit_s: float | None = None) -> bool:
        """Return once all children have ended; False if they have not within `limit_s` seconds.

        Until then the worker's place is free, so a parent and its children need only one: the attempt ends
        here, and goes on when the last child has ended. The task is called again, from its beginning; what
        it submitted is still there. Meanwhile the children move the bar of the stage that it is called in.
        """
        return self._await("children", limit_s, lambda: not self._live_children())

    def _live_children(self) -> int:
        group = self.store.groups.get(self.owner, self.id)
        counts: dict[str, int] = {} if group is None else json.loads(group)["counts"]
        return sum(counts.get(state, 0) for state in LIVE)

    # -- files -------------------------------------------------------------------------------------

    @property
    def workdir(self) -> Path:
        """A scratch directory of this attempt's own, removed when the attempt ends."""
        self._dirs.work.mkdir(parents=True, exist_ok=True)
        return self._dirs.work

    def artifact(
        self, name: str, path: Path, media_type: str | None = None, *, index: str | None = None
    ) -> Artifact:
        """Publish a finished file (moved, not copied) as `name`. Returns when the job shows the artifact.

        This is `keep` and `publish` in one.

        For a directory, `index` is the file to start with: "hls" with the index "master.m3u8" makes the
        artifact "hls/master.m3u8", and the files beside it are reachable by their names. The same name
        again replaces the artifact. Blocks while Redis or the object storage is unreachable. Raises
        ValueError for a name that does not match `[A-Za-z0-9][A-Za-z0-9._-]*`, OSError.
        """
        artifact = self.keep(name, path, media_type, index=index)
        self.publish(artifact)
        return artifact

    def keep(
        self, name: str, path: Path, media_type: str | None = None, *, index: str | None = None
    ) -> Artifact:
        """Move a finished file, or directory, to where it is served from, as `artifact` does.

        Nobody sees it until `publish`; if the job ends before, it is removed. What takes long is done here,
        and can be canceled.
        """
        self._stop.check()
        if not ARTIFACT_NAME.fullmatch(name) or (index is not None) != path.is_dir():
            raise ValueError(f"not the name of an artifact, or a directory without an index: {name!r}")
        full_name = name if index is None else f"{name}/{index}"
        kind = media_type or media_type_of(full_name)
        size = (path if index is None else path / index).stat().st_size
        self.files.keep(name, path, kind if index is None else "")
        return Artifact(
            name=full_name,
            media_type=kind,
            size=size,
            url=f"/jobs/{self.id}/artifacts/{full_name}",
            attempt=self.attempt,
        )

    def publish(self, artifact: Artifact) -> None:
        """Show an artifact that `keep` returned. Blocks while Redis is unreachable."""
        # Before: what is handed over is shown, also if the job is stopped while this waits for it.
        self.files.published(artifact.name.partition("/")[0])
        self._reports.publish(artifact)

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
        """Run a subprocess for the length of a with-block; see Subprocesses.run. It ends with the job
        (SIGTERM, 2 s later SIGKILL, to its whole process group), and is killed if this process is. With a
        `sandbox` it can touch only what that names, as far as SANDBOX and the kernel go."""
        return self._subprocesses.run(
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
        """Hold cancellation back until the block is left, for steps that must not be interrupted; the next
        call after the block raises. Keep it short: a worker that shuts down waits 4 s at most, and a lost
        lease is not held back at all."""
        return self._stop.shield()

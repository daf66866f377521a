"""video.encode in this process: a real Job with real subprocesses and files, and no store behind it."""

from __future__ import annotations

import secrets
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from headway.contract.files import artifact_key
from headway.contract.keys import JobRef
from headway.contract.local_files import LocalFiles
from headway.contract.records import Artifact
from headway.contract.records import Job as JobRecord
from headway.contract.store import Claim, JobStore
from headway.sdk.attempt_dirs import AttemptDirs
from headway.sdk.job import Job, Level
from headway.sdk.meter import Meter
from headway.sdk.output import Output
from headway.sdk.stopping import Stop
from headway.sdk.subprocesses import Subprocesses
from worker.tasks.video_encode import EncodeParams, encode


@dataclass
class Reports:
    """Keeps what the job reports."""

    logs: list[tuple[str, str]] = field(default_factory=list)
    artifacts: list[Artifact] = field(default_factory=list)

    def log(self, level: Level, message: str) -> None:
        self.logs.append((level, message))

    def publish(self, artifact: Artifact) -> None:
        self.artifacts.append(artifact)

    def send(self, body: str) -> None:
        raise AssertionError(body)

    def save_checkpoint(self, checkpoint: str, read: str = "") -> None:
        raise AssertionError(checkpoint, read)


@dataclass(frozen=True)
class Encoded:
    """What came of it: a result with its files, or an error."""

    result: dict[str, Any]
    error: Exception | None
    logs: list[tuple[str, str]]
    files: dict[str, Path]
    seconds: float

    @property
    def warnings(self) -> list[str]:
        return [message for level, message in self.logs if level == "warning"]


def run_encode(data_dir: Path, **params: Any) -> Encoded:
    """Encode with these parameters; `input` is a reference, as in a submission."""
    stop = Stop()
    dirs = AttemptDirs(data_dir, secrets.token_hex(6), 1)
    output = Output(dirs.work, None, stop)
    subprocesses = Subprocesses(stop, output)
    reports = Reports()
    job: Job[EncodeParams] = Job(
        params=EncodeParams.model_validate(params),
        claim=Claim(JobRef(dirs.job_id, "local", "video"), "1", cast(JobRecord, None), ""),
        dirs=dirs,
        output=output,
        store=cast(JobStore, None),
        files=LocalFiles(data_dir),
        reports=reports,
        meter=Meter(),
        stop=stop,
        subprocesses=subprocesses,
    )
    began = time.monotonic()
    result: dict[str, Any] = {}
    error: Exception | None = None
    try:
        result = encode.function(job)
    except Exception as raised:  # noqa: BLE001
        error = raised
    finally:
        subprocesses.close()
        shutil.rmtree(dirs.work.parent, ignore_errors=True)
    kept = data_dir / artifact_key(dirs.job_id, 1)
    files = {artifact.name: kept / artifact.name for artifact in reports.artifacts}
    return Encoded(result, error, reports.logs, files, time.monotonic() - began)

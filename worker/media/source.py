"""Source: what a job reads, from the reference in its `input`."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISREG
from typing import Annotated, Any

from pydantic import Field

from headway.contract.data_dir import readable_by_jobs
from headway.contract.encoding import displayable
from headway.contract.files import artifact_key, upload_key
from headway.contract.uploads import META, find_upload
from headway.sdk.job import Job
from headway.sdk.stopping import InvalidInput
from worker.media import ffmpeg

MAX_SAMPLE_S = 3600.0
InputRef = Annotated[
    str,
    Field(
        title="Input",
        description=(
            "upload:<id>, artifact:<job id>/<name>, sample:<seconds> (made with ffmpeg's test sources, "
            "with sound) or file:<path below DATA_DIR>."
        ),
        pattern=r"^(upload|artifact|sample|file):[\s\S]+$",
        max_length=1024,
        examples=["sample:10"],
    ),
]


@dataclass(frozen=True, slots=True)
class Source:
    """A file, or (`path` is None) a test picture of `sample_s` seconds."""

    name: str
    """How messages and results call it; says nothing of where it lies."""
    path: Path | None
    sample_s: float = 0

    def arguments(self, options: Sequence[str] = ()) -> list[str]:
        """Return ffmpeg's arguments for this input, with options before it. A sample is two inputs: 0 the
        picture, 1 the sound."""
        if self.path is not None:
            return [*options, *ffmpeg.SAFE, "-i", f"file:{self.path}"]
        picture = f"testsrc2=size=1280x720:rate=30:duration={self.sample_s:g}"
        sound = f"sine=frequency=440:sample_rate=48000:duration={self.sample_s:g}"
        return [*options, "-f", "lavfi", "-i", picture, *options, "-f", "lavfi", "-i", sound]


FETCH = "download"
"""The stage in which an input is brought here."""


def fetching(job: Job[Any], reference: str) -> dict[str, float]:
    """Return the stage, with its weight, that a plan needs before the others: none for an input that is on
    this machine's disk."""
    elsewhere = job.files.kept.free_bytes() is None and reference.startswith(("upload:", "artifact:"))
    return {FETCH: 10} if elsewhere else {}


def resolve(job: Job[Any], reference: str) -> Source:
    """Find what a reference names, and bring it here. Raises InvalidInput; redis.RedisError for
    `artifact:`."""
    kind, _, rest = reference.partition(":")
    resolver = _RESOLVERS.get(kind)
    if resolver is None:
        raise InvalidInput(
            f"an input is one of {', '.join(f'{k}:' for k in _RESOLVERS)} and not {kind[:40]!r}"
        )
    return resolver(job, rest)


def _upload(job: Job[Any], upload_id: str) -> Source:
    upload = job.files.reach(lambda: find_upload(job.files.kept, upload_id))
    # Of another owner's upload one learns nothing, not even that it is there.
    if upload is None or upload.owner != job.owner:
        raise InvalidInput(f"there is no upload {upload_id[:40]!r}")
    # It is kept for UPLOAD_TTL_S after its last use.
    job.files.reach(lambda: job.files.kept.touch(upload_key(upload_id, META)))
    name = displayable(upload.name[:200]) or f"upload:{upload_id}"
    try:
        return Source(name, _fetch(job, upload.keys))
    except FileNotFoundError:
        raise InvalidInput(f"there is no upload {upload_id[:40]!r}") from None


def _artifact(job: Job[Any], rest: str) -> Source:
    job_id, _, name = rest.partition("/")
    other = job.store.get(job_id)
    # Of another owner's job one learns nothing, not even that it is there.
    if other is not None and other.owner == job.owner:
        for artifact in other.artifacts:
            if artifact.name == name:
                with suppress(FileNotFoundError):
                    return Source(name, _fetch(job, [artifact_key(job_id, artifact.attempt, name)]))
    raise InvalidInput(f"there is no artifact {rest[:200]!r}")


def _fetch(job: Job[Any], keys: Sequence[str]) -> Path:
    """Return where the file with these pieces is on this machine; download it if need be. Raises
    FileNotFoundError."""
    local = job.files.kept.local(keys[0]) if len(keys) == 1 else None
    if local is not None:
        return local
    total = sum(entry.size for entry in job.files.find(keys))
    with job.stage(FETCH, total=total, unit="bytes") as stage:
        return job.files.fetch(keys, "input", stage.update)


def _sample(job: Job[Any], rest: str) -> Source:  # noqa: ARG001
    try:
        seconds = float(rest)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds <= MAX_SAMPLE_S:
        raise InvalidInput(
            f"a sample lasts more than 0 and at most {MAX_SAMPLE_S:g} seconds, not {rest[:40]!r}"
        )
    # Shorter than a frame it would be empty.
    return Source(f"sample:{rest}", None, max(seconds, 0.04))


def _file(job: Job[Any], rest: str) -> Source:
    root = job.data_dir.resolve()
    refused = InvalidInput(f"there is no file {rest[:200]!r} that may be read below DATA_DIR")
    try:
        # Symbolic links are followed first: what counts is where the file lies. With a second name it may
        # lie elsewhere, too.
        path = (root / rest).resolve(strict=True)
        found = path.stat()
        if not (
            S_ISREG(found.st_mode) and found.st_nlink == 1 and readable_by_jobs(path.relative_to(root))
        ):
            raise refused
    except (OSError, ValueError, RuntimeError):
        raise refused from None
    return Source(displayable(path.name), path)


_RESOLVERS: dict[str, Callable[[Job[Any], str], Source]] = {
    "upload": _upload,
    "artifact": _artifact,
    "sample": _sample,
    "file": _file,
}

"""The checksum of a file."""

from __future__ import annotations

import hashlib
from typing import Annotated, Literal

from pydantic import Field

from headway import Job, Params, job
from worker.media import ffmpeg
from worker.media.source import InputRef, Source, fetching, resolve

CHUNK = 1024 * 1024


class ChecksumParams(Params):
    input: InputRef
    algorithm: Annotated[
        Literal["sha256", "sha512", "sha1", "md5", "blake2b"],
        Field(title="Algorithm", description="The digest to make."),
    ] = "sha256"


@job("file.checksum", params=ChecksumParams, title="Checksum of a file")
def checksum(job: Job[ChecksumParams]) -> dict[str, str | int]:
    algorithm = job.params.algorithm
    if download := fetching(job, job.params.input):
        with job.plan(**download, checksum=1):
            return digest(job, resolve(job, job.params.input), algorithm)
    source = resolve(job, job.params.input)
    if source.path is not None:
        return digest(job, source, algorithm)
    with job.plan(generate=5, checksum=1):
        return digest(job, generate(job, source), algorithm)


def generate(job: Job[ChecksumParams], source: Source) -> Source:
    """Make a file of a sample; the same each time with the same ffmpeg."""
    path = job.workdir / "sample.mkv"
    command = [*source.arguments(), "-c:v", "mpeg4", "-c:a", "flac", "-threads", "1", "-shortest"]
    with job.stage("generate", total=source.sample_s, unit="s") as stage:
        for tick in ffmpeg.run(job, [*command, "-fflags", "+bitexact", "-flags", "+bitexact", path]):
            stage.update(tick.out_time_s or 0)
    return Source(source.name, path)


def digest(job: Job[ChecksumParams], source: Source, algorithm: str) -> dict[str, str | int]:
    assert source.path is not None  # noqa: S101
    made = hashlib.new(algorithm, usedforsecurity=False)
    done = 0
    with source.path.open("rb", buffering=0) as file:
        size = source.path.stat().st_size
        with job.stage("checksum", total=size, unit="bytes") as stage:
            while chunk := file.read(CHUNK):
                made.update(chunk)
                done += len(chunk)
                stage.update(done)
    return {"algorithm": algorithm, "hexdigest": made.hexdigest(), "size": done}

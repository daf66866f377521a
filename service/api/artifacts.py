"""GET /jobs/{job_id}/artifacts/{name}: the files that jobs made.

DATA_DIR/artifacts/<job>/<attempt>/<name>      put there by the worker
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Annotated

from flask import Response, send_file
from pydantic import Field

from headway.contract.media_types import media_type_of
from headway.contract.records import Job
from service.api.context import context, find_job
from service.api.operation import ANY_TYPE, Answer, Headers, Query, Resource
from service.api.problems import Problem

bp = Resource("artifacts", "Files")

_BINARY = {"type": "string", "format": "binary"}
_FILE = {"application/octet-stream": _BINARY, ANY_TYPE: _BINARY}


class Playing(Query):
    play: Annotated[str | None, Field(description="show it in place, not as an attachment; any value")] = (
        None
    )


class Partly(Headers):
    range: Annotated[str | None, Field(alias="Range", description="the part that is wanted")] = None


@bp.operation(
    "GET",
    "/jobs/<job_id>/artifacts/<path:name>",
    query=Playing,
    headers=Partly,
    answers={
        200: Answer("the file", _FILE, {"ETag": "names these very bytes"}),
        206: Answer("a part of it", _FILE, {"Content-Range": "which part"}),
        304: Answer("unchanged"),
    },
    problems={
        404: "there is no such job, or it has no such artifact",
        416: "the file has no such part",
    },
)
def get_artifact(job_id: str, name: str, query: Playing, headers: Partly) -> Response:  # noqa: ARG001
    """A file that a job made.

    As an attachment, or with `?play=1` to be shown in place. Ranges and ETags work.
    """
    job = Job.model_validate_json(find_job(job_id).document)
    path, media_type = _find(context().settings.data_dir, job, name)
    if path is None:
        raise Problem(404, f"the job has no artifact {name[:200]!r}")
    response = send_file(
        path,
        mimetype=media_type,
        as_attachment=query.play is None,
        download_name=path.name,
        conditional=True,
        etag=True,
        max_age=0,
    )
    # What a job made may be anything: it is never run in the name of this origin.
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Content-Security-Policy"] = "sandbox; default-src 'none'; media-src 'self'"
    return response


def _find(data_dir: Path, job: Job, name: str) -> tuple[Path | None, str]:
    """The file of an artifact, or one beside a playlist that is an artifact in a directory of its own."""
    if "\0" in name:
        return None, ""
    for known in job.artifacts:
        parent = str(PurePosixPath(known.name).parent)
        if name == known.name or (parent != "." and name.startswith(parent + "/")):
            root = data_dir.resolve() / "artifacts" / job.id / str(known.attempt)
            path = (root / name).resolve()
            if not path.is_relative_to(root / parent) or not path.is_file():
                continue
            guessed = media_type_of(name)
            return path, known.media_type if name == known.name else guessed
    return None, ""

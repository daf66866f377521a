"""Uploads in, artifacts out: files below DATA_DIR.

uploads/<id>/data, meta.json          what a client sent; complete or not there at all
artifacts/<job>/<attempt>/<name>      what an attempt made, put there by the worker
"""

from __future__ import annotations

import mimetypes
import re
import secrets
import shutil
from pathlib import Path, PurePosixPath
from typing import Any

from apiflask import APIBlueprint
from flask import Response, request, send_file
from flask.blueprints import BlueprintSetupState
from gevent.fileobject import FileObjectThread
from pydantic import BaseModel
from werkzeug.exceptions import ClientDisconnected, RequestEntityTooLarge
from werkzeug.routing import BaseConverter

from headway.contract.encoding import displayable
from headway.contract.records import Job
from service.api.context import Context, context
from service.api.problems import Problem, job_not_found

bp = APIBlueprint("files", __name__, tag="Files")

CHUNK = 1 << 20
MAX_NAME_CHARS = 255
_MEDIA_TYPE = re.compile(r"[\w.+-]{1,100}/[\w.+-]{1,100}", re.ASCII)


class Upload(BaseModel):
    """An uploaded file; `upload:<id>` is the input of a job."""

    id: str
    name: str
    size: int
    media_type: str


@bp.post("/uploads")
@bp.output(Upload, status_code=201)
@bp.doc(summary="Upload a file: the raw body", responses={413: "too large; nothing was kept"})
def upload() -> Response:
    return _receive(context(), request.args.get("name", "upload"))


class FileName(BaseConverter):
    """The rest of the address, whatever is in it: a file's name may have a line break in it."""

    part_isolating = False
    regex = r"(?s:[^/].*?)"


def _know_file_names(state: BlueprintSetupState) -> None:
    state.app.url_map.converters["filename"] = FileName


bp.record_once(_know_file_names)


@bp.put("/uploads/<filename:name>")
@bp.output(Upload, status_code=201)
@bp.doc(summary="Upload a file under a name", responses={413: "too large; nothing was kept"})
def upload_named(name: str) -> Response:
    return _receive(context(), name)


def _receive(here: Context, name: str) -> Response:
    limit = here.settings.max_upload_bytes
    name = displayable(PurePosixPath(name.replace("\\", "/")).name)
    if not name or name in (".", "..") or len(name) > MAX_NAME_CHARS:
        raise Problem(422, f"a file's name has 1 to {MAX_NAME_CHARS} characters")
    if (request.content_length or 0) > limit:
        raise _too_large(limit)
    upload_id = secrets.token_urlsafe(16)
    media_type = (request.mimetype or "").lower()
    if not _MEDIA_TYPE.fullmatch(media_type) or media_type == "application/x-www-form-urlencoded":
        media_type = mimetypes.guess_type(name)[0] or "application/octet-stream"
    uploads = here.settings.data_dir / "uploads"
    partial = uploads / f".{upload_id}.partial"
    partial.mkdir(parents=True)
    try:
        # Writing a file blocks; in gevent's thread pool it blocks no one else.
        with FileObjectThread(str(partial / "data"), "wb", buffering=0) as out:
            size = _copy(out, limit)
        meta = Upload(id=upload_id, name=name, size=size, media_type=media_type)
        (partial / "meta.json").write_text(meta.model_dump_json())
        partial.rename(uploads / upload_id)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return Response(meta.model_dump_json(), 201, {"Cache-Control": "no-store"}, mimetype="application/json")


def _copy(out: Any, limit: int) -> int:
    request.max_content_length = limit
    size = 0
    try:
        while chunk := request.stream.read(CHUNK):
            size += len(chunk)
            if size > limit:
                raise _too_large(limit)
            out.write(chunk)
    except RequestEntityTooLarge:
        raise _too_large(limit) from None
    except (ClientDisconnected, OSError) as error:
        raise Problem(400, f"the body ended early; nothing was kept ({error})") from None
    if request.content_length is not None and size != request.content_length:
        raise Problem(400, f"the body ended after {size} of {request.content_length} bytes")
    return size


def _too_large(limit: int) -> Problem:
    return Problem(413, f"the file is larger than {limit} bytes; nothing was kept")


@bp.get("/jobs/<job_id>/artifacts/<path:name>")
@bp.doc(
    summary="An artifact's bytes",
    description="As an attachment, or with `?play=1` to be shown in place. Ranges and ETags work.",
    responses={200: "the file", 206: "a part of it", 304: "unchanged", 404: "no such job or artifact"},
)
def artifact(job_id: str, name: str) -> Response:
    here = context()
    document = here.store.documents([job_id])[0]
    if document is None:
        raise job_not_found(job_id)
    path, media_type = _find(here.settings.data_dir, Job.model_validate_json(document), name)
    if path is None:
        raise Problem(404, f"the job has no artifact {name[:200]!r}")
    response = send_file(
        path,
        mimetype=media_type,
        as_attachment="play" not in request.args,
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
    for known in job.artifacts:
        parent = str(PurePosixPath(known.name).parent)
        if name == known.name or (parent != "." and name.startswith(parent + "/")):
            root = data_dir.resolve() / "artifacts" / job.id / str(known.attempt)
            path = (root / name).resolve()
            if not path.is_relative_to(root / parent) or not path.is_file():
                continue
            guessed = mimetypes.guess_type(name)[0] or "application/octet-stream"
            return path, known.media_type if name == known.name else guessed
    return None, ""

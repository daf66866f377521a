"""POST /uploads and PUT /uploads/{name}: the inputs of jobs.

DATA_DIR/uploads/<id>/data, meta.json     what a client sent, complete, or not there at all
"""

from __future__ import annotations

import secrets
import shutil
from pathlib import PurePosixPath
from typing import Annotated

from flask import Response, request
from flask.blueprints import BlueprintSetupState
from pydantic import BaseModel, Field
from werkzeug.routing import BaseConverter

from headway.contract.data_dir import UPLOADS
from headway.contract.encoding import displayable, dumps
from headway.contract.uploads import find_upload
from service.api.context import Context, caller, context
from service.api.file_body import check_room, media_type, receive
from service.api.operation import Answer, Query, Resource, json_answer
from service.api.problems import Problem
from service.api.upload_quota import quota_used
from service.scheduling.sweeper import remove_tree

bp = Resource("uploads", "Files")

MAX_UPLOAD_BYTES = "MAX_UPLOAD_BYTES"
"""The setting."""
MAX_NAME_CHARS = 255


class Upload(BaseModel):
    """An uploaded file; `upload:<id>` is the input of a job."""

    id: str
    name: str
    size: int
    media_type: str


class Naming(Query):
    name: Annotated[str, Field(description="the file's name", min_length=1)] = "upload"


_ANSWERS = {201: Answer.json("the file is kept", Upload)}
_PROBLEMS = {
    400: "the body ended early; nothing was kept",
    408: "the body came too slowly; nothing was kept",
    413: "the file is larger than MAX_UPLOAD_BYTES; nothing was kept",
    422: "the name is not valid; nothing was kept",
    507: "the disk is full, or nearly, or the owner's quota is used; nothing was kept",
}


@bp.operation("POST", "/uploads", _ANSWERS, _PROBLEMS, query=Naming, upload=True, store=False)
def upload(query: Naming) -> Response:
    """Upload a file as the raw body."""
    return _receive(context(), query.name)


class FileName(BaseConverter):
    """The rest of the address, whatever is in it: a file's name may have a line break in it."""

    part_isolating = False
    regex = r"(?s:[^/].*?)"


def _know_file_names(state: BlueprintSetupState) -> None:
    state.app.url_map.converters["filename"] = FileName


bp.record_once(_know_file_names)


@bp.operation("PUT", "/uploads/<filename:name>", _ANSWERS, _PROBLEMS, upload=True, store=False)
def upload_named(name: str) -> Response:
    """Upload a file under a name, as the raw body."""
    return _receive(context(), name)


def _receive(here: Context, name: str) -> Response:
    name = displayable(PurePosixPath(name.replace("\\", "/")).name)
    if not name or name in (".", "..") or len(name) > MAX_NAME_CHARS:
        raise Problem(422, f"a file's name has 1 to {MAX_NAME_CHARS} characters")
    upload_id = secrets.token_urlsafe(16)
    uploads = here.settings.data_dir / UPLOADS
    partial = uploads / f".{upload_id}.partial"
    try:
        check_room(here.settings, MAX_UPLOAD_BYTES)
        with here.upload_quota.reserve(caller().owner, request.content_length) as room:
            quota = None if room is None else (room, quota_used(here.settings.upload_quota_bytes))
            size = receive(partial / "data", here.settings, MAX_UPLOAD_BYTES, quota)
            made = Upload(id=upload_id, name=name, size=size, media_type=media_type(name))
            meta = dumps({**made.model_dump(), "owner": caller().owner})
            (partial / "meta.json").write_text(meta)
            # Until here its room is held; from here on it is found among the uploads.
            partial.rename(uploads / upload_id)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return json_answer(made.model_dump_json(), 201)


@bp.operation(
    "DELETE",
    "/uploads/<upload_id>",
    answers={204: Answer("the upload is removed")},
    problems={404: "there is no such upload"},
    store=False,
)
def delete_upload(upload_id: str) -> Response:
    """Remove an upload. A job that still needs it fails."""
    found = find_upload(context().settings.data_dir, upload_id)
    if found is None or not caller().owns(found.owner):
        raise Problem(404, f"there is no upload {upload_id[:64]!r}")
    remove_tree(found.directory)
    return Response(status=204)

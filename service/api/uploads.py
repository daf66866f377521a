"""/uploads: the inputs of jobs, in one piece or, by tus, in parts."""

from __future__ import annotations

import secrets
from contextlib import suppress
from typing import Annotated, Literal

from flask import Response, request
from flask.blueprints import BlueprintSetupState
from pydantic import Field
from werkzeug.routing import BaseConverter

from headway.contract.files import upload_key
from headway.contract.uploads import DATA, complete_upload
from service.api import tus
from service.api.context import Context, caller, context
from service.api.file_body import answering_full, check_room, media_type, receive
from service.api.inputs import visible_upload
from service.api.operation import Answer, Headers, Query, Resource, json_answer
from service.api.pieces import Pieces
from service.api.problems import Problem
from service.api.upload import MAX_UPLOAD_BYTES, Upload, file_name
from service.api.upload_quota import quota_used

bp = Resource("uploads", "Files")


class Naming(Query):
    name: Annotated[str, Field(description="the file's name", min_length=1)] = "upload"


class SendingByTus(Headers):
    tus: Annotated[
        str | None, Field(alias="Tus-Resumable", description="1.0.0: this speaks tus (docs/uploads.md)")
    ] = None


class Overriding(Headers):
    method: Annotated[
        Literal["PATCH", "DELETE"], Field(alias="X-HTTP-Method-Override", description="what is meant")
    ]


_ANSWERS = {201: Answer.json("the file is kept", Upload, Location="the upload's path")}
_PROBLEMS = {
    400: "the body ended early, or its chunks cannot be read; nothing was kept",
    408: "the body came too slowly; nothing was kept",
    413: "the file is larger than MAX_UPLOAD_BYTES; nothing was kept",
    415: "the body is a form with the file in it, not the file; nothing was kept",
    422: "the name is not valid; nothing was kept",
    503: "the object storage cannot be reached; nothing was kept",
    507: "the disk is full, or nearly, or the owner's quota is used; nothing was kept",
}


_PATCH_PROBLEMS = {
    **{status: problem for status, problem in _PROBLEMS.items() if status not in (408, 422)},
    400: "the body broke off, and what came of it is kept; or a header is not valid",
    404: "there is no such upload that is coming in",
    409: "the upload is at another offset, another request sends it now, or the body came too slowly "
    "and what came of it is kept",
    410: "a part of it was lost; begin it anew",
    412: "it speaks another version of tus",
    415: "the body is not application/offset+octet-stream",
    460: "the checksum does not fit; nothing of this request was kept",
    503: "Redis or the object storage cannot be reached",
}


@bp.operation(
    "POST",
    "/uploads",
    {
        201: Answer.json(
            "the file is kept; by tus, with no body, that its upload has begun",
            Upload,
            Location="the upload's path",
        )
    },
    {
        **_PROBLEMS,
        412: "it speaks another version of tus",
        460: "the checksum does not fit",
        503: "Redis or the object storage cannot be reached, or Redis is nearly full; nothing was kept",
    },
    query=Naming,
    headers=SendingByTus,
    upload=True,
    store=False,
)
def upload(query: Naming, headers: SendingByTus) -> Response:  # noqa: ARG001
    """Upload a file as the raw body.

    With the header `Tus-Resumable: 1.0.0` it begins an upload by tus 1.0, which goes on where it broke off.
    """
    if tus.is_spoken():
        return tus.create(query.name)
    return _receive(context(), query.name)


bp.before_request(tus.check_version)
bp.after_request(tus.add_headers)


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
    name = file_name(name)
    upload_id = secrets.token_urlsafe(16)
    try:
        check_room(here.files, here.settings, MAX_UPLOAD_BYTES, request.content_length)
        with (
            answering_full(),
            here.upload_quota.reserve(caller().owner, request.content_length) as room,
        ):
            quota = None if room is None else (room, quota_used(here.settings.upload_quota_bytes))
            out = Pieces(here.files, upload_key(upload_id, DATA))
            size = receive(out, here.files, here.settings, MAX_UPLOAD_BYTES, quota)
            out.flush()
            here.upload_quota.check(caller().owner, size)
            made = Upload(id=upload_id, name=name, size=size, media_type=media_type(name))
            # Until here its room is held; from here on it is found among the uploads.
            complete_upload(here.files, made.model_dump(), caller().owner, out.names, caller().scope)
    except BaseException:
        # What cannot be removed now, the sweeper removes when it is old.
        with suppress(OSError):
            here.files.remove(upload_key(upload_id))
        raise
    return json_answer(made.model_dump_json(), 201, {"Location": f"/uploads/{upload_id}"})


@bp.operation(
    "GET",
    "/uploads/<upload_id>",
    answers={
        200: Answer.json(
            "the upload; by HEAD, how far it is",
            Upload,
            **{"Upload-Offset": "how many bytes have come", "Upload-Length": "how many it will have"},
        ),
    },
    problems={
        404: "there is no such upload",
        410: "a part of it was lost; begin it anew",
        503: "Redis or the object storage cannot be reached",
    },
)
def get_upload(upload_id: str) -> Response:
    """An upload, complete or still coming in."""
    here, who = context(), caller()
    coming = tus.incoming(here, upload_id)
    if coming is not None and coming.offset < coming.length:
        made = Upload(id=coming.id, name=coming.name, size=coming.length, media_type=coming.media_type)
        return json_answer(made.model_dump_json(), headers=tus.describe(coming))
    if coming is not None:
        # All has come, and whoever took the last of it ended before it could say so, or is about to.
        with tus.answering(here, who.owner, coming):
            tus.finish(here, who.owner, coming)
    found = visible_upload(here, upload_id)
    if found is None:
        raise _not_found(upload_id)
    made = Upload(id=found.id, name=found.name, size=found.size, media_type=found.media_type)
    headers = {"Upload-Offset": str(made.size), "Upload-Length": str(made.size)}
    if found.metadata:
        headers["Upload-Metadata"] = found.metadata
    return json_answer(made.model_dump_json(), headers=headers)


@bp.operation(
    "PATCH",
    "/uploads/<upload_id>",
    answers={
        204: Answer(
            "it is kept", {}, {"Upload-Offset": "how many bytes have come", "Upload-Expires": "when"}
        )
    },
    problems=_PATCH_PROBLEMS,
    upload=True,
)
def patch_upload(upload_id: str) -> Response:
    """Send the next part of an upload, by tus 1.0."""
    return tus.patch(upload_id)


@bp.operation(
    "POST",
    "/uploads/<upload_id>",
    answers={204: Answer("it is done", {}, {"Upload-Offset": "how many bytes have come"})},
    problems=_PATCH_PROBLEMS,
    headers=Overriding,
    upload=True,
)
def override_upload(upload_id: str, headers: Overriding) -> Response:
    """Send the next part of an upload, or remove it, where no PATCH or DELETE comes through."""
    return patch_upload(upload_id) if headers.method == "PATCH" else delete_upload(upload_id)


@bp.operation(
    "DELETE",
    "/uploads/<upload_id>",
    answers={204: Answer("the upload is removed")},
    problems={404: "there is no such upload", 503: "Redis or the object storage cannot be reached"},
)
def delete_upload(upload_id: str) -> Response:
    """Remove an upload. A job that still needs it fails."""
    here = context()
    found = visible_upload(here, upload_id)
    if found is None:
        # One that is still coming in is known to the store alone.
        owner = caller().owner
        coming = tus.incoming(here, upload_id)
        if coming is None:
            raise _not_found(upload_id)
        tus.remove(here, owner, coming)
    else:
        here.files.remove(upload_key(upload_id))
    return Response(status=204)


def _not_found(upload_id: str) -> Problem:
    return Problem(404, f"there is no upload {upload_id[:64]!r}")

"""GET /jobs/{job_id}/artifacts/{name}: the files that jobs made."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import Annotated

from flask import Response, request, send_file
from pydantic import Field
from werkzeug.wsgi import FileWrapper

from headway.contract.files import Entry, FileChanged, Files, artifact_key
from headway.contract.media_types import media_type_of
from headway.contract.records import Job
from service.api.context import context, find_job
from service.api.operation import ANY_TYPE, Answer, Headers, Query, Resource
from service.api.problems import Problem

bp = Resource("artifacts", "Files")

ADDRESS_S = 60
"""How long an address of the object storage is good for: until the download has begun."""
CHUNK = 1 << 18
PLAYLISTS = frozenset({".m3u8", ".mpd"})
"""What names other files relative to its own address, which must be the one here."""
EMBEDDED = frozenset({"audio", "empty", "image", "track", "video"})
"""What a browser says it wants a file for (Sec-Fetch-Dest) that it would not take as an attachment; for
these the storage's headers do not matter."""

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
        302: Answer("it is in an object storage, at this address for a minute", {}, {"Location": "where"}),
        206: Answer("a part of it", _FILE, {"Content-Range": "which part"}),
        304: Answer("unchanged"),
    },
    problems={
        404: "there is no such job, or it has no such artifact",
        503: "Redis or the object storage cannot be reached",
        412: "it is not the file of If-Match",
        416: "the file has no such part",
    },
)
def get_artifact(job_id: str, name: str, query: Playing, headers: Partly) -> Response:  # noqa: ARG001
    """A file that a job made.

    As an attachment, or with `?play=1` to be shown in place. Ranges and ETags work. A service whose
    files are in an object storage may send the client there (302).
    """
    here = context()
    job = Job.model_validate_json(find_job(job_id).document)
    found, media_type = _find(here.files, job, name)
    if found is None:
        raise Problem(404, f"the job has no artifact {name[:200]!r}")
    if here.settings.files_redirect and _may_redirect(name, shown=query.play is not None):
        address = here.files.address(found.key, ADDRESS_S)
        if address is not None:
            # To be kept for less than the address is good for.
            kept = f"private, max-age={ADDRESS_S // 2}"
            there = {"Location": address, "Cache-Control": kept, "Referrer-Policy": "no-referrer"}
            return Response(status=302, headers=there)
    return _send(here.files, found, media_type, shown=query.play is not None)


def _may_redirect(name: str, *, shown: bool) -> bool:
    if request.method != "GET" or PurePosixPath(name).suffix.lower() in PLAYLISTS:
        return False
    # The storage has it as an attachment.
    return not shown or request.headers.get("Sec-Fetch-Dest") in EMBEDDED


def _send(files: Files, found: Entry, media_type: str, *, shown: bool) -> Response:
    try:
        file = files.open(found)
    except FileNotFoundError:
        raise FileChanged(f"{found.key} was removed just now") from None
    response = send_file(
        file,
        mimetype=media_type,
        as_attachment=not shown,
        download_name=PurePosixPath(found.key).name,
        conditional=False,
        etag=False,
        max_age=0,
    )
    if files.local(found.key) is None or "Range" in request.headers:
        # The server's own wrapper, which can send whole files faster, does not seek.
        response.response = FileWrapper(file, CHUNK)
    response.content_length = found.size
    response.last_modified = datetime.fromtimestamp(int(found.modified), UTC)
    response.set_etag(found.etag)
    # The conditions come first: Range counts only if they lead to a 200 (RFC 9110, 13.2.2).
    response.make_conditional(request)
    if response.status_code == 412:
        response.close()
        raise Problem(412, "the file is not, or no longer, the one of If-Match")
    if response.status_code == 200:
        # A Range in other units, of several parts, or that cannot be read is ignored.
        wanted = request.range  # None if it cannot be read
        one_part = wanted is not None and wanted.units == "bytes" and len(wanted.ranges) == 1
        response.make_conditional(
            request, accept_ranges=True, complete_length=found.size if one_part else None
        )
    # What a job made may be anything: it is never run in the name of this origin.
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Content-Security-Policy"] = "sandbox; default-src 'none'; media-src 'self'"
    return response


def _find(files: Files, job: Job, name: str) -> tuple[Entry | None, str]:
    """The file of an artifact, or one beside a playlist that is an artifact in a directory of its own."""
    for known in job.artifacts:
        parent = str(PurePosixPath(known.name).parent)
        if name == known.name or (parent != "." and name.startswith(parent + "/")):
            found = files.head(artifact_key(job.id, known.attempt, name))
            if found is not None:
                return found, known.media_type if name == known.name else media_type_of(name)
    return None, ""

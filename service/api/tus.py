"""tus 1.0 (https://tus.io/protocols/resumable-upload): uploads that go on where they broke off.

The core, with creation, creation-with-upload, termination, checksum and expiration. The offset is in the
store and the bytes are among the files, so any web process goes on with what another has begun.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import logging
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from email.utils import formatdate

import redis
from flask import Response, request

from headway.contract.files import PartLost, upload_key
from headway.contract.media_types import media_type_of
from headway.contract.resumable import MAX_PIECES, Coming, UploadGone, UploadMoved, WriterReplaced
from headway.contract.uploads import DATA, ID, complete_upload
from service.api.context import Context, caller, context
from service.api.file_body import MEDIA_TYPE, answering_full, check_room, receive
from service.api.pieces import Pieces
from service.api.problems import BodyBroken, Problem
from service.api.submissions import refuse_when_full
from service.api.upload import MAX_UPLOAD_BYTES, Upload, file_name

log = logging.getLogger(__name__)

VERSION = "1.0.0"
ALGORITHMS = ("sha1", "sha256", "md5")
EXTENSIONS = "creation,creation-with-upload,termination,checksum,expiration"
OFFSET_STREAM = "application/offset+octet-stream"
MAX_METADATA_CHARS = 8192
NOT_KEPT = "nothing of this request was kept"
KEPT_EVERY_S = 5.0
"""Seconds after which a piece is kept though it is not full: on a slow connection it takes long to fill,
and what is not kept is lost with the connection."""


def check_version() -> None:
    """Refuse a request that speaks another version of tus: raises Problem (412)."""
    if request.headers.get("Tus-Resumable", VERSION) != VERSION and request.method != "OPTIONS":
        raise Problem(412, f"this service speaks tus {VERSION}", headers={"Tus-Version": VERSION})


def is_spoken() -> bool:
    """Return whether the request speaks tus."""
    return "Tus-Resumable" in request.headers


def add_headers(response: Response) -> Response:
    """Say in an answer, to a request that speaks tus or asks for options, what is spoken here."""
    if request.method == "OPTIONS":
        response.headers["Tus-Version"] = VERSION
        response.headers["Tus-Extension"] = EXTENSIONS
        response.headers["Tus-Max-Size"] = str(context().settings.max_upload_bytes)
        response.headers["Tus-Checksum-Algorithm"] = ",".join(ALGORITHMS)
    if request.method == "OPTIONS" or is_spoken():
        response.headers["Tus-Resumable"] = VERSION
    return response


def create(name: str) -> Response:
    """Begin an upload of which the length is known, and take what the request has of it. `name` is what it
    is called unless its metadata says so."""
    here, owner = context(), caller().owner
    length = _number("Upload-Length")
    metadata = request.headers.get("Upload-Metadata", "")
    told = _metadata(metadata)
    name = file_name(told.get("filename") or told.get("name") or name)
    said = (told.get("filetype") or told.get("type") or "").lower()
    kind = said if MEDIA_TYPE.fullmatch(said) else media_type_of(name)
    check_room(here.files, here.settings, MAX_UPLOAD_BYTES, length)
    # Its metadata is in the store, and may be far larger than the file.
    refuse_when_full(here)
    new = Coming(secrets.token_urlsafe(16), length, 0, name, kind, metadata, 0, caller().scope)
    with here.upload_quota.reserve(owner, length):
        # From here on it counts as one that is coming in.
        expires_ms = here.store.resumable.create(owner, new, here.settings.upload_ttl_s)
    headers = {"Location": f"/uploads/{new.id}", "Upload-Expires": _date(expires_ms)}
    try:
        with answering(here, owner, new):
            if request.mimetype == OFFSET_STREAM and request.content_length != 0:
                headers |= _take(here, new)
            elif length == 0:
                finish(here, owner, new)
    except BaseException:
        # Its client never learns its address. If it cannot be removed now, it is once it has expired.
        with suppress(OSError, redis.RedisError):
            remove(here, owner, new)
        raise
    return Response(status=201, headers={"Cache-Control": "no-store", **headers})


def describe(coming: Coming) -> dict[str, str]:
    """Return the headers that say how far an upload is."""
    found = {
        "Upload-Offset": str(coming.offset),
        "Upload-Length": str(coming.length),
        "Upload-Expires": _date(coming.expires_ms),
        "Cache-Control": "no-store",
    }
    return {**found, "Upload-Metadata": coming.metadata} if coming.metadata else found


def incoming(here: Context, upload_id: str) -> Coming | None:
    """Return an upload of the caller's that is coming in, or None if there is none with this id."""
    found = here.store.resumable.get(caller().owner, upload_id) if ID.fullmatch(upload_id) else None
    return found if found is not None and caller().opens(found.groups) else None


def patch(upload_id: str) -> Response:
    """Take the next part of an upload."""
    here = context()
    coming = incoming(here, upload_id)
    if coming is None:
        raise unknown(upload_id)
    if request.mimetype != OFFSET_STREAM:
        raise Problem(415, f"the body must be {OFFSET_STREAM}; set Content-Type")
    offset = _number("Upload-Offset")
    if coming.offset != offset:
        raise _moved(coming.offset)
    with answering(here, caller().owner, coming):
        return Response(status=204, headers=_take(here, coming))


def remove(here: Context, owner: str, coming: Coming) -> None:
    """Remove an upload that is not complete."""
    here.store.resumable.forget(owner, coming)
    here.files.remove(upload_key(coming.id))


def unknown(upload_id: str) -> Problem:
    return Problem(404, f"there is no upload {upload_id[:64]!r}, or none that is coming in")


def finish(here: Context, owner: str, coming: Coming) -> None:
    """Make an upload that has come whole usable as an input. Does nothing if another request has done so,
    or has removed it. Raises PartLost."""
    try:
        pieces = here.store.resumable.pieces(owner, coming.id)
    except UploadGone:
        return
    key = upload_key(coming.id, DATA)
    if not coming.length:
        pieces = [here.files.add(key, 0, b"", "0")]
    if here.files.size(key, pieces) != coming.length:
        raise PartLost(f"{key} does not have {coming.length} bytes")
    made = Upload(id=coming.id, name=coming.name, size=coming.length, media_type=coming.media_type)
    complete_upload(
        here.files, {**made.model_dump(), "metadata": coming.metadata}, owner, pieces, coming.groups
    )
    here.store.resumable.forget(owner, coming)


def _take(here: Context, coming: Coming) -> dict[str, str]:
    """Take the request's body as the next part. What came of a body that breaks off counts, unless there is
    a checksum. Returns headers that say how far the upload is."""
    settings, owner = here.settings, caller().owner
    checksum = _checksum()
    left = coming.length - coming.offset
    if (request.content_length or 0) > left:
        raise Problem(413, f"the upload has {left} bytes left; {NOT_KEPT}")
    if checksum is not None and left > MAX_PIECES * here.files.piece_bytes:
        raise Problem(413, f"a part with a checksum may be too large for this upload; {NOT_KEPT}")
    check_room(here.files, settings, MAX_UPLOAD_BYTES, request.content_length)
    token = secrets.token_hex(8)
    here.store.resumable.begin(owner, coming.id, coming.offset, token, settings.upload_ttl_s)
    out = _Part(here, owner, coming, token, checksum)
    try:
        with answering_full():
            receive(
                out,
                here.files,
                settings,
                MAX_UPLOAD_BYTES,
                (left, Problem(413, f"it has {left} bytes left")),
            )
            out.flush()
    except BodyBroken as broken:
        if checksum is None:
            out.flush()
            out.count()
        else:
            out.discard()
        # tus-js-client and Uppy take a 408 for the end, and ask after a 409 where to go on.
        raise Problem(
            409 if broken.status == 408 else 400,
            f"{broken.reason}; the upload is at the offset {out.counted}",
            headers={"Upload-Offset": str(out.counted)},
        ) from None
    except Problem:
        out.discard()
        raise
    if checksum is not None and not checksum():
        out.discard()
        raise Problem(460, f"the bytes do not have the checksum of Upload-Checksum; {NOT_KEPT}")
    expires_ms = out.count()
    if out.counted == coming.length:
        finish(here, owner, coming)
    return {"Upload-Offset": str(out.counted), "Upload-Expires": _date(expires_ms)}


class _Part(Pieces):
    """What one request brings. Each piece counts as soon as it is kept, or all at the end if there is a
    checksum that must fit first."""

    def __init__(
        self, here: Context, owner: str, coming: Coming, token: str, checksum: Callable[..., bool] | None
    ) -> None:
        super().__init__(here.files, upload_key(coming.id, DATA), coming.offset, token)
        self._here = here
        self._owner = owner
        self._id = coming.id
        self._checksum = checksum
        self._kept_at = time.monotonic()
        self.counted = coming.offset
        self._names_counted = 0
        """How many of the names count already."""

    def write(self, data: bytes) -> None:
        if self._checksum is not None:
            self._checksum(data)
        super().write(data)
        if self._checksum is None and time.monotonic() - self._kept_at > KEPT_EVERY_S:
            self.flush()

    def _add(self, piece: bytes) -> None:
        with self._files.exclusive(self._key):
            # Another writer may have come, and what it has written must stay.
            self._advance(0, [])
            super()._add(piece)
            if self._checksum is None:
                self.count()
        self._kept_at = time.monotonic()

    def flush(self) -> None:
        if self._unsent:
            super().flush()

    def count(self) -> float:
        """Let what is kept count. Returns when the upload expires, in ms since 1970."""
        names = [name for name in self.names[self._names_counted :] if name]
        expires_ms = self._advance(self.offset - self.counted, names)
        self._names_counted, self.counted = len(self.names), self.offset
        return expires_ms

    def _advance(self, size: int, names: list[str]) -> float:
        ttl_s = self._here.settings.upload_ttl_s
        store = self._here.store.resumable
        return store.advance(self._owner, self._id, self.counted, self._mark, size, names, ttl_s)

    def discard(self) -> None:
        """Remove what does not count, where it lies apart. Elsewhere the next part is written over it."""
        for name in self.names[self._names_counted :]:
            if name:
                with suppress(OSError):
                    self._files.remove(f"{self._key}/{name}")


@contextmanager
def answering(here: Context, owner: str, coming: Coming) -> Iterator[None]:
    """Turn what the store and the files raise in the block into a Problem. An upload of which a part is
    lost is removed (410)."""
    try:
        yield
    except UploadMoved as moved:
        raise _moved(moved.offset) from None
    except WriterReplaced:
        raise Problem(409, "another request sends this upload now") from None
    except UploadGone:
        raise unknown(coming.id) from None
    except PartLost as lost:
        log.warning("upload %s is removed, as a part of it is lost: %s", coming.id, lost)
        remove(here, owner, coming)
        raise Problem(410, "a part of the upload that had come is lost; begin it anew") from None


def _moved(offset: int) -> Problem:
    return Problem(409, f"the upload is at the offset {offset}", headers={"Upload-Offset": str(offset)})


def _number(header: str) -> int:
    text = request.headers.get(header, "")
    if not (text.isascii() and text.isdigit() and len(text) < 16):
        raise Problem(400, f"{header} must be a number of bytes; the upload's length must be known")
    return int(text)


def _metadata(header: str) -> dict[str, str]:
    """Read Upload-Metadata: names and values in Base64, by commas. Raises Problem (400)."""
    found = {}
    if len(header) > MAX_METADATA_CHARS:
        raise Problem(400, f"Upload-Metadata has more than {MAX_METADATA_CHARS} characters")
    for pair in filter(None, (part.strip() for part in header.split(","))):
        name, _, value = pair.partition(" ")
        try:
            found[name] = base64.b64decode(value, validate=True).decode("utf-8", "replace")
        except (binascii.Error, ValueError):
            raise Problem(400, f"Upload-Metadata: the value of {name[:40]!r} is not Base64") from None
    return found


def _checksum() -> Callable[..., bool] | None:
    """Return what takes the bytes, and says whether they have the checksum that the request announces; None
    if it announces none. Raises Problem (400)."""
    header = request.headers.get("Upload-Checksum")
    if header is None:
        return None
    name, _, value = header.partition(" ")
    try:
        wanted = base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        wanted = b""
    if name not in ALGORITHMS or len(wanted) != hashlib.new(name, usedforsecurity=False).digest_size:
        raise Problem(400, f"Upload-Checksum is one of {', '.join(ALGORITHMS)} and a digest in Base64")
    made = hashlib.new(name, usedforsecurity=False)

    def check(data: bytes = b"") -> bool:
        made.update(data)
        return made.digest() == wanted

    return check


def _date(ms: float) -> str:
    return formatdate(ms / 1000, usegmt=True)

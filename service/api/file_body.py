"""A request's body that is a file: uploads, and what workers publish over HTTP."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from flask import request

from headway.contract.files import Files
from headway.contract.media_types import media_type_of
from headway.contract.settings import Settings
from service.api.problems import BodyBroken, Problem, reading_body
from service.api.room import lacks_room

CHUNK = 1 << 16
"""Bytes read at a time. Less than that is lost if the connection breaks meanwhile."""
ROOM_EVERY = 4 << 20
"""Bytes after which a body's room on the disk is looked at again."""
MEDIA_TYPE = re.compile(r"[\w.+-]{1,100}/[\w.+-]{1,100}", re.ASCII)
_FULL = (errno.ENOSPC, errno.EDQUOT)


def media_type(name: str) -> str:
    """Return what the body is: as the request says, or by its name if that is no media type, or only what
    curl says of any body."""
    said = (request.mimetype or "").lower()
    known = MEDIA_TYPE.fullmatch(said) and said != "application/x-www-form-urlencoded"
    return said if known else media_type_of(name)


class Out(Protocol):
    """What a body is written to."""

    def write(self, data: bytes) -> object: ...


def check_room(files: Files, settings: Settings, limit: str, announced: int | None) -> None:
    """Check that the announced body is not larger than the setting `limit` allows, or than the disk has
    room for. Raises Problem (413, 507)."""
    announced = announced or 0
    if announced > _bytes(settings, limit):
        raise _too_large(settings, limit)
    if lacks_room(files, settings.min_free_bytes, announced):
        raise Problem(507, "the service's disk is nearly full; nothing was kept; try again later")


@contextmanager
def answering_full() -> Iterator[None]:
    """Turn the OSError of a full disk in the block into a Problem (507)."""
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise Problem(507, "the service's disk is full; nothing was kept; try again later") from None


def receive(
    out: Out, files: Files, settings: Settings, limit: str, quota: tuple[int, Problem] | None = None
) -> int:
    """Write the request's body to `out`. Returns the size in bytes.

    Raises Problem for a body that is a form with the file in it (415), is larger than the setting `limit`
    allows (413) or than the bytes of `quota` (its problem), ends early or has broken chunks (400), comes
    too slowly (408), or of which the disk has no room for more (507). An OSError is that of `out`. What
    was written by then is left to the caller.
    """
    if request.mimetype == "multipart/form-data":
        raise Problem(
            415,
            "the body is a form (multipart/form-data); send the file itself as the body, as "
            "curl --data-binary does; nothing was kept",
        )
    # One byte more, or a body of just that size would be refused as its end is read.
    request.max_content_length = _bytes(settings, limit) + 1
    size, looked_at = 0, 0
    while chunk := _read(_too_large(settings, limit)):
        size += len(chunk)
        if size > _bytes(settings, limit):
            raise _too_large(settings, limit)
        if quota is not None and size > quota[0]:
            raise quota[1]
        if size - looked_at > ROOM_EVERY:
            # It may not have announced its size, and others come in at the same time.
            check_room(files, settings, limit, None)
            looked_at = size
        out.write(chunk)
    if request.content_length is not None and size != request.content_length:
        raise BodyBroken(
            400, f"the body ended after {size} of {request.content_length} bytes", "nothing was kept"
        )
    return size


def _read(too_large: Problem) -> bytes:
    with reading_body("nothing was kept", too_large):
        return request.stream.read(CHUNK)


def _too_large(settings: Settings, limit: str) -> Problem:
    return Problem(
        413, f"the file is larger than {_bytes(settings, limit)} bytes ({limit}); nothing was kept"
    )


def _bytes(settings: Settings, limit: str) -> int:
    found: int = getattr(settings, limit.lower())
    return found

"""A request's body that is a file: uploads, and what workers publish over HTTP."""

from __future__ import annotations

import errno
import re
from pathlib import Path
from typing import Any

from flask import request
from gevent.fileobject import FileObjectThread
from werkzeug.exceptions import ClientDisconnected, RequestEntityTooLarge

from headway.contract.media_types import media_type_of
from headway.contract.settings import Settings
from service.api.problems import Problem, cut_off
from service.api.room import lacks_room

CHUNK = 1 << 20
_MEDIA_TYPE = re.compile(r"[\w.+-]{1,100}/[\w.+-]{1,100}", re.ASCII)
_FULL = (errno.ENOSPC, errno.EDQUOT)


def media_type(name: str) -> str:
    """Return what the body is: as the request says, or by its name if that is no media type, or only what
    curl says of any body."""
    said = (request.mimetype or "").lower()
    known = _MEDIA_TYPE.fullmatch(said) and said != "application/x-www-form-urlencoded"
    return said if known else media_type_of(name)


def check_room(settings: Settings, limit: str) -> None:
    """Raises Problem if the body is announced as larger than the setting `limit` allows (413), or than the
    disk has room for (507)."""
    announced = request.content_length or 0
    if announced > _bytes(settings, limit):
        raise _too_large(settings, limit)
    if lacks_room(settings.data_dir, settings.min_free_bytes, announced):
        raise Problem(507, "the service's disk is nearly full; nothing was kept; try again later")


def receive(path: Path, settings: Settings, limit: str, quota: tuple[int, Problem] | None = None) -> int:
    """Write the request's body to a new file, making its directory. Returns the size in bytes.

    Raises Problem for a body that is larger than the setting `limit` allows (413) or than the bytes of
    `quota` (its problem), that ends early (400) or comes too slowly (408), and if the disk is full (507).
    What was written by then is left to the caller.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Writing a file blocks; in gevent's thread pool it blocks no one else.
        with FileObjectThread(str(path), "wb", buffering=0) as out:
            return _copy(out, settings, limit, quota)
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise Problem(507, "the service's disk is full; nothing was kept; try again later") from None


def _copy(out: Any, settings: Settings, limit: str, quota: tuple[int, Problem] | None) -> int:
    """Write the body. An OSError is the disk's; what goes wrong with the client is a Problem."""
    request.max_content_length = _bytes(settings, limit)
    size = 0
    while chunk := _read(settings, limit):
        size += len(chunk)
        if size > _bytes(settings, limit):
            raise _too_large(settings, limit)
        if quota is not None and size > quota[0]:
            raise quota[1]
        out.write(chunk)
    if request.content_length is not None and size != request.content_length:
        raise Problem(
            400, f"the body ended after {size} of {request.content_length} bytes; nothing was kept"
        )
    return size


def _read(settings: Settings, limit: str) -> bytes:
    try:
        return request.stream.read(CHUNK)
    except RequestEntityTooLarge:
        raise _too_large(settings, limit) from None
    except (ClientDisconnected, OSError) as error:
        raise cut_off(error, "the body ended early; nothing was kept") from None


def _too_large(settings: Settings, limit: str) -> Problem:
    return Problem(
        413, f"the file is larger than {_bytes(settings, limit)} bytes ({limit}); nothing was kept"
    )


def _bytes(settings: Settings, limit: str) -> int:
    found: int = getattr(settings, limit.lower())
    return found

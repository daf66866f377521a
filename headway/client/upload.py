"""Uploads a file by tus 1.0; what breaks off goes on where it was."""

from __future__ import annotations

import base64
import functools
from collections.abc import AsyncGenerator
from typing import Any, BinaryIO
from urllib.parse import urlsplit

from headway.client.download import Progress
from headway.client.errors import BadAnswer, ClientError, Conflict, NotFound, Unavailable, Unreachable
from headway.client.retrying import Patience, repeated
from headway.client.transport import CHUNK, Transport

VERSION = {"Tus-Resumable": "1.0.0"}


async def upload(transport: Transport, source: BinaryIO, total: int, name: str, progress: Progress) -> Any:
    """Send `total` bytes of a file, and return the upload's document.

    What breaks off goes on at the offset that the service has, until it has not had a byte more for
    TRANSFER_PATIENCE_S. Raises ClientError; NotFound if the service has lost or removed it.
    """
    where: str = await repeated(lambda: _create(transport, total, name), transport.sleep)
    patience = Patience(transport.sleep, transfer=True)
    offset: int | None = 0
    while offset is None or offset < total:
        try:
            if offset is None:
                offset = await _offset(transport, where)
                patience.gained(offset)
            else:
                start, offset = offset, None
                with patience.sending():
                    offset = await _send(transport, where, source, start, total, progress)
        # A Conflict: the service has more than was thought, or is still busy with what broke off.
        except (Unreachable, Unavailable, Conflict) as error:
            await patience.pause(error)
    return await transport.json("GET", where)


async def _create(transport: Transport, total: int, name: str) -> str:
    given = base64.b64encode(name.encode("utf-8", "replace")).decode()
    headers = {
        **VERSION,
        "Upload-Length": str(total),
        "Upload-Metadata": f"filename {given}",
        "Content-Length": "0",
    }
    async with transport.request("POST", "/uploads", headers=headers) as answer:
        await answer.expect(201)
        location = urlsplit(answer.header("Location") or "").path
        if not location or answer.header("Tus-Resumable") is None:
            raise BadAnswer(f"{transport.url} is too old for this client: it does not know tus")
        return location


async def _offset(transport: Transport, where: str) -> int:
    """Ask how much the service has."""
    async with transport.request("HEAD", where, headers=VERSION) as answer:
        if answer.status == 404:
            raise NotFound(404, "the service no longer has the upload; begin it anew", {}, None)
        await answer.expect(200)
        said = answer.header("Upload-Offset") or ""
        if not (said.isascii() and said.isdigit()):
            raise BadAnswer(f"{transport.url} is not a Headway: it does not say how much it has")
        return int(said)


async def _send(
    transport: Transport, where: str, source: BinaryIO, offset: int, total: int, progress: Progress
) -> int:
    """Send what is left. Returns the offset that the service then has."""

    async def body() -> AsyncGenerator[bytes, None]:
        source.seek(offset)
        done = offset
        # Not more than Content-Length promised, should the file grow meanwhile.
        while done < total:
            chunk = await transport.off_loop(functools.partial(read, source, min(CHUNK, total - done)))
            if not chunk:
                raise ClientError(f"{source.name} became shorter while it was sent")
            yield chunk
            done += len(chunk)
            progress(done, total)

    headers = {
        **VERSION,
        "Upload-Offset": str(offset),
        "Content-Type": "application/offset+octet-stream",
        "Content-Length": str(total - offset),
    }
    async with transport.request("PATCH", where, body=body, headers=headers) as answer:
        await answer.expect(204)
        return int(answer.header("Upload-Offset") or total)


def read(source: BinaryIO, size: int) -> bytes:
    """Read from the file. Raises ClientError: an OSError in the middle of a request would look like the
    connection's."""
    try:
        return source.read(size)
    except OSError as error:
        raise ClientError(f"{source.name}: {error.strerror or error}") from None

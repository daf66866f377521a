"""A file to the service by tus 1.0, which goes on where it broke off."""

from __future__ import annotations

import base64
import functools
import time
from collections.abc import AsyncGenerator
from typing import Any, BinaryIO
from urllib.parse import urlsplit

from headway.client.download import Progress
from headway.client.errors import BadAnswer, ClientError, Conflict, NotFound, Unavailable, Unreachable
from headway.client.retrying import Backoff, repeated
from headway.client.transport import CHUNK, Transport

VERSION = {"Tus-Resumable": "1.0.0"}
PATIENCE_S = 300.0
"""As long as in web/client/upload.js: a tunnel, or a service that is being restarted."""


async def upload(transport: Transport, source: BinaryIO, total: int, name: str, progress: Progress) -> Any:
    """Send `total` bytes of a file, and return the upload's document.

    What breaks off goes on at the offset that the service has, until PATIENCE_S pass without
    a byte. Raises ClientError; NotFound if the service has lost or removed it.
    """
    where: str = await repeated(lambda: _create(transport, total, name), transport.sleep)
    patience = _Patience()

    def sent(done: int, total: int) -> None:
        patience.sends()
        progress(done, total)

    offset: int | None = 0
    while True:
        try:
            if offset is None:
                offset = await _offset(transport, where)
                patience.gained(offset)
            if offset < total:
                start, offset = offset, None
                patience.sends(begins=True)
                offset = await _send(transport, where, source, start, total, sent)
            return await transport.json("GET", where)
        except (Unreachable, Unavailable, Conflict) as error:
            await transport.sleep(patience.after(error))
            offset = None


class _Patience:
    """Says how long to wait before the next try. Time in which bytes go out is none of waiting."""

    def __init__(self) -> None:
        self._until = time.monotonic() + PATIENCE_S
        self._backoff = Backoff()
        self._most = 0
        self._sent_at = 0.0

    def sends(self, *, begins: bool = False) -> None:
        """Note that bytes go out; first that they are about to."""
        now = time.monotonic()
        if not begins:
            self._until += now - self._sent_at
        self._sent_at = now

    def gained(self, offset: int) -> None:
        """Note how much the service has."""
        if offset > self._most:
            self._most, self._until = offset, time.monotonic() + PATIENCE_S
            self._backoff.reset()

    def after(self, error: ClientError) -> float:
        """Raises the error if it has lasted too long."""
        delay: float = getattr(error, "retry_after_s", None) or self._backoff.next_s()
        if time.monotonic() + delay > self._until:
            raise error
        return delay


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
    """Read from the file; in the middle of a request its OSError would look like the connection's."""
    try:
        return source.read(size)
    except OSError as error:
        raise ClientError(f"{source.name}: {error.strerror or error}") from None

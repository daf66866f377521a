"""Downloads a file; what breaks off goes on where it was."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from headway.client.errors import DownloadFailed, Unreachable
from headway.client.retrying import repeated
from headway.client.transport import ANSWER_S, Response, Transport

Progress = Callable[[int, int], object]
"""Told how many bytes there are, and how many there will be."""


def safe_join(directory: Path, name: str) -> Path:
    """Return the path of the artifact in a directory. Raises DownloadFailed for a name that leads out of
    it."""
    path = PurePosixPath(name)
    if not path.parts or path.is_absolute() or ".." in path.parts or not name.isprintable():
        raise DownloadFailed(f"{name!r} is no name for a file here")
    return directory.joinpath(*path.parts)


async def download(
    transport: Transport, path: str, target: Path, size: int | None, progress: Progress
) -> None:
    """The file at the path, whole, or nothing at `target`. What is there of it stays in a file beside it
    and is used the next time, if the service then still has the same one (by its ETag).

    Raises DownloadFailed if it does not have the size, if that is known; Problem; Unreachable; OSError.
    """
    target.parent.mkdir(parents=True, exist_ok=True)

    most = 0

    def noted(done: int, total: int) -> None:
        nonlocal most
        most = max(most, done)
        progress(done, total)

    async def once() -> Path:
        return await _fetch(transport, path, target, noted)

    partial: Path = await repeated(once, transport.sleep, lambda: most)
    found = partial.stat().st_size
    if size is not None and found != size:
        partial.unlink()
        raise DownloadFailed(f"{target.name} has {found} bytes instead of {size}")
    partial.replace(target)


async def _fetch(transport: Transport, path: str, target: Path, progress: Progress) -> Path:
    async with transport.request("HEAD", path) as answer:
        found, etag, total = answer.status == 200, answer.header("ETag") or "", answer.length
    if not found:
        # The answer to a HEAD has no body that says why.
        async with transport.fetch(path) as answer:
            await answer.expect(200)
    partial = _partial(target, etag)
    have = partial.stat().st_size if partial.exists() and etag.startswith('"') else 0
    if have and have == total:
        return partial
    headers = {"Range": f"bytes={have}-", "If-Range": etag} if have and total and have < total else {}
    async with transport.fetch(path, headers=headers) as answer:
        await answer.expect(200, 206)
        # An object storage may not know If-Range.
        if answer.status == 206 and answer.header("ETag") not in (None, etag):
            raise Unreachable("the file was replaced while it was downloaded", sent=True)
        await _write(transport, answer, partial, have if answer.status == 206 else 0, progress)
    return partial


def _partial(target: Path, etag: str) -> Path:
    """Return where a part of the file is kept; the name tells of which version (ETag) it is."""
    version = hashlib.blake2b(etag.encode(), digest_size=6).hexdigest()
    return target.with_name(f".{target.name}.{version}.part")


async def _write(
    transport: Transport, answer: Response, partial: Path, start: int, progress: Progress
) -> None:
    total = start + (answer.length or 0)
    with partial.open("ab" if start else "wb") as out:
        done = start
        progress(done, total)
        answer.limit(ANSWER_S)
        while chunk := await answer.read_or_give_up():
            await transport.off_loop(functools.partial(out.write, chunk))
            done += len(chunk)
            progress(done, total)
    if answer.length is not None and done < total:
        raise Unreachable(f"the download broke off after {done} of {total} bytes", sent=True)

"""ObjectFiles: files in a bucket of an object storage that speaks S3, by obstore."""

from __future__ import annotations

import io
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from datetime import timedelta
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, TypeVar, cast
from urllib.parse import quote

import obstore
from obstore import exceptions
from obstore.store import S3Store

from headway.contract.files import (
    Entry,
    FileChanged,
    FilesRefused,
    FilesUnavailable,
    FilesUrl,
    is_key,
)
from headway.contract.media_types import media_type_of

T = TypeVar("T")
PIECE_BYTES = 8 << 20
MAX_PARTS = 9_000
"""S3 takes 10,000 parts of an object."""
PARTS_AT_ONCE = 4
READ_BYTES = 2 << 20
TOKEN = re.compile(r"[A-Za-z0-9._-]+")
CONNECT_S, ANSWER_S, PATIENCE_S = 5, 30, 10
"""One request, and how long it is repeated after a 5xx or a lost connection. What must outlast an outage
tries again itself."""


class ObjectFiles:
    piece_bytes = PIECE_BYTES

    def __init__(self, url: FilesUrl, *, run: Callable[[Callable[[], Any]], Any] | None = None) -> None:
        self._run = run or (lambda work: work())
        self._bucket = url.bucket
        self._store = _s3(url, url.endpoint)
        self._public = _s3(url, url.public_endpoint) if url.public_endpoint else self._store

    def head(self, key: str) -> Entry | None:
        if not is_key(key):
            return None
        try:
            return _entry(key, self._call(lambda: obstore.head(self._store, key)))
        except FileNotFoundError:
            return None

    def open(self, entry: Entry) -> BinaryIO:
        return io.BufferedReader(_ObjectReader(self, entry), READ_BYTES)

    def local(self, key: str) -> Path | None:  # noqa: ARG002
        return None

    @contextmanager
    def writing(self, key: str, media_type: str = "", size: int | None = None) -> Iterator[_ObjectWriter]:
        # obstore ends the multipart upload of a writer that an error leaves: Rust's AbortMultipartUpload.
        writer = _ObjectWriter(self, key, media_type, size)
        try:
            yield writer
        except BaseException as error:
            writer.abort(error)
            raise
        if not writer.committed:
            writer.abort(None)

    def move(self, path: Path, key: str, check: Callable[[], object], media_type: str = "") -> None:
        files = [path] if path.is_file() else sorted(each for each in path.rglob("*") if each.is_file())
        for file in files:
            below = file.relative_to(path).as_posix()
            kind = media_type or media_type_of(file.name)
            self._send(file, key if below == "." else f"{key}/{below}", check, kind)
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)

    def _send(self, file: Path, key: str, check: Callable[[], object], media_type: str) -> None:
        size = file.stat().st_size
        with file.open("rb", buffering=0) as source, self.writing(key, media_type, size) as out:
            check()
            while data := source.read(PIECE_BYTES):
                out.write(data)
                check()
            out.commit()

    def write(self, key: str, data: bytes) -> None:
        self._call(lambda: obstore.put(self._store, key, data, use_multipart=False))

    def create(self, key: str, data: bytes) -> None:
        with suppress(exceptions.AlreadyExistsError):
            self._call(lambda: obstore.put(self._store, key, data, mode="create"))

    def read(self, key: str) -> bytes | None:
        try:
            return self._call(lambda: bytes(obstore.get(self._store, key).bytes()))
        except FileNotFoundError:
            return None

    def touch(self, key: str) -> None:
        # An object's time is that of its last writing.
        if (data := self.read(key)) is not None:
            self.write(key, data)

    def add(self, key: str, offset: int, data: bytes, mark: str) -> str:
        name = f"{offset:012x}-{mark}"
        self.write(f"{key}/{name}", data)
        return name

    def size(self, key: str, names: Sequence[str]) -> int:
        def look() -> dict[str, int]:
            pages = obstore.list(self._store, prefix=key)
            return {each["path"]: each["size"] for page in pages for each in page}

        there = self._call(look)
        return sum(there.get(f"{key}/{name}", 0) for name in names)

    def exclusive(self, key: str) -> AbstractContextManager[None]:  # noqa: ARG002
        return nullcontext()

    def remove(self, key: str) -> None:
        def delete() -> None:
            obstore.delete(self._store, [key])
            for page in obstore.list(self._store, prefix=key):
                obstore.delete(self._store, [each["path"] for each in page])

        self._call(delete)

    def trees(self, key: str) -> list[tuple[str, float]]:
        def look() -> list[tuple[str, float]]:
            found: dict[str, float] = {}
            for page in obstore.list(self._store, prefix=key):
                for each in page:
                    name, slash, _ = each["path"].removeprefix(key + "/").partition("/")
                    if slash:
                        found[name] = max(found.get(name, 0.0), each["last_modified"].timestamp())
            return list(found.items())

        return self._call(look)

    def address(self, key: str, seconds: int) -> str | None:
        return self._call(lambda: obstore.sign(self._public, "GET", key, timedelta(seconds=seconds)))

    def free_bytes(self) -> int | None:
        return None

    def part(self, entry: Entry, start: int, end: int) -> bytes:
        """Return the bytes of a file from `start` up to `end`. Raises FileChanged."""
        return self._call(
            lambda: bytes(
                obstore.get(
                    self._store, entry.key, options={"range": (start, end), "if_match": f'"{entry.etag}"'}
                ).bytes()
            )
        )

    def open_writer(self, key: str, media_type: str, size: int | None) -> Any:
        name = PurePosixPath(key).name
        said = f"filename={name}" if TOKEN.fullmatch(name) else f"filename*=UTF-8''{quote(name, safe='')}"
        return self._call(
            lambda: obstore.open_writer(
                self._store,
                key,
                attributes={
                    # Whatever it is, it is never run in the name of the origin that serves it.
                    "Content-Disposition": f"attachment; {said}",
                    "Content-Type": media_type or media_type_of(name),
                },
                buffer_size=max(PIECE_BYTES, (size or 0) // MAX_PARTS),
                max_concurrency=PARTS_AT_ONCE,
            )
        )

    def _call(self, work: Callable[[], T]) -> T:
        """Call obstore off the event loop. Raises FileNotFoundError and FilesUnavailable."""
        try:
            return cast(T, self._run(work))
        except FileNotFoundError as error:
            if "NoSuchBucket" in str(error):
                raise FilesRefused(f"there is no bucket {self._bucket!r}") from None
            raise
        except exceptions.InvalidPathError as error:
            raise FileNotFoundError(_first_line(error)) from None
        except (exceptions.PermissionDeniedError, exceptions.UnauthenticatedError) as error:
            raise FilesRefused(_first_line(error)) from None
        except exceptions.AlreadyExistsError:
            raise
        except exceptions.PreconditionError as error:
            raise FileChanged(_first_line(error)) from None
        except exceptions.BaseError as error:
            raise FilesUnavailable(_first_line(error)) from None


class _ObjectWriter:
    def __init__(self, files: ObjectFiles, key: str, media_type: str, size: int | None) -> None:
        self._files = files
        self._key = key
        self._written = 0
        self.committed = False
        self._file = files.open_writer(key, media_type, size)
        self._call = files._call

    def write(self, data: bytes) -> None:
        self._call(lambda: self._file.write(data))
        self._written += len(data)

    def commit(self) -> None:
        """Complete the object, and see that it is all there."""
        self._call(self._file.close)
        self.committed = True
        found = self._files.head(self._key)
        if found is None or found.size != self._written:
            raise FilesUnavailable(
                f"{self._key} has {found.size if found else 'no'} bytes instead of {self._written}"
            )

    def abort(self, error: BaseException | None) -> None:
        """Let go of what was sent. What cannot be told to the storage now, its lifecycle rule removes."""
        if not self.committed:
            kind = type(error) if error is not None else FilesUnavailable
            with suppress(OSError):
                self._call(lambda: self._file.__exit__(kind, error or FilesUnavailable(), None))


class _ObjectReader(io.RawIOBase):
    """A file of the storage, which is fetched a piece at a time, as it is read."""

    def __init__(self, files: ObjectFiles, entry: Entry) -> None:
        self._files = files
        self._entry = entry
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._entry.size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any) -> int:
        end = min(self._at + len(buffer), self._entry.size)
        if end <= self._at:
            return 0
        data = self._files.part(self._entry, self._at, end)
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)


def _s3(url: FilesUrl, endpoint: str) -> S3Store:
    options: Any = {
        "connect_timeout": timedelta(seconds=CONNECT_S),
        "timeout": timedelta(seconds=ANSWER_S),
        "allow_http": endpoint.startswith("http://"),
        "user_agent": "headway",
    }
    retry: Any = {
        "max_retries": 5,
        "backoff": {"max_backoff": timedelta(seconds=1)},
        "retry_timeout": timedelta(seconds=PATIENCE_S),
    }
    where: dict[str, Any] = {"endpoint": endpoint} if endpoint else {}
    if url.region:
        where["region"] = url.region
    return S3Store(
        url.bucket, prefix=url.prefix or None, client_options=options, retry_config=retry, **where
    )


def _entry(key: str, found: Any) -> Entry:
    return Entry(key, found["size"], found["last_modified"].timestamp(), (found["e_tag"] or "").strip('"'))


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0][:500]

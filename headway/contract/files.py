"""Files: uploads, artifacts and the trees of streams, by their keys, wherever FILES_URL has them.

    uploads/<id>/data               what a client sent; in an object storage its pieces are below that
    uploads/<id>/meta.json          whose it is; an upload without it is not complete
    artifacts/<job>/<attempt>/<name>
    artifacts/.store                which store of files this is (headway/contract/files_identity.py)

There are two kinds behind one interface: a directory (local_files.py) and a bucket (object_files.py). Every
method may block, and raises OSError; FilesUnavailable is one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol, TypeVar
from urllib.parse import parse_qs, unquote, urlsplit

from headway.contract.data_dir import ARTIFACTS, UPLOADS

T = TypeVar("T")
S3_PARAMETERS = frozenset({"endpoint", "region", "public_endpoint"})


class FilesUnavailable(OSError):
    """The object storage cannot be reached, refuses, or did not keep all that it was given."""


class FilesRefused(FilesUnavailable):
    """The object storage does not accept the credentials, or does not have the bucket."""


class FileChanged(FilesUnavailable):
    """The file was replaced while it was read."""


class PartLost(OSError):
    """Pieces of a file that had come are not there any more."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A file that is there."""

    key: str
    size: int
    modified: float
    """Seconds since 1970."""
    etag: str
    """Names these very bytes; without quotes."""


class Writer(Protocol):
    """A file that is being written. It is there, whole, once it is committed, and never partly."""

    def write(self, data: bytes) -> object: ...

    def commit(self) -> None: ...


class Files(Protocol):
    piece_bytes: int
    """The most that `add` takes at a time."""

    def head(self, key: str) -> Entry | None:
        """Return what is known of a file, or None if there is none."""

    def open(self, entry: Entry) -> BinaryIO:
        """Open a file for reading at any place. Raises FileNotFoundError; FileChanged at a later read."""

    def local(self, key: str) -> Path | None:
        """Return where the file lies on a disk of this machine; None if it must be fetched."""

    def writing(
        self, key: str, media_type: str = "", size: int | None = None
    ) -> AbstractContextManager[Writer]:
        """Write a file in the block. It is kept if it is committed, and else nothing of it is. `size` is
        what it will be, if that is known."""

    def move(self, path: Path, key: str, check: Callable[[], object], media_type: str = "") -> None:
        """Make a file of this machine, or a directory with all files in it, that of the key; what was there
        is replaced. `check` is called between pieces, and what it raises ends it."""

    def write(self, key: str, data: bytes) -> None:
        """Write a small file in one step."""

    def create(self, key: str, data: bytes) -> None:
        """Write a small file in one step, unless it is there."""

    def read(self, key: str) -> bytes | None:
        """Return the bytes of a small file, or None if there is none."""

    def touch(self, key: str) -> None:
        """Note that the file was used just now. Does nothing if there is none."""

    def add(self, key: str, offset: int, data: bytes, mark: str) -> str:
        """Write a piece of a file that comes in pieces. Returns the piece's name, "" where a file needs no
        names of its pieces. `mark` keeps apart what two writers write at the same offset. Raises PartLost
        if something before the piece is missing."""

    def size(self, key: str, names: Sequence[str]) -> int:
        """Return how many bytes there are of a file that came in pieces. `names` are what `add`
        returned."""

    def exclusive(self, key: str) -> AbstractContextManager[None]:
        """Keep others from `add` to this file in the block, where what one adds may overwrite another's."""

    def remove(self, key: str) -> None:
        """Remove a file, and all files below the key."""

    def trees(self, key: str) -> list[tuple[str, float]]:
        """Return the names directly below the key that have files below them, each with when the last of
        these changed, in seconds since 1970."""

    def address(self, key: str, seconds: int) -> str | None:
        """Return a URL from which anyone can get the file for `seconds`; None if the files have no such
        URLs."""

    def free_bytes(self) -> int | None:
        """Return how many bytes there is room for; None if no limit is known."""


def upload_key(upload_id: str, *names: str) -> str:
    return "/".join((UPLOADS, upload_id, *names))


def artifact_key(job_id: str, attempt: int, name: str = "") -> str:
    """Return the key of an artifact, or of all that an attempt has published."""
    return f"{ARTIFACTS}/{job_id}/{attempt}" + (f"/{name}" if name else "")


def is_key(key: str) -> bool:
    """Return whether this can be the key of a file: no part of it is empty or leads elsewhere."""
    return all(part not in ("", ".", "..") for part in key.split("/")) and "\0" not in key


@dataclass(frozen=True, slots=True)
class FilesUrl:
    """What FILES_URL says."""

    directory: Path | None = None
    bucket: str = ""
    prefix: str = ""
    endpoint: str = ""
    region: str = ""
    public_endpoint: str = ""
    """Where browsers reach the bucket, if that is elsewhere."""

    @property
    def public_origin(self) -> str:
        """The origin of addresses that are handed out, "" for none."""
        if self.directory is not None:
            return ""
        region = self.region or "us-east-1"
        parts = urlsplit(self.public_endpoint or self.endpoint or f"https://s3.{region}.amazonaws.com")
        return f"{parts.scheme}://{parts.netloc}"


def parse_files_url(value: str, data_dir: Path) -> FilesUrl:
    """Read FILES_URL; without a value it is `data_dir`. Raises ValueError."""
    if not value:
        return FilesUrl(data_dir)
    try:
        parts = urlsplit(value)
        given = parse_qs(parts.query, strict_parsing=bool(parts.query), max_num_fields=10)
    except ValueError:
        raise ValueError("cannot be read as an address") from None
    if parts.scheme == "file" and not parts.query and not parts.netloc and parts.path.startswith("/"):
        return FilesUrl(Path(unquote(parts.path)))
    if parts.scheme != "s3" or not parts.netloc or parts.fragment:
        raise ValueError("is not file:///directory or s3://bucket/prefix?endpoint=https://…")
    if "@" in parts.netloc or ":" in parts.netloc:
        raise ValueError(
            "holds more than a bucket's name before the prefix; credentials are read from "
            "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        )
    if unknown := sorted(set(given) - S3_PARAMETERS):
        raise ValueError(f"has the parameter {unknown[0]!r}; it takes {', '.join(sorted(S3_PARAMETERS))}")
    if any(len(values) > 1 for values in given.values()):
        raise ValueError("has a parameter twice")
    one = {name: values[0] for name, values in given.items()}
    for name in ("endpoint", "public_endpoint"):
        end = urlsplit(one.get(name, "https://host"))
        if end.scheme not in ("http", "https") or not end.hostname or "@" in end.netloc or end.query:
            raise ValueError(f"has an {name} that is not an http:// or https:// address")
    prefix = unquote(parts.path).strip("/")
    if prefix and not is_key(prefix):
        raise ValueError("has a prefix with a part that is empty or leads elsewhere")
    return FilesUrl(None, parts.netloc, prefix, **one)


def new_files(value: str, data_dir: Path, *, run: Callable[[Callable[[], T]], T] | None = None) -> Files:
    """Return the files that FILES_URL names. `run` calls what blocks, if that must not be done here."""
    from headway.contract.local_files import LocalFiles

    found = parse_files_url(value, data_dir)
    if found.directory is not None:
        return LocalFiles(found.directory, run=run)
    from headway.contract.object_files import ObjectFiles  # slow to load, and not everybody has obstore

    return ObjectFiles(found, run=run)

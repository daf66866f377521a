"""LocalFiles: files in a directory of this machine, or of one that several share (NFS)."""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

from headway.contract.files import Entry, PartLost, is_key

LOCK_POLL_S = 0.01
_OWN_TREE = 3
"""How many parts of a key name the tree that a file may not lead out of: artifacts/<job>/<attempt>."""


class LocalFiles:
    piece_bytes = 1 << 20

    def __init__(self, directory: Path, *, run: Callable[[Callable[[], Any]], Any] | None = None) -> None:
        self._directory = directory
        self._run = run or (lambda work: work())

    def head(self, key: str) -> Entry | None:
        path = self._find(key)
        try:
            found = None if path is None else path.stat()
        except OSError:
            return None
        if found is None:
            return None
        return Entry(key, found.st_size, found.st_mtime, f"{found.st_mtime_ns:x}-{found.st_size:x}")

    def open(self, entry: Entry) -> BinaryIO:
        path = self._find(entry.key)
        if path is None:
            raise FileNotFoundError(errno.ENOENT, "there is no such file", entry.key)
        opened: BinaryIO = self._run(lambda: path.open("rb"))
        return opened

    def local(self, key: str) -> Path | None:
        return self._find(key)

    @contextmanager
    def writing(self, key: str, media_type: str = "", size: int | None = None) -> Iterator[_LocalWriter]:  # noqa: ARG002
        target = self._path(key)
        partial = target.with_name(f".{secrets.token_hex(8)}.partial")

        def begin() -> BinaryIO:
            partial.parent.mkdir(parents=True, exist_ok=True)
            return partial.open("wb", buffering=0)

        file = self._run(begin)
        try:
            yield _LocalWriter(file, partial, target, self._run)
        finally:
            file.close()
            partial.unlink(missing_ok=True)

    def move(self, path: Path, key: str, check: Callable[[], object], media_type: str = "") -> None:  # noqa: ARG002
        check()
        target = self._path(key)
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.is_dir():
            shutil.rmtree(target)
        try:
            os.replace(path, target)  # noqa: PTH105
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            # From another file system: copied beside it, and put in its place in one step.
            near = target.with_name(f".{target.name}.moving")
            try:
                _copy(path, near)
                os.replace(near, target)  # noqa: PTH105
            except OSError:
                _remove(near)
                raise
            _remove(path)

    def write(self, key: str, data: bytes) -> None:
        with self.writing(key) as out:
            out.write(data)
            out.commit()

    def create(self, key: str, data: bytes) -> None:
        target = self._path(key)
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f".{secrets.token_hex(8)}.partial")
        partial.write_bytes(data)
        try:
            with suppress(FileExistsError):
                target.hardlink_to(partial)
        finally:
            partial.unlink()

    def read(self, key: str) -> bytes | None:
        path = self._find(key)
        try:
            return None if path is None else path.read_bytes()
        except FileNotFoundError:
            return None

    def touch(self, key: str) -> None:
        with suppress(OSError):
            self._run(lambda: os.utime(self._path(key)))

    def add(self, key: str, offset: int, data: bytes, mark: str) -> str:  # noqa: ARG002
        path = self._path(key)

        def put() -> None:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = os.open(path, os.O_WRONLY | os.O_CREAT, 0o666)
            try:
                if os.fstat(file).st_size < offset:
                    raise PartLost(f"{key} is shorter than {offset} bytes")
                view, at = memoryview(data), offset
                while view:
                    count = os.pwrite(file, view, at)
                    view, at = view[count:], at + count
            finally:
                os.close(file)

        self._run(put)
        return ""

    def size(self, key: str, names: Sequence[str]) -> int:  # noqa: ARG002
        found = self.head(key)
        return 0 if found is None else found.size

    @contextmanager
    def exclusive(self, key: str) -> Iterator[None]:
        path = self._path(key)

        def open_file() -> int:
            path.parent.mkdir(parents=True, exist_ok=True)
            return os.open(path, os.O_WRONLY | os.O_CREAT, 0o666)

        file = self._run(open_file)
        try:
            # Not waited for in one of few threads: whoever has it needs one to get on.
            while not _locked(file):
                time.sleep(LOCK_POLL_S)
            yield
        finally:
            os.close(file)

    def remove(self, key: str) -> None:
        path = self._path(key)

        def unlink() -> None:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)

        self._run(unlink)

    def trees(self, key: str) -> list[tuple[str, float]]:
        directory = self._path(key)

        def look() -> list[tuple[str, float]]:
            if not directory.is_dir():
                return []
            found = []
            for path in directory.iterdir():
                with suppress(OSError):  # it goes meanwhile
                    if path.is_dir():
                        changed = max(each.stat().st_mtime for each in (path, *path.iterdir()))
                        found.append((path.name, changed))
            return found

        looked: list[tuple[str, float]] = self._run(look)
        return looked

    def address(self, key: str, seconds: int) -> str | None:  # noqa: ARG002
        return None

    def free_bytes(self) -> int | None:
        for directory in chain([self._directory], self._directory.parents):
            # It may not have been made yet.
            with suppress(FileNotFoundError):
                return shutil.disk_usage(directory).free
        return None

    def _path(self, key: str) -> Path:
        return self._directory / key

    def _find(self, key: str) -> Path | None:
        """Return the path of a file that is there. What a job made may be a link that leads elsewhere: what
        counts is where the file lies."""
        if not is_key(key):
            return None
        root = self._directory.resolve()
        try:
            path = (root / key).resolve()
            within = root.joinpath(*key.split("/")[:_OWN_TREE])
            return path if path.is_relative_to(within) and path.is_file() else None
        except OSError:  # a name that is too long, a link to itself
            return None


def _locked(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


class _LocalWriter:
    def __init__(
        self, file: BinaryIO, partial: Path, target: Path, run: Callable[[Callable[[], Any]], Any]
    ) -> None:
        self._file = file
        self._partial = partial
        self._target = target
        self._run = run

    def write(self, data: bytes) -> None:
        def put() -> None:
            view = memoryview(data)
            while view:
                view = view[self._file.write(view) :]

        self._run(put)

    def commit(self) -> None:
        self._file.close()
        self._run(lambda: os.replace(self._partial, self._target))  # noqa: PTH105


def _copy(path: Path, target: Path) -> None:
    """Copy a file or a directory. Unlike shutil's, the error says why a file of a directory failed."""
    for file in path.rglob("*") if path.is_dir() else [path]:
        if file.is_file():
            copy = target / file.relative_to(path)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, copy)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)

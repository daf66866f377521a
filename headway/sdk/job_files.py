"""JobFiles: how an attempt brings files here, and publishes what it made, wherever they are kept."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from headway.contract.files import Entry, FileChanged, Files, FilesUnavailable, artifact_key
from headway.sdk.attempt_dirs import AttemptDirs
from headway.sdk.output import Output, size_of
from headway.sdk.stopping import NoSpace, Stop

T = TypeVar("T")

PAUSE_S = 0.2
LONGEST_PAUSE_S = 5.0
"""Between two tries to reach the object storage."""

logger = logging.getLogger(__name__)


class JobFiles:
    """The files of one attempt. An object storage that cannot be reached is waited for, however long, as
    its outage is not the task's fault; meanwhile every method raises JobStopped if the job must end."""

    def __init__(
        self,
        files: Files,
        dirs: AttemptDirs,
        output: Output,
        stop: Stop,
        say: Callable[[str], object],
    ) -> None:
        """`say` tells those who watch the job why it waits."""
        self.kept = files
        """Uploads, and the artifacts of all jobs."""
        self._dirs = dirs
        self._output = output
        self._stop = stop
        self._say = say
        self._unpublished: set[str] = set()
        self._published: set[str] = set()

    def keep(self, name: str, path: Path, media_type: str) -> None:
        """Move a file or directory to where it is served from under this name, once it is published."""
        key = artifact_key(self._dirs.job_id, self._dirs.attempt, name)
        self._output.check()
        self._stop.check()
        if key not in self._published:
            self._unpublished.add(key)
        size = size_of(path)
        self.reach(lambda: self.kept.move(path, key, self._stop.check, media_type))
        self._output.kept[key] = size

    def published(self, name: str) -> None:
        """Note that what was kept under this name is to be shown: from now on it stays."""
        key = artifact_key(self._dirs.job_id, self._dirs.attempt, name)
        self._unpublished.discard(key)
        self._published.add(key)

    def remove_unpublished(self) -> None:
        """Remove what was kept and never published. What cannot be removed now goes with the job."""
        for key in self._unpublished:
            with suppress(OSError):
                self.kept.remove(key)

    def fetch(self, keys: Sequence[str], name: str, update: Callable[[float], object]) -> Path:
        """Download the files of these keys, one after the other, into one file in the working directory.

        `update` is called with the bytes that are there. Raises FileNotFoundError if one does not exist,
        NoSpace if there is no room for them.
        """
        entries = self.find(keys)
        self._dirs.work.mkdir(parents=True, exist_ok=True)
        target = self._dirs.work / name
        self._output.inputs.add(target)
        free = shutil.disk_usage(self._dirs.work).free
        wanted = sum(entry.size for entry in entries)
        if wanted > free:
            raise NoSpace(f"the input has {wanted} bytes, and the worker's disk has room for {free}")
        with target.open("wb", buffering=0) as out:
            for entry in entries:
                self._download(entry, out, update)
        return target

    def find(self, keys: Sequence[str]) -> list[Entry]:
        """Return what is known of files. Raises FileNotFoundError if one does not exist."""
        found = []
        for key in keys:
            entry = self.reach(lambda key=key: self.kept.head(key))  # type: ignore[misc]
            if entry is None:
                raise FileNotFoundError(key)
            found.append(entry)
        return found

    def reach(self, call: Callable[[], T]) -> T:
        """Call until the object storage answers."""
        pause_s = PAUSE_S
        while True:
            try:
                return call()
            except FileChanged:
                raise
            except FilesUnavailable as error:
                if pause_s == PAUSE_S:
                    logger.warning("job %s waits for the object storage: %s", self._dirs.job_id, error)
                    self._say("waiting for the object storage, which cannot be reached")
            self._stop.wait(pause_s)
            self._stop.check()
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    def _download(self, entry: Entry, out: Any, update: Callable[[float], object]) -> None:
        start = out.tell()
        with self.kept.open(entry) as source:
            done = 0
            while done < entry.size:
                source.seek(done)
                data = self.reach(lambda: source.read(self.kept.piece_bytes))
                if not data:
                    raise FileChanged(f"{entry.key} ended after {done} of {entry.size} bytes")
                out.write(data)
                done += len(data)
                update(start + done)
                self._stop.check()

"""AttemptDirs: the directory in which one attempt keeps its files while it runs."""

from __future__ import annotations

import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class AttemptDirs:
    """Where one attempt works. Nothing here creates it."""

    data_dir: Path
    job_id: str
    attempt: int

    @property
    def work(self) -> Path:
        """Scratch space, removed when the attempt ends."""
        return self.data_dir.joinpath("work", self.job_id, str(self.attempt))

    def remove_work(self) -> None:
        """Remove the scratch space, and its parent if no other attempt uses it."""
        if not self.work.exists():
            return
        shutil.rmtree(self.work, ignore_errors=True)
        with suppress(OSError):
            self.work.parent.rmdir()


def remove_attempts(directory: Path, *, before: int) -> None:
    """Remove the scratch space of a job's attempts before this one: `directory` is `work/<job id>`."""
    with suppress(OSError):
        for path in directory.iterdir():
            if path.name.isdigit() and int(path.name) < before:
                shutil.rmtree(path, ignore_errors=True)

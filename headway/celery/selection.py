"""Selection: which tasks are jobs."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from fnmatch import fnmatchcase

_INTERNAL = "celery.*"
_WORK = ("celery.map", "celery.starmap")
"""Tasks of Celery's own that do a project's work; the others are not jobs unless `include` names them."""


class Selection:
    """Raises ValueError for a sample that is not between 0 and 1, TypeError for one that is no number, and
    for bad patterns."""

    def __init__(self, include: Iterable[str] | None, exclude: Iterable[str], sample: float) -> None:
        if not isinstance(sample, int | float):
            raise TypeError(f"sample is a number between 0 and 1, not {sample!r}")
        if not 0 <= sample <= 1:
            raise ValueError(f"sample is a share between 0 and 1, not {sample!r}")
        self._include = None if include is None else _patterns(include)
        self._exclude = _patterns(exclude)
        self._sample = sample
        self._names: dict[str, bool] = {}

    def takes(self, name: str, root_id: str) -> bool:
        """Whether a task is a job. Of a sample, all tasks with the same root are, or none."""
        found = self._names.get(name)
        if found is None:
            found = self._names[name] = self.takes_type(name)
        if not found or self._sample == 1:
            return found
        return zlib.crc32(root_id.encode("utf-8", "replace")) < self._sample * 2**32

    def takes_all(self, names: Iterable[str]) -> bool:
        """Whether every task of these names is a job, Celery's own aside."""
        return self._sample == 1 and all(
            self.takes_type(name) for name in names if not fnmatchcase(name, _INTERNAL)
        )

    def takes_type(self, name: str) -> bool:
        """Whether tasks of this name are jobs."""
        if any(fnmatchcase(name, pattern) for pattern in self._exclude):
            return False
        if self._include is None:
            return name in _WORK or not fnmatchcase(name, _INTERNAL)
        return any(fnmatchcase(name, pattern) for pattern in self._include)


def _patterns(given: Iterable[str]) -> tuple[str, ...]:
    patterns = (given,) if isinstance(given, str) else tuple(given)
    if not all(isinstance(pattern, str) for pattern in patterns):
        raise TypeError(f"include and exclude take names of tasks, such as 'shop.*', not {patterns!r}")
    return patterns

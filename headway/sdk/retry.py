"""Retry: which failures of a job type are tried again, and after how long."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Retry:
    """A job type's policy. How often in all is `max_attempts`; InvalidInput is never tried again.

    The wait is up to `first_s`, doubled after each attempt up to `max_s`. Of it `jitter` (0 to 1) is
    drawn by lot, so that jobs which failed together do not come back together: 1 is anything from
    nothing to all of it, 0 is always all of it.
    """

    first_s: float = 1.0
    max_s: float = 60.0
    jitter: float = 1.0
    on: tuple[type[Exception], ...] = (Exception,)
    """Only these are tried again …"""
    never: tuple[type[Exception], ...] = ()
    """… and of them not these."""

    def __post_init__(self) -> None:
        """Raises ValueError for a wait or a jitter out of bounds."""
        if not (0 <= self.first_s <= self.max_s and 0 <= self.jitter <= 1):
            raise ValueError(f"a wait is 0 <= first_s <= max_s, a jitter 0 to 1, not {self}")

    def covers(self, error: Exception) -> bool:
        """Whether a task that raised this is tried again."""
        return isinstance(error, self.on) and not isinstance(error, self.never)

    def delay_s(self, attempt: int, draw: Callable[[], float] = random.random) -> float:
        """The wait after this attempt, which counts from 1."""
        longest = min(self.first_s * 2.0 ** min(attempt - 1, 64), self.max_s)
        return longest * (1 - self.jitter * (1 - draw()))


DEFAULT = Retry()

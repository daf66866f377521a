"""Retry: which failures of a job type are retried, and after how long."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

# A task may have seeded the other one, and all that failed together with it.
_random = random.SystemRandom()


@dataclass(frozen=True, slots=True)
class Retry:
    """A job type's retry policy. `max_attempts` limits the attempts; InvalidInput is never retried.

    The delay before a retry is at most `first_s` seconds, doubled with each attempt up to `max_s`. `jitter`
    (0 to 1) is the part of it that is random, so that jobs which failed together do not come back
    together: with 1 the delay is anything between zero and its maximum, with 0 always the maximum.
    """

    first_s: float = 1.0
    max_s: float = 60.0
    jitter: float = 1.0
    on: tuple[type[Exception], ...] = (Exception,)
    """Errors that are retried."""
    never: tuple[type[Exception], ...] = ()
    """Errors that are not retried, though `on` has them."""

    def __post_init__(self) -> None:
        """Raises ValueError for a delay or a jitter out of bounds."""
        if not (0 <= self.first_s <= self.max_s and 0 <= self.jitter <= 1):
            raise ValueError(f"needs 0 <= first_s <= max_s and 0 <= jitter <= 1, not {self}")

    def covers(self, error: BaseException) -> bool:
        """Whether a task that raised this error is retried."""
        return isinstance(error, self.on) and not isinstance(error, self.never)

    def delay_s(self, attempt: int, draw: Callable[[], float] = _random.random) -> float:
        """Return the delay in seconds after this attempt, which counts from 1."""
        longest = min(self.first_s * 2.0 ** min(attempt - 1, 64), self.max_s)
        return longest * (1 - self.jitter * (1 - draw()))


DEFAULT = Retry()

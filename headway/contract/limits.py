"""What an owner may submit."""

from __future__ import annotations

from dataclasses import dataclass


class TooManyJobs(Exception):
    """The owner submits too fast, or has too many live jobs; the message says which.

    `retry_after_s` is when it may try again.
    """

    def __init__(self, message: str, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


@dataclass(frozen=True, slots=True)
class Limits:
    """What an owner may submit; 0: as much as it likes."""

    rate: float = 0
    """Jobs per second, in the long run."""
    burst: int = 1
    """Jobs at once."""
    live: int = 0
    """Jobs that have not ended."""


NO_LIMITS = Limits()
ROOM_S = 5.0
"""When an owner with too many live jobs may try again: nobody knows when one ends."""

"""Stop: how a running task learns that it must end, and why."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class InvalidInput(Exception):
    """The job cannot succeed however often it is tried: what it was given is wrong.

    A task raises it with one line for people; the job fails with `invalid_input` and is not retried.
    """


class JobStopped(BaseException):
    """This attempt must end now. Not an Exception, so that `except Exception` in a task lets it pass;
    a task cleans up in `finally` and does not catch it."""


class JobCanceled(JobStopped):
    """Somebody asked for the job's end."""


class LeaseLost(JobStopped):
    """Another attempt owns the job, or it has ended: nothing this one does counts any more."""


class WorkerStopping(JobStopped):
    """The worker process is told to end; another attempt will do the job."""


class Stop:
    """Set once by a thread that learns of the end, read by the task through the SDK.

    A lost lease overrides the other reasons.
    """

    __slots__ = ("_event", "_holds", "_shields", "pending", "reason")

    def __init__(self) -> None:
        self.pending = False
        """Whether the next call of the SDK raises. A plain attribute: `update()` reads it each time."""
        self.reason: type[JobStopped] | None = None
        self._shields = 0
        self._holds = 0
        self._event = threading.Event()

    def request(self, reason: type[JobStopped]) -> None:
        """Ask the task to end. Asking again changes nothing, except that LeaseLost overrides."""
        if self.reason is None or reason is LeaseLost:
            self.reason = reason
        self._settle()

    def check(self) -> None:
        """Raise the reason, if the task must end and no shield holds it back."""
        if self.pending and self.reason is not None:
            raise self.reason

    def wait(self, seconds: float) -> bool:
        """Sleep until the task must end (True) or the time is over."""
        return self._event.wait(seconds)

    @contextmanager
    def shield(self, *, even_lost_lease: bool = False) -> Iterator[None]:
        """Hold the end back until the block is left; a lost lease only if asked to."""
        self._shields += 1
        self._holds += even_lost_lease
        try:
            yield
        finally:
            self._shields -= 1
            self._holds -= even_lost_lease
            self._settle()

    def _settle(self) -> None:
        held = self._holds if self.reason is LeaseLost else self._shields
        if self.reason is None or held:
            self.pending = False
            self._event.clear()
        else:
            self.pending = True
            self._event.set()

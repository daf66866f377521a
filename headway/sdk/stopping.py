"""Stop: how a running task learns that it must end, and why."""

from __future__ import annotations

import queue
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal


class InvalidInput(Exception):
    """The job cannot succeed however often it is tried: its input is wrong.

    A task raises it with a one-line message for people; the job fails with `invalid_input` and is not
    retried.
    """


class NoSpace(Exception):
    """The disk is full, so another attempt now would fail alike.

    A task raises it, or lets an OSError that says so pass; the job fails with `no_space`, without a retry.
    """


class JobStopped(BaseException):
    """This attempt must end now. Not an Exception, so that `except Exception` in a task lets it pass;
    a task cleans up in `finally` and does not catch it."""


class JobCanceled(JobStopped):
    """Cancellation was requested."""


class LeaseLost(JobStopped):
    """Another attempt holds the job, or it has ended: nothing this attempt does counts any more."""


class WorkerStopping(JobStopped):
    """The worker process is shutting down; another attempt will do the job."""


class TooMuchOutput(JobStopped):
    """What the attempt makes is larger than MAX_OUTPUT_BYTES; another one's would be, too."""


class JobWaits(JobStopped):
    """The task gives its place back until its children have ended, or until there is a message for it. Then
    the attempt goes on: the task is called again."""

    def __init__(self, what: Literal["children", "message"], limit_s: float | None, bar: str) -> None:
        super().__init__(what)
        self.what = what
        self.limit_s = limit_s
        self.bar = bar


class Stop:
    """The request to end, made by another thread or a signal handler, and read by the task.

    A lost lease overrides the other reasons.
    """

    __slots__ = ("_holds", "_shields", "_wakeups", "pending", "reason")

    def __init__(self) -> None:
        self.pending = False
        """Whether the next call of the SDK raises. A plain attribute: `update()` reads it each time."""
        self.reason: type[JobStopped] | None = None
        self._shields = 0
        self._holds = 0
        # Not an Event: the signal handler that calls `request` may interrupt `wait` while that holds
        # the Event's lock, and would wait for it for ever. SimpleQueue.put is reentrant.
        self._wakeups: queue.SimpleQueue[None] = queue.SimpleQueue()

    def request(self, reason: type[JobStopped]) -> None:
        """Ask the task to end. Asking again changes nothing, except that LeaseLost overrides.

        Safe to call from any thread and from a signal handler.
        """
        if self.reason is None or reason is LeaseLost:
            self.reason = reason
        self._settle()
        self._wakeups.put(None)

    def check(self) -> None:
        """Raise the reason, if the task must end and no shield holds it back."""
        if self.pending and self.reason is not None:
            raise self.reason

    def wait(self, seconds: float) -> bool:
        """Sleep until the task must end, for at most `seconds`. Returns whether it must end.

        Called by the thread that runs the task, and by no other.
        """
        deadline = time.monotonic() + seconds
        while not self.pending:
            try:
                self._wakeups.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                break
        return self.pending

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
        self.pending = self.reason is not None and not held

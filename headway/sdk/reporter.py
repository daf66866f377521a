"""Reporter: sends the events of one attempt, from a thread once it takes a while."""

from __future__ import annotations

import contextvars
import logging
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import redis

from headway.contract.encoding import clip, dumps
from headway.contract.events import EventType
from headway.contract.records import MAX_LOG_CHARS, Artifact, Progress, artifacts_json
from headway.contract.store import Claim, JobStore, Report, StaleFence
from headway.loops import retry_until_reachable
from headway.sdk.job import Level
from headway.sdk.meter import Meter
from headway.sdk.stopping import JobCanceled, LeaseLost, Stop

INTERVAL_S = 0.25
"""Seconds between sends of progress and logs; messages are sent sooner, artifacts at once."""
IDLE_INTERVAL_S = 1.0
"""Seconds between updates of rate and ETA while the task notes nothing new."""
MAX_LINES_PER_S = 200
MAX_BACKLOG = 5_000
"""Log lines kept at most while they cannot be sent."""
MESSAGE_INTERVAL_S = 0.05
"""Seconds for which a message waits for others, to be sent with them."""
MAX_MESSAGES_PER_S = 200
MAX_UNSENT_CHARS = 4 << 20
"""Of messages, while they cannot be sent; the task waits then."""
MAX_BATCH = 200
"""Events in one write at most, so that it blocks the store for a few milliseconds only."""
MAX_BATCH_CHARS = 262_144

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LogLine:
    at: float
    level: Level
    message: str


class PendingArtifact:
    """An artifact that is not stored yet; `written` is set when it is."""

    def __init__(self, artifact: Artifact) -> None:
        self.artifact = artifact
        self.written = threading.Event()


@dataclass(frozen=True, slots=True)
class OutgoingMessage:
    body: str


Item = LogLine | OutgoingMessage | PendingArtifact


class LogRateLimiter:
    """Lets MAX_LINES_PER_S lines through in each second, and one more that says how many were dropped."""

    def __init__(self) -> None:
        self._since = float("-inf")
        self._passed = 0
        self._left_out = 0

    def take(self, line: LogLine) -> list[LogLine]:
        """Return what to send for this line: the line, nothing, or before it the count of dropped ones."""
        out = self.settle(line.at)
        if line.at - self._since >= 1:
            self._since, self._passed = line.at, 0
        if self._passed < MAX_LINES_PER_S:
            self._passed += 1
            out.append(line)
        else:
            self._left_out += 1
        return out

    def leave_out(self, count: int) -> None:
        """Count lines that were dropped before they got here."""
        self._left_out += count

    def settle(self, now: float) -> list[LogLine]:
        """Return, once the second is over, a line with the number of dropped lines, if there are any."""
        count = self._left_out
        if not count or now - self._since < 1:
            return []
        self._left_out = 0
        return [
            LogLine(now, "warning", f"{count} log line{'s' * (count > 1)} left out: more than can be kept")
        ]


class Reporter:
    """Sends the latest progress, and every log line, message and artifact in order, in numbered batches.

    No method blocks or raises into the task, except `publish`, which waits for its artifact, and `send`,
    which waits when there is too much to send. While Redis is unreachable it keeps the last batch (re-sent
    under the same number, as its outcome is unknown), the latest progress, MAX_BACKLOG lines and
    MAX_UNSENT_CHARS of messages. A cancellation or a lost lease in the store's answer goes to
    `stop`.
    """

    def __init__(
        self,
        store: JobStore,
        claim: Claim,
        meter: Meter,
        stop: Stop,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._claim = claim
        self._meter = meter
        self._stop = stop
        self._clock = clock
        # A SimpleQueue may be put to from a thread that a signal handler interrupts in `put`.
        self._inbox: queue.SimpleQueue[Item | None] = queue.SimpleQueue()
        self._refused = 0
        self._refused_seen = 0
        self._limiter = LogRateLimiter()
        self._waiting: list[Item] = []
        self._checkpoint: tuple[str, str] | None = None
        self._kept: tuple[str, str] | None = None
        # Characters of messages: given to `send`, and sent. Each is counted by one thread.
        self._given = 0
        self._gone = 0
        self._second = float("-inf")
        self._in_second = 0
        self._artifacts = {artifact.name: artifact for artifact in claim.job.artifacts}
        self._sent: Progress | None = None
        self._sent_at = float("-inf")
        self._batch = 0
        self.answered_at = float("-inf")
        """When the store last answered; each answer says whether cancellation was requested."""
        self._closing = False
        self._lost = False
        self._first_at: float | None = clock() + INTERVAL_S
        self._starting = threading.Lock()
        self._closed = False
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Send from a thread from now on, if that has not begun yet. An attempt that is over before has
        nothing to send that its end does not bring."""
        with self._starting:
            if self._thread is None and not self._closed:
                self._thread = threading.Thread(
                    target=contextvars.copy_context().run, args=(self._run,), name="reporter", daemon=True
                )
                self._thread.start()

    def log(self, level: Level, message: str) -> None:
        """Queue a line; with a full backlog it is only counted."""
        if self._inbox.qsize() + len(self._waiting) >= MAX_BACKLOG:
            self._refused += 1
        else:
            self._inbox.put(LogLine(self._clock(), level, clip(message, MAX_LOG_CHARS)))

    def publish(self, artifact: Artifact) -> None:
        """Queue an artifact and wait until the job shows it. Raises JobStopped if the attempt must end."""
        pending = PendingArtifact(artifact)
        self.start()
        self._inbox.put(pending)
        while not pending.written.wait(0.1):
            self._stop.check()

    def send(self, body: str) -> None:
        """Queue a message. Waits after MAX_MESSAGES_PER_S in a second, and while MAX_UNSENT_CHARS are not
        sent. Raises JobStopped if the attempt must end."""
        self._stop.check()
        now = self._clock()
        if now - self._second >= 1:
            self._second, self._in_second = now, 0
        elif self._in_second >= MAX_MESSAGES_PER_S:
            self._stop.wait(self._second + 1 - now)
            self._second, self._in_second = self._clock(), 0
        while self._given - self._gone > MAX_UNSENT_CHARS:
            self._stop.wait(MESSAGE_INTERVAL_S)
            self._stop.check()
        self._in_second += 1
        self._given += len(body)
        self.start()
        self._inbox.put(OutgoingMessage(body))

    def save_checkpoint(self, checkpoint: str, read: str = "") -> None:
        """Store this JSON text with the next batch, unless a newer one replaces it before. `read` is the id
        of the last message that it takes into account: the next attempt begins after it."""
        self._checkpoint = checkpoint, read

    def close(self) -> bool:
        """Send everything and end the thread, however long Redis is unreachable. Returns False if the lease
        is lost.

        Call it before the job's state changes, so that no event comes after it.
        """
        last = self.close_with_the_end()
        if last is not None and last[1]:
            self._send(last[1])
        return not self._lost

    def close_with_the_end(self) -> tuple[int, list[Report]] | None:
        """Do the same, but leave the last batch to the write of the job's end, if no thread has begun.

        Returns the batch's number and its events, perhaps none; None if the lease is lost.
        """
        with self._starting:
            self._closed, thread = True, self._thread
        self._inbox.put(None)
        last: list[Report] = []
        if thread is not None:
            thread.join()
        else:
            while not self._closing:
                self._gather()
            last = self._flush(but_the_last=True)
        return None if self._lost else (self._batch + 1, last)

    # -- the thread --------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while not self._lost:
                self._gather()
                self._flush()
                if self._closing and not self._waiting:
                    return
        except Exception:
            logger.exception("the reporter of job %s failed, so its attempt ends", self._claim.ref.id)
            self._lost = True
            self._stop.request(LeaseLost)

    def _gather(self) -> None:
        """Collect until the next send is due: the interval is over, an artifact waits, a message has waited
        for others, or it is closing."""
        deadline = self._first_at or self._clock() + INTERVAL_S
        self._first_at = None
        due: int | None = None
        while not self._closing:
            left = max(0.0, deadline - self._clock())
            if not left:
                # Take what is queued by now and no more: a task may log faster than this loop runs.
                due = self._inbox.qsize() if due is None else due - 1
                if due == 0:
                    break
            try:
                item = self._inbox.get(timeout=left)
            except queue.Empty:
                break
            if item is None:
                self._closing = True
            elif isinstance(item, PendingArtifact):
                self._waiting.append(item)
                break
            elif isinstance(item, OutgoingMessage):
                self._waiting.append(item)
                deadline = min(deadline, self._clock() + MESSAGE_INTERVAL_S)
            else:
                self._waiting += self._limiter.take(item)
        refused = self._refused
        self._limiter.leave_out(refused - self._refused_seen)
        self._refused_seen = refused
        self._waiting += self._limiter.settle(float("inf") if self._closing else self._clock())

    def _flush(self, *, but_the_last: bool = False) -> list[Report]:
        """Send all that waits, in as many batches as it takes, and then the progress. Returns what is left
        to the caller: nothing, or the last batch."""
        while not self._lost:
            items, reports = self._next_items()
            if not self._waiting[len(items) :]:
                progress = self._progress()
                if progress is not None:
                    text = dumps(progress.model_dump())
                    reports.append(Report(EventType.PROGRESS, text, "progress", text))
                checkpoint = self._checkpoint
                if checkpoint is not self._kept and checkpoint is not None:
                    text, read = checkpoint
                    reports.append(Report("", "", "_checkpoint", text))
                    if read:
                        reports.append(Report("", "", "_read", read))
                    self._kept = checkpoint
                if not reports or but_the_last:
                    return reports
            self._send(reports)
            if self._lost:
                break
            del self._waiting[: len(items)]
            for item in items:
                if isinstance(item, PendingArtifact):
                    item.written.set()
                elif isinstance(item, OutgoingMessage):
                    self._gone += len(item.body)
        return []

    def _next_items(self) -> tuple[list[Item], list[Report]]:
        reports: list[Report] = []
        size = 0
        for item in self._waiting[:MAX_BATCH]:
            report = self._report(item)
            size += len(report.body) + len(report.value)
            if reports and size > MAX_BATCH_CHARS:
                break
            reports.append(report)
        return self._waiting[: len(reports)], reports

    def _report(self, item: Item) -> Report:
        if isinstance(item, OutgoingMessage):
            return Report(EventType.MESSAGE, item.body)
        if isinstance(item, LogLine):
            return Report(EventType.LOG, dumps({"level": item.level, "message": item.message}))
        artifact = item.artifact
        self._artifacts[artifact.name] = artifact
        body = dumps(artifact.model_dump(exclude={"attempt"}))
        return Report(EventType.ARTIFACT, body, "artifacts", artifacts_json(self._artifacts.values()))

    def _progress(self) -> Progress | None:
        """Return the progress to send, if the task noted something new or rate and ETA are a second old."""
        now = self._clock()
        progress = self._meter.read(now)
        if progress is None or progress == self._sent:
            return None
        since = now - self._sent_at
        derived = {"rate": None, "eta_s": None}
        if (
            self._sent is not None
            and since < IDLE_INTERVAL_S
            and progress.model_copy(update=derived) == self._sent.model_copy(update=derived)
        ):
            return None
        if since < INTERVAL_S and not self._closing:
            return None
        self._sent, self._sent_at = progress, now
        return progress

    def _send(self, reports: list[Report]) -> None:
        """Write one batch, again and again under the same number until its outcome is known."""
        self._batch += 1
        try:
            cancel_requested = retry_until_reachable(
                lambda: self._store.append(self._claim, self._batch, reports),
                f"a report of job {self._claim.ref.id}",
                give_up=lambda: self._stop.reason is LeaseLost,
            )
        except (StaleFence, redis.RedisError):
            self._lost = True
            self._stop.request(LeaseLost)
            return
        self.answered_at = self._clock()
        if cancel_requested:
            self._stop.request(JobCanceled)

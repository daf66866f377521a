"""Recorder: the one thread of a process that writes what happens to tasks, so that no task waits for it."""

from __future__ import annotations

import logging
import os
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import redis

from headway.celery.run import Run
from headway.contract.executions import Executions, Outcome
from headway.contract.foreign import job_id_of, placed
from headway.contract.new_job import NewJob
from headway.contract.records import Progress
from headway.contract.settings import Settings
from headway.contract.store import Claim, JobStore
from headway.sdk.lease import LeaseKeeper
from headway.sdk.reporter import Reporter
from headway.sdk.stopping import JobCanceled, LeaseLost

LINGER_S = 0.02
"""How long the first of a batch waits for others. A task that is shorter takes one write in all."""
ANNOUNCEMENT_LINGER_S = 0.05
"""The same if it is a task that was sent. The fewer the batches, the less of them the sender notices."""
MAX_BATCH = 200
MAX_PENDING = 10_000
"""What is kept at most while it cannot be written; more is dropped and counted."""
MAX_DETAILED = 500
"""With more than this pending, arguments and results are not kept."""
LONGEST_PAUSE_S = 2.0
TICK_S = 0.2
"""Between two looks at the leases."""

logger = logging.getLogger("headway.celery")


@dataclass(frozen=True, slots=True)
class Announcement:
    """A task that was sent. The id lacks its partition. The recorder makes the job: many in turn cost much
    less than each between two tasks."""

    job_id: str
    owner: str
    make_job: Callable[[], NewJob]


@dataclass(frozen=True, slots=True)
class Total:
    """How many jobs a group will have."""

    owner: str
    group: str
    jobs: int


@dataclass(frozen=True, slots=True)
class Abandoned:
    """A task whose process can no longer say how it ended. The id lacks its partition."""

    job_id: str
    owner: str
    outcome: Outcome
    make_job: Callable[[], NewJob] | None = None
    """For a job that is not there: those who sent and began it may have been killed before they said so."""


@dataclass(frozen=True, slots=True)
class Flush:
    """Everything before it is to be written, or at least to be tried."""

    done: queue.SimpleQueue[None]


class Recorder:
    """Takes notes without waiting, raising or growing; writes them in batches.

    `interrupt` is called when a run's job was canceled, or took longer than its `timeout_s`. Threads and
    connections are made when they are first needed, in each process for itself.
    """

    def __init__(self, settings: Settings, interrupt: Callable[[Run], None]) -> None:
        self._settings = settings
        self._interrupt = interrupt
        # pydantic makes some things when it first writes a record, under a lock. A worker that forks while
        # its own recorder does that, as it tells of a lost process, would have a process that hangs.
        Progress.model_validate_json(Progress().model_dump_json()).model_dump()
        self._reset()
        os.register_at_fork(after_in_child=self._reset)

    def _reset(self) -> None:
        """Begin anew: threads and connections do not survive a fork."""
        self._inbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._wake_leases: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._starting = threading.Lock()
        self._held: dict[str, Run] = {}
        self._store: JobStore | None = None
        self._reachable = True
        self.dropped = 0
        """Notes that were not kept."""

    # -- for the threads of tasks ------------------------------------------------------------------

    def put(self, note: Announcement | Total | Run | Abandoned) -> None:
        """Have a note written. Of one that cannot be kept, only its number is."""
        pending = self._inbox.qsize()
        if pending >= MAX_PENDING and getattr(note, "hold", None) is None:
            if not self.dropped:
                why = "more happens than can be written" if self._reachable else "Redis is away for long"
                logger.warning("headway: %s: some of what tasks do is not shown", why)
            self.dropped += 1
            return
        if pending > MAX_DETAILED:
            note = _without_details(note)
        self._inbox.put(note)
        if not self._threads:
            self._start()

    def relieve(self, run: Run) -> None:
        """Let go of an ended task's arguments, unless they are about to be written."""
        if run.hold is None and not self._reachable:
            _ = run.new

    def flush(self, timeout_s: float) -> None:
        """Wait until all notes are written; not at all while Redis is away."""
        if not self._threads or not self._reachable:
            return
        done: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._inbox.put(Flush(done))
        try:
            done.get(timeout=timeout_s)
        except queue.Empty:
            logger.warning("headway: the last notes about tasks were not written")

    def _start(self) -> None:
        if not self._starting.acquire(blocking=False):
            return
        try:
            if not self._threads:
                for name, loop in (("recorder", self._record), ("leases", self._keep_leases)):
                    thread = threading.Thread(target=loop, name=f"headway-{name}", daemon=True)
                    thread.start()
                    self._threads.append(thread)
        except RuntimeError as error:  # no more threads, or the interpreter is about to end
            logger.warning("headway: tasks are not shown: %s", error)
        finally:
            self._starting.release()

    # -- the recorder's thread ---------------------------------------------------------------------

    def store(self) -> JobStore:
        """This process's store."""
        if self._store is None:
            timeout_s = min(5.0, self._settings.lease_s / 3)
            self._store = JobStore.of(self._settings, connections=8, timeout_s=timeout_s)
        return self._store

    def _record(self) -> None:
        while True:
            first = self._inbox.get()
            if not isinstance(first, Flush):
                time.sleep(ANNOUNCEMENT_LINGER_S if isinstance(first, Announcement) else LINGER_S)
            batch = [first]
            while len(batch) < MAX_BATCH:
                try:
                    batch.append(self._inbox.get_nowait())
                except queue.Empty:
                    break
            try:
                self._insist(batch)
            except Exception:
                logger.exception("headway: %d notes about tasks are lost", len(batch))
            for note in batch:
                if isinstance(note, Flush):
                    note.done.put(None)

    def _insist(self, batch: list[Any]) -> None:
        """Write a batch, again and again until Redis takes it: each of its writes may be repeated."""
        pause_s = 0.05
        while True:
            try:
                self._write(batch)
            except redis.RedisError as error:
                if self._reachable:
                    logger.warning("headway: Redis is away, tasks go on without being shown: %s", error)
                self._reachable = False
            else:
                if not self._reachable:
                    logger.info("headway: Redis is back; %d notes were dropped meanwhile", self.dropped)
                self._reachable, self.dropped = True, 0
                return
            for note in batch:
                if isinstance(note, Flush):
                    note.done.put(None)
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    def _write(self, batch: list[Any]) -> None:
        executions = Executions(self.store(), self._settings.lease_s)
        batch = [self._placed(note) for note in batch]
        runs = list({id(note): note for note in batch if isinstance(note, Run)}.values())
        # A process that ends does not wait for others.
        waits = not any(isinstance(note, Flush) for note in batch)
        # Those that run before those that they have sent.
        self._report(executions, [run for run in runs if run.hold is None and not run.over], waits=waits)
        executions.announce(
            [(note.job_id, new) for note in batch if (new := self._job_of(note)) is not None],
            [(note.owner, note.group, note.jobs) for note in batch if isinstance(note, Total)],
        )
        self._end(executions, [run for run in runs if run.hold is not None and not run.over])
        for note in batch:
            if isinstance(note, Abandoned):
                executions.abandon(note.job_id, note.outcome)

    def _placed(self, note: Any) -> Any:
        """The same note with whole ids of jobs. Where notes are taken, nobody can wait for what the store
        knows of the owner."""
        keys = self.store().keys
        if isinstance(note, Announcement | Abandoned):
            return replace(note, job_id=placed(keys, note.owner, note.job_id))
        if isinstance(note, Run):
            ref = note.ref
            note.first_job = placed(keys, ref.owner, note.first_job)
            group, parent = self._family(ref.owner, ref.group, ref.parent)
            ref = replace(ref, id=placed(keys, ref.owner, ref.id), group=group, parent=parent)
            # The message of what stands in another's place does not say in which groups that was.
            note.ref = (self.store().ref(ref.id) or ref) if note.in_place and note.hold is None else ref
        return note

    def _job_of(self, note: Any) -> NewJob | None:
        """The job that a note brings, with whole ids."""
        if not isinstance(note, Announcement | Abandoned) or note.make_job is None:
            return None
        try:
            new = note.make_job()
        except Exception:
            logger.exception("headway: a task may be shown wrongly")
            return None
        return self._placed_job(new)

    def _placed_job(self, new: NewJob) -> NewJob:
        group, parent = self._family(new.owner, new.group, new.parent)
        if parent == new.parent and group == new.group:
            return new
        return replace(new, group=group, parent=parent)

    def _family(self, owner: str, group: str | None, parent: str | None) -> tuple[str | None, str | None]:
        """A job's group and parent. Children without a group are one."""
        if parent is not None:
            parent = placed(self.store().keys, owner, parent)
        return parent if group is None else group, parent

    def _report(self, executions: Executions, runs: list[Run], *, waits: bool = True) -> None:
        """Report runs that hold nothing yet. A job that is not there is made: its announcement was lost;
        if `waits`, later, should it only be late."""
        for _ in range(4):
            if not runs:
                return
            missing = []
            again = []
            for run, recorded in zip(
                runs, executions.report([run.execution() for run in runs]), strict=True
            ):
                if recorded.what == "claimed" and recorded.hold is not None:
                    run.hold = recorded.hold
                    self._hold(run)
                    if recorded.cancel_requested:
                        run.stop.request(JobCanceled)
                elif recorded.what == "ended" and recorded.state == "canceled":
                    run.over = True
                    run.stop.request(JobCanceled)
                    self._interrupt(run)
                elif recorded.what == "gone" and waits and run.may_be_announced:
                    self._inbox.put(run)
                elif run.only_continues or (run.replaced and recorded.what == "ended"):
                    # There is no such job, or what took the task's place was over before this was heard of.
                    run.over = True
                elif recorded.what == "gone":
                    missing.append(run)
                elif recorded.what == "ended" and recorded.again:
                    run.ref = replace(run.ref, id=recorded.again)
                    again.append(run)
                elif recorded.what == "ended":
                    # The task came again after its job's end, and an end is final. The next one has an id
                    # that follows: another process may find the same, with another attempt of the task.
                    owner = run.ref.owner
                    run.new = replace(run.new, retry_of=run.first_job)
                    next_id = placed(self.store().keys, owner, job_id_of(owner, f"after {run.ref.id}"))
                    run.ref = replace(run.ref, id=next_id)
                    missing.append(run)
                else:
                    if recorded.what == "refused":
                        about = {"job": run.ref.id, "owner": run.ref.owner}
                        logger.error(
                            "headway: task %s is not shown: %s", run.task_id, recorded.state, extra=about
                        )
                    run.over = True
            executions.announce([(run.ref.id, self._placed_job(run.new)) for run in missing])
            runs = missing + again

    def _hold(self, run: Run) -> None:
        assert run.hold is not None  # noqa: S101
        run.lease = LeaseKeeper(
            self.store(),
            run.hold,
            run.stop,
            lease_s=self._settings.lease_s,
            answered_at=lambda: run.reporter.answered_at if run.reporter else float("-inf"),
        )
        self._held[run.token] = run
        self._wake_leases.put(None)

    def _end(self, executions: Executions, runs: list[Run]) -> None:
        """Start to report the progress of runs that hold their jobs, or end them."""
        # Runs end while this thread waits for Redis: each is looked at once.
        over, ended = [], []
        for run in runs:
            if run.meter.stage is not None and run.reporter is None:
                self._start_reporter(run)
            if run.outcome is None and not run.cut_off:
                continue
            over.append(run)
            still_holds = run.reporter is None or run.reporter.close()
            if still_holds and run.outcome is not None and run.hold is not None:
                ended.append((run.hold, run.outcome))
        executions.end(ended)
        for run in over:
            run.over = True
            self._held.pop(run.token, None)

    def _start_reporter(self, run: Run) -> None:
        assert run.hold is not None  # noqa: S101
        job = self.store().get(run.ref.id)
        if job is not None:
            claim = Claim(run.hold.ref, run.hold.fence, job, "")
            run.reporter = Reporter(self.store(), claim, run.meter, run.stop)
            run.reporter.start()

    # -- the leases' thread ------------------------------------------------------------------------

    def _keep_leases(self) -> None:
        while True:
            if not self._held:
                self._wake_leases.get()
            for run in list(self._held.values()):
                try:
                    self._look_after(run)
                except Exception:
                    about = {"job": run.ref.id, "owner": run.ref.owner}
                    logger.exception("headway: the lease of task %s", run.task_id, extra=about)
            time.sleep(TICK_S)

    def _look_after(self, run: Run) -> None:
        if run.lease is not None and not run.over:
            run.lease.renew_if_due()
        if run.stop.reason is JobCanceled:
            self._interrupt(run)
        elif run.stop.reason is LeaseLost:
            # Another execution has the job, or it was given up as lost: this one goes on unseen.
            executions = Executions(self.store(), self._settings.lease_s)
            if run.hold is not None and executions.timed_out(run.hold):
                self._interrupt(run)
            run.over = True
            self._held.pop(run.token, None)


def _without_details(note: Any) -> Any:
    if isinstance(note, Announcement | Abandoned) and note.make_job is not None:
        new = note.make_job().without_params()
        return replace(note, make_job=lambda: new)
    if isinstance(note, Run):
        note.new = note.new.without_params()
        if note.outcome is not None:
            note.outcome = replace(note.outcome, result=None)
    return note

"""A hundred jobs, drawn from a seed and worked on straight through the store."""

from __future__ import annotations

import heapq
import json
import random
import threading
import time
from collections.abc import Iterator

from headway.contract.encoding import dumps
from headway.contract.events import ZERO, EventType
from headway.contract.states import ErrorCode, State
from headway.contract.store import Claim, JobStore, Report
from tests.faults.bars.checker import Version, versions
from tests.support.fake_worker import create

WORKERS = 6
PACE_S = (0.4, 1.2)
"""Between two reports of a job."""


class Job:
    """`name` is what a bar among many is called by."""

    def __init__(self, n: int, group: str | None, luck: random.Random, seconds: float) -> None:
        self.name = f"bar {n}"
        self.group = group
        self.id = ""
        self.begins = luck.uniform(0, 0.5 * seconds) if group and luck.random() < 0.3 else 0.0
        """A third of those in a group join it later."""
        self.ends = luck.uniform(max(self.begins + 1, 0.1 * seconds), seconds)
        self.last = luck.random() < 0.15
        """It goes on, ever slower, until it may end: so that there is something to be seen all the time."""
        self.fails_at = luck.uniform(0.2, 0.8) if luck.random() < 0.25 else 1.0
        """How far its first attempt gets."""
        self.outcome = luck.choices([State.SUCCEEDED, State.FAILED, State.CANCELED], [7, 2, 1])[0]
        self.luck = random.Random(luck.random())


class Jobs:
    """`create` them, `work` on them in threads, and `finish`."""

    def __init__(self, store: JobStore, seed: int, groups: list[str | None], seconds: float) -> None:
        luck = random.Random(seed)
        self._store = store
        self.all = [Job(n, group, luck, seconds) for n, group in enumerate(groups)]
        self._threads: list[threading.Thread] = []
        self._failures: list[BaseException] = []
        self._seconds = seconds
        self._may_end = threading.Event()

    def create(self) -> None:
        """All but those that come later."""
        for job in self.all:
            if job.begins == 0:
                self._create(job)

    def work(self) -> None:
        self._began = time.monotonic()
        for n in range(WORKERS):
            thread = threading.Thread(target=self._work, args=(self.all[n::WORKERS],))
            thread.start()
            self._threads.append(thread)

    def finish(self) -> None:
        """Let the last ones end, and wait until all have."""
        self._may_end.set()
        for thread in self._threads:
            thread.join()
        for failure in self._failures:
            raise failure

    def histories(self) -> dict[str, list[Version]]:
        """How each looked over the time, as the store has it; by its id and by its name."""
        found = {}
        for job in self.all:
            page = self._store.read(job.id, ZERO, 100_000)
            assert page is not None
            assert page.ended
            events = [(e.id.ms, str(e.type), json.loads(e.data)) for e in page.events]
            found[job.id] = found[job.name] = versions(events)
        return found

    def _create(self, job: Job) -> None:
        job.id = create(self._store, group=job.group, labels={"name": job.name}, max_attempts=2)

    def _claim(self, job: Job) -> Claim:
        ref = self._store.ref(job.id)
        assert ref is not None
        held = self._store.claim(ref, token=job.name, lease_s=3600, worker="test")
        assert held is not None
        return held

    def _work(self, jobs: list[Job]) -> None:
        """Each takes its steps when they are due; while the store is away, none does."""
        due = [(job.begins, n, self._steps(job)) for n, job in enumerate(jobs)]
        heapq.heapify(due)
        try:
            while due:
                at, n, steps = heapq.heappop(due)
                time.sleep(max(0.0, self._began + at - time.monotonic()))
                pause = next(steps, None)
                if pause is not None:
                    heapq.heappush(due, (time.monotonic() - self._began + pause, n, steps))
        except BaseException as failure:  # noqa: BLE001
            self._failures.append(failure)

    def _steps(self, job: Job) -> Iterator[float]:
        """One thing at a time, and how long it is until the next."""
        if not job.id:
            self._create(job)
            yield job.luck.uniform(*PACE_S)
        held, batch = self._claim(job), 0
        yield job.luck.uniform(*PACE_S)
        begins, attempt = job.begins, 1
        while True:
            now = time.monotonic() - self._began
            if self._may_end.is_set() if job.last else now >= job.ends:
                break
            worked = now - begins
            fraction = worked / ((worked + self._seconds) if job.last else (job.ends - begins))
            if attempt == 1 and fraction > job.fails_at:
                self._store.retry(held, delay_s=0, reason="once more")
                yield job.luck.uniform(*PACE_S)
                held, batch, begins, attempt = self._claim(job), 0, now, 2
            else:
                batch += 1
                body = dumps({"fraction": fraction})
                self._store.append(held, batch, [Report(EventType.PROGRESS, body, "progress", body)])
            yield job.luck.uniform(*PACE_S)
        code = ErrorCode.ERROR if job.outcome == State.FAILED else ErrorCode.CANCELED
        error = None if job.outcome == State.SUCCEEDED else (code, "as it was drawn")
        self._store.end(held, job.outcome, error=error)

"""Work on jobs in a worker's place: straight through the store, so that a test knows what was written."""

from __future__ import annotations

import random
import threading
import time
from typing import Any

from headway.contract.encoding import dumps
from headway.contract.events import ZERO, EventType
from headway.contract.new_job import NewJob
from headway.contract.states import State
from headway.contract.store import Claim, JobStore, Report


def create(store: JobStore, **more: Any) -> str:
    return store.create(
        NewJob(
            **{"owner": "local", "type": "t", "params": {}, "queue": "nobody", "max_attempts": 1, **more}
        )
    )[0]


def claim(store: JobStore, job_id: str) -> Claim:
    ref = store.ref(job_id)
    assert ref is not None
    held = store.claim(ref, token=f"t{random.random()}", lease_s=3600, worker="test")
    assert held is not None
    return held


def progress(n: int) -> Report:
    body = dumps({"fraction": None, "current": n})
    return Report(EventType.PROGRESS, body, "progress", body)


def log(n: int) -> Report:
    return Report(EventType.LOG, dumps({"level": "info", "message": f"line {n}"}))


def stored(store: JobStore, job_id: str) -> list[tuple[str, str]]:
    page = store.read(job_id, ZERO, 100_000)
    assert page is not None
    return [(str(e.id), e.type) for e in page.events]


def run_jobs(
    store: JobStore, job_ids: list[str], events: int, pause: float, hold: threading.Event | None = None
) -> threading.Thread:
    """Work on the jobs side by side in another thread: progress and logs in turn, and then, not before
    `hold` is set, the end."""

    def work() -> None:
        held = [claim(store, job_id) for job_id in job_ids]
        for n in range(1, events + 1):
            for c in held:
                store.append(c, n, [progress(n) if n % 2 else log(n)])
            time.sleep(pause)
        if hold is not None:
            hold.wait(60)
        for c in held:
            store.end(c, State.SUCCEEDED)

    thread = threading.Thread(target=work)
    thread.start()
    return thread

"""Recorders of several processes that write about one task, with a real Valkey."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from headway.celery.recorder import Recorder
from headway.celery.run import Run
from headway.contract.executions import Executions, Outcome
from headway.contract.foreign import Foreign, job_id_of, placed
from headway.contract.keys import JobRef
from headway.contract.new_job import NewJob
from headway.contract.records import Job
from headway.contract.settings import Settings
from headway.contract.states import State
from headway.contract.store import JobStore

TASK_ID = "nightly"


def jobs(store: JobStore) -> list[Job]:
    return [Job.model_validate_json(page.document) for page in store.listings.page("local")[0]]


def execution(store: JobStore, retries: int, outcome: Outcome) -> Run:
    """A run of the task that is over."""
    new = NewJob("local", "shop.add", {}, "celery:shop", 3, foreign=Foreign(sent=True, task_id=TASK_ID))
    ref = JobRef(placed(store.keys, "local", job_id_of("local", TASK_ID)), "local", "celery:shop")
    run = Run(SimpleNamespace(name="shop.add"), TASK_ID, ref, retries, lambda: new, lambda run: None)
    run.outcome = outcome
    return run


class AtOnce(Executions):
    """Before it makes a job, it waits until another is about to."""

    meeting: threading.Barrier

    def announce(self, jobs: Iterable[tuple[str, NewJob]], totals: Any = ()) -> None:
        jobs = list(jobs)
        if jobs:
            self.meeting.wait(30)
        super().announce(jobs, totals)


def test_attempts_that_find_their_job_ended_at_the_same_time_make_one_job(store: JobStore) -> None:
    settings = Settings(redis_url="redis://of.nobody", lease_s=5)
    recorders = [Recorder(settings, lambda run: None) for _ in range(2)]
    for recorder in recorders:
        recorder._store = store
    before = execution(store, 0, Outcome(State.SUCCEEDED))
    recorders[0]._report(Executions(store, 5), [before])
    assert [job.state for job in jobs(store)] == [State.SUCCEEDED]

    meeting = threading.Barrier(len(recorders))
    attempts = [
        execution(store, 0, Outcome(State.RETRYING, message="not yet")),
        execution(store, 1, Outcome(State.SUCCEEDED, "at last")),
    ]

    def report(recorder: Recorder, attempt: Run) -> None:
        executions = AtOnce(store, 5)
        executions.meeting = meeting
        recorder._report(executions, [attempt])

    threads = [threading.Thread(target=report, args=pair) for pair in zip(recorders, attempts, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    made = [job for job in jobs(store) if job.retry_of == before.ref.id]
    assert [(job.state, job.result, job.attempt) for job in made] == [(State.SUCCEEDED, "at last", 2)]


def test_an_attempt_that_is_heard_of_after_the_last_one_makes_no_job(store: JobStore) -> None:
    executions = Executions(store, 5)
    recorder = Recorder(Settings(redis_url="redis://of.nobody", lease_s=5), lambda run: None)
    recorder._store = store
    recorder._report(executions, [execution(store, 1, Outcome(State.SUCCEEDED, "at last"))])
    recorder._report(executions, [execution(store, 0, Outcome(State.RETRYING, message="not yet"))])
    assert [(job.state, job.attempt) for job in jobs(store)] == [(State.SUCCEEDED, 2)]


@pytest.mark.parametrize("only_continues", [False, True])
def test_what_stands_in_a_tasks_place_waits_for_the_job_that_knows_its_group(
    store: JobStore, only_continues: bool
) -> None:
    recorder = Recorder(Settings(redis_url="redis://of.nobody", lease_s=5), lambda run: None)
    recorder._store = store
    run = execution(store, 0, Outcome(State.SUCCEEDED, "done"))
    run.nesting, run.only_continues = 1, only_continues
    recorder._write([run])
    assert jobs(store) == []

    Executions(store, 5).announce([(run.ref.id, replace(run.new, group="its own"))])
    recorder._write([recorder._inbox.get_nowait()])
    assert [(job.group, job.state) for job in jobs(store)] == [("its own", State.SUCCEEDED)]


def test_what_stands_in_a_tasks_place_makes_the_job_that_nobody_announces(
    store: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headway.celery.run.ANNOUNCED_S", 0)
    recorder = Recorder(Settings(redis_url="redis://of.nobody", lease_s=5), lambda run: None)
    recorder._store = store
    run = execution(store, 0, Outcome(State.SUCCEEDED, "done"))
    run.nesting = 1
    recorder._write([run])
    assert [job.state for job in jobs(store)] == [State.SUCCEEDED]

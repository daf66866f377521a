"""Jobs that submit jobs, and those that wait: on a worker with a single place."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from headway.contract.events import ZERO
from headway.contract.new_job import NewJob
from headway.contract.records import Job as JobRecord
from headway.contract.states import State
from headway.contract.store import StaleFence
from headway.sdk.job import Job
from headway.sdk.job_type import JobType, Params
from headway.sdk.retry import Retry
from headway.sdk.runtime import Runtime
from tests.support.clocked_store import ClockedStore
from tests.support.stack import Stack
from tests.support.wait import until


class N(Params):
    n: int = 0


class Place:
    """A worker that does one job at a time. The service answers the alarms."""

    def __init__(self, stack: Stack, directory: Path) -> None:
        self.store = stack.store
        # Of its own: another test may leave children in the line.
        self.queue = f"one place {secrets.token_hex(4)}"
        self.types: dict[str, JobType[Any]] = {}
        self._runtime = Runtime(stack.store, worker="place", data_dir=directory, lease_s=12)

    def serves(self, name: str, task: Callable[[Job[Any]], Any], max_attempts: int = 2) -> None:
        made = JobType(name, name, self.queue, N, max_attempts, task, Retry(first_s=0))
        self.types[name] = made
        self.store.registry.register("place", {name: made.describe()}, 3600)

    def submit(self, name: str, **more: Any) -> str:
        new = NewJob(owner="local", type=name, params={}, queue=self.queue, max_attempts=2, **more)
        return self.store.create(new)[0]

    def step(self) -> bool:
        """Do the job that is next in the line, if there is one."""
        found = self.store.next(0, self.queue)
        if found is None:
            return False
        self._runtime.run(self.types[found[1]], found[0].id)
        return True

    def job(self, job_id: str) -> JobRecord:
        job = self.store.get(job_id)
        assert job is not None
        return job

    def work_until_ended(self, job_id: str) -> JobRecord:
        until(lambda: self.step() or (self.job(job_id).ended and not self.step()))
        until(lambda: self.job(job_id).ended or (self.step() and False))
        return self.job(job_id)

    def events(self, job_id: str) -> list[tuple[str, Any]]:
        page = self.store.read(job_id, ZERO, 1000)
        assert page is not None
        return [(event.type, json.loads(event.data)) for event in page.events]

    def states(self, job_id: str) -> list[str]:
        return [data["state"] for event, data in self.events(job_id) if event in ("state", "end")]


@pytest.fixture
def place(stack: Stack, tmp_path: Path) -> Iterator[Place]:
    place = Place(stack, tmp_path)
    place.serves("kin.child", lambda job: job.params.n**2)
    yield place
    stack.store.registry.forget("place", place.types)


def test_a_parent_and_its_children_need_one_place(place: Place, stack: Stack) -> None:
    calls = []

    def task(job: Job[N]) -> Any:
        calls.append(job.attempt)
        with job.plan(prepare=1, children=8, finish=1):
            with job.stage("prepare", total=1) as stage:
                stage.advance()
            with job.stage("children"):
                ids = [job.submit("kin.child", {"n": n}) for n in range(4)]
                job.await_children()
            with job.stage("finish", total=1) as stage:
                stage.advance()
        children = job.children()
        assert [child.id for child in children] == ids
        return sum(child.result for child in children)

    place.serves("kin.parent", task)
    parent = place.submit("kin.parent")
    assert place.step()
    waits = stack.get(f"/jobs/{parent}")[1]
    assert (waits["state"], waits["waiting_reason"]) == ("waiting", "it waits for its children")
    assert {s: n for s, n in waits["children"]["counts"].items() if n} == {"queued": 4}
    assert stack.get("/jobs?state=waiting")[1]["items"][0]["id"] == parent
    for _ in range(2):
        assert place.step()
    shown = until(lambda: (p := place.job(parent).progress) and p.current == 2 and p)
    assert shown.fraction == pytest.approx(0.1 + 0.8 / 2)
    assert (shown.total, shown.unit, shown.stage.name) == (4, "jobs", "children")
    job = place.work_until_ended(parent)
    assert (job.state, job.result, job.attempt) == (State.SUCCEEDED, 14, 1)
    assert calls == [1, 1], "the same attempt went on"
    assert place.states(parent) == ["queued", "running", "waiting", "queued", "running", "succeeded"]
    fractions = [data["fraction"] for event, data in place.events(parent) if event == "progress"]
    # It is not known while the children are being made.
    known = [fraction for fraction in fractions if fraction is not None]
    assert known == sorted(known)
    for child in stack.get(f"/jobs?group={parent}")[1]["items"]:
        assert (child["parent"], child["state"]) == (parent, "succeeded")


def test_a_task_that_runs_again_gets_the_children_that_it_has(place: Place) -> None:
    def task(job: Job[N]) -> Any:
        ids = [job.submit("kin.child", {"n": 1}) for _ in range(2)]
        ids.append(job.submit("kin.child", {"n": job.attempt}, key="mine"))
        if job.attempt == 1:
            raise RuntimeError("it fell over")
        return ids

    place.serves("kin.parent", task)
    parent = place.submit("kin.parent")
    job = place.work_until_ended(parent)
    assert job.attempt == 2
    assert len(set(job.result)) == 3
    group = place.store.groups.get("local", parent)
    assert group is not None
    assert sum(json.loads(group)["counts"].values()) == 3


def test_a_cancellation_reaches_the_children_and_theirs(place: Place, stack: Stack) -> None:
    def task(job: Job[N]) -> None:
        job.submit("kin.parent" if job.params.n < 2 else "kin.child", {"n": job.params.n + 1})
        job.await_children()

    place.serves("kin.parent", task)
    parent = place.submit("kin.parent")
    for _ in range(3):
        assert place.step()
    assert stack.call("POST", f"/jobs/{parent}/cancel")[0] == 202
    assert place.job(parent).state is State.CANCELED
    child = parent
    for _ in range(3):
        (found,) = stack.get(f"/jobs?group={child}")[1]["items"]
        child = found["id"]
        assert stack.wait_ended(child)["state"] == "canceled"


def test_children_of_a_parent_that_fails_are_canceled(place: Place, stack: Stack) -> None:
    def task(job: Job[N]) -> None:
        job.submit("kin.child", {})
        raise ValueError("no")

    place.serves("kin.parent", task)
    parent = place.submit(
        "kin.parent",
    )
    until(lambda: place.job(parent).ended or (place.step() and False))
    (child,) = stack.get(f"/jobs?group={parent}")[1]["items"]
    assert stack.wait_ended(child["id"])["state"] in ("canceled", "succeeded")


def test_a_question_is_answered_while_the_place_is_free(place: Place, stack: Stack) -> None:
    def task(job: Job[N]) -> Any:
        if job.checkpoint is None:
            job.send("question", "how many?")
            job.checkpoint = "asked"
        assert job.await_message()
        return next(job.messages()).data

    place.serves("kin.asks", task)
    asks, other = place.submit("kin.asks"), place.submit("kin.child")
    assert place.step()
    assert place.job(asks).state is State.WAITING
    assert place.step()
    assert place.job(other).ended, "the place was free"
    assert stack.call("POST", f"/jobs/{asks}/messages", {"name": "answer", "data": 42})[0] == 201
    job = place.work_until_ended(asks)
    assert (job.result, job.attempt) == (42, 1)
    assert [data["name"] for event, data in place.events(asks) if event == "message"] == [
        "question",
        "answer",
    ]


def test_a_wait_may_be_limited(place: Place) -> None:
    place.serves("kin.asks", lambda job: job.await_message(limit_s=0.2))
    job = place.work_until_ended(place.submit("kin.asks"))
    assert (job.state, job.result) == (State.SUCCEEDED, False)


def test_no_child_is_made_by_an_attempt_that_is_over(clocked: ClockedStore) -> None:
    new = {"owner": "local", "type": "t", "params": {}, "queue": "q", "max_attempts": 2}
    ref = clocked.ref(clocked.create(NewJob(**new))[0])  # type: ignore[arg-type]
    assert ref is not None
    held = clocked.claim(ref, token="a", lease_s=12, worker="w")
    assert held is not None
    child = NewJob(**new, group=ref.id, parent=ref.id, parent_fence=held.fence)  # type: ignore[arg-type]
    assert clocked.create(child)[2]
    clocked.retry(held, delay_s=0, reason="r")
    with pytest.raises(StaleFence):
        clocked.create(child)


def test_a_job_whose_children_end_before_it_waits_does_not_wait(clocked: ClockedStore) -> None:
    new = {"owner": "local", "type": "t", "params": {}, "queue": "q", "max_attempts": 2}
    ref = clocked.ref(clocked.create(NewJob(**new))[0])  # type: ignore[arg-type]
    assert ref is not None
    held = clocked.claim(ref, token="a", lease_s=12, worker="w")
    assert held is not None
    child = NewJob(**new, group=ref.id, parent=ref.id, parent_fence=held.fence)  # type: ignore[arg-type]
    clocked.cancel(clocked.create(child)[0])
    for _ in range(2):
        clocked.wait(held, "children", reason="r")
    assert ref.id in clocked.alarms.due(0)
    due = clocked.alarms.answer(ref.id)
    assert due is not None
    assert due.why == "woken"
    clocked.wait(held, "children", reason="r")
    again = clocked.claim(ref, token="b", lease_s=12, worker="w")
    assert again is not None
    assert (again.job.attempt, again.attempts_left, again.woken) == (1, 1, "children")
    with pytest.raises(StaleFence):
        clocked.wait(held, "children", reason="r")


def test_a_deadline_ends_a_wait(clocked: ClockedStore) -> None:
    new = NewJob(owner="local", type="t", params={}, queue="q", max_attempts=2, timeout_s=5)
    ref = clocked.ref(clocked.create(new)[0])
    assert ref is not None
    held = clocked.claim(ref, token="a", lease_s=12, worker="w")
    assert held is not None
    clocked.wait(held, "message", reason="r")
    clocked.advance(5)
    assert clocked.alarms.answer(ref.id) is None
    job = clocked.get(ref.id)
    assert job is not None
    assert job.error is not None
    assert job.error.code == "timeout"

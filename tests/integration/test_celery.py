"""A Celery project with two lines more: each of its tasks is a job. Real workers, a real service."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from headway.contract.foreign import Foreign, task_id_of
from headway.contract.new_job import NewJob
from headway.contract.states import ErrorCode, State
from tests.support.checkout import ROOT
from tests.support.rabbitmq import RabbitMQ
from tests.support.shop_stack import TASKS, ShopStack
from tests.support.stack import Stack
from tests.support.wait import until

pytestmark = pytest.mark.long

ADD = f"{TASKS}.add"


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ShopStack]:
    """One project for all tests that leave its worker alive."""
    with ShopStack(tmp_path_factory.mktemp("shop")) as shop:
        shop.start_web()
        shop.start_shop()
        yield shop


def test_a_task_is_queued_running_moves_its_bar_and_succeeds_with_its_result(shop: ShopStack) -> None:
    task_id = shop.send("count.delay(20)")
    job = shop.ended(task_id)
    assert (job.state, job.result, job.attempt) == (State.SUCCEEDED, {"rows": 20}, 1)
    assert job.type == f"{TASKS}.count"
    assert job.params == {"total": 20}
    assert job.labels == {"task_id": task_id}
    assert shop.states(task_id) == ["queued", "running", "succeeded"]
    bar = [event.data for event in shop.events(task_id, "progress")]
    assert len({moment["fraction"] for moment in bar}) >= 3
    assert bar[-1]["message"].startswith("row ")
    assert job.progress is not None
    assert job.progress.fraction == 1


@pytest.mark.parametrize(
    "task",
    [
        "tqdm_rows",
        "tqdm_by_hand",
        "tqdm_threads",
        "tqdm_map",
        "rich_rows",
        "recorded",
        "told_by_thread",
    ],
)
def test_what_tasks_use_already_moves_their_bars(shop: ShopStack, task: str) -> None:
    task_id = shop.send(f"{task}.delay(20)")
    assert shop.ended(task_id).state is State.SUCCEEDED
    fractions = [event.data["fraction"] for event in shop.events(task_id, "progress")]
    assert len(set(fractions)) >= 3, fractions
    assert fractions == sorted(fractions)
    totals = {event.data["total"] for event in shop.events(task_id, "progress")}
    # Not that of the bars within it.
    assert totals == {20}


def test_a_bar_that_is_left_before_its_end_is_followed_by_the_next(shop: ShopStack) -> None:
    task_id = shop.send("rich_left.delay(20)")
    assert shop.ended(task_id).state is State.SUCCEEDED
    last = shop.events(task_id, "progress")[-1].data
    assert (last["stage"]["name"], last["stage"]["index"], last["current"]) == ("rows", 3, 20)


def test_a_task_that_two_apps_have_is_a_job_of_the_one_that_sends_it(shop: ShopStack) -> None:
    ours = [shop.send(f"add.delay({n})") for n in range(20)]
    theirs = [shop.send(f"annex.tasks[add.name].apply_async(({n},), queue='unserved')") for n in range(20)]
    found = [(job.owner, job.result) for job in map(shop.ended, ours)]
    assert found == [("local", n) for n in range(20)]
    count = shop.store.listings.counts
    until(lambda: sum(count("annex").get(ADD, {}).values()) >= len(theirs), what="the other app's jobs")
    assert count("annex") == {ADD: {State.QUEUED: len(theirs)}}


def test_retries_are_attempts_of_one_job(shop: ShopStack) -> None:
    task_id = shop.send("flaky.delay(2, 1)")
    job = shop.ended(task_id)
    assert (job.state, job.attempt, job.max_attempts, job.result) == (State.SUCCEEDED, 3, 3, "at last")
    assert shop.states(task_id) == ["queued", *["running", "retrying"] * 2, "running", "succeeded"]
    reasons = [e.data["reason"] for e in shop.events(task_id, "state") if e.data["state"] == "retrying"]
    assert reasons == ["ValueError: not yet"] * 2


def test_a_task_that_is_retried_as_its_process_was_lost_is_retrying_at_once(
    shop: ShopStack, tmp_path: Path
) -> None:
    """With `retry_on_worker_lost`, which Celery has since 5.7."""
    task_id = shop.send(f"dies_at.delay({str(tmp_path / 'now')!r})")
    shop.running(task_id)
    (tmp_path / "now").touch()
    job = shop.ended(task_id)
    assert (job.state, job.attempt, job.result) == (State.SUCCEEDED, 2, "at last")
    assert shop.states(task_id) == ["queued", "running", "retrying", "running", "succeeded"]
    (reason,) = (e.data["reason"] for e in shop.events(task_id, "state") if e.data["state"] == "retrying")
    assert reason.startswith("WorkerLostError: ")


def test_a_task_whose_job_takes_longer_than_its_time_is_ended(shop: ShopStack) -> None:
    job_id = shop.submit(f"{TASKS}.sleeps", {"seconds": 600}, timeout_s=1)["id"]
    job = shop.wait_ended(job_id)
    assert (job["state"], job["error"]["code"]) == ("failed", "timeout")
    state = f"app.AsyncResult('{task_id_of(job_id)}').state"
    until(lambda: shop.send(state) == "REVOKED", what="its end in Celery")


def test_an_attempt_that_is_over_before_the_one_before_it(shop: ShopStack) -> None:
    job = shop.do("overtaken.delay()")
    assert (job.state, job.attempt, job.result) == (State.SUCCEEDED, 3, "at last")


@pytest.mark.parametrize(
    ("task", "code", "message"),
    [
        ("fails.delay('boom')", ErrorCode.ERROR, "RuntimeError: boom"),
        ("gives_up.delay()", ErrorCode.ERROR, "OSError: no luck"),
        ("rejects.delay()", ErrorCode.ERROR, "the task rejected its message"),
        ("rejects.delay(True)", ErrorCode.ERROR, "the task rejected its message"),
        ("dies.delay()", ErrorCode.WORKER_LOST, "WorkerLostError"),
        ("too_long.delay()", ErrorCode.TIMEOUT, "TimeLimitExceeded"),
        ("softly_too_long.delay()", ErrorCode.TIMEOUT, "SoftTimeLimitExceeded"),
    ],
)
def test_a_task_that_fails_is_a_job_that_fails_and_says_why(
    shop: ShopStack, task: str, code: ErrorCode, message: str
) -> None:
    job = shop.do(task)
    assert job.state is State.FAILED
    assert job.error is not None
    assert job.error.code is code
    assert message in job.error.message


def test_a_task_that_puts_another_in_its_place_goes_on_as_that(shop: ShopStack) -> None:
    job = shop.do("replaced.delay()")
    assert (job.state, job.result, job.attempt) == (State.SUCCEEDED, 23, 2)


@pytest.mark.parametrize(
    ("task", "result", "attempt"),
    [
        ("swapped.delay('group')", [0, 2, 4], 2),
        ("swapped.delay('group', 1)", [0, 2, 4], 3),
        ("swapped.delay('chain')", 4, 2),
        ("swapped.delay('chain', 1)", 4, 3),
        ("swapped.delay('groups')", [2, 4], 2),
    ],
)
def test_a_task_that_puts_a_canvas_in_its_place_ends_with_the_result_of_that(
    shop: ShopStack, task: str, result: Any, attempt: int
) -> None:
    task_id = shop.send(task)
    job = shop.ended(task_id)
    assert (job.state, job.result) == (State.SUCCEEDED, result)
    # What another process has to tell of the retry may be heard only when all is over.
    assert min(attempt, 2) <= job.attempt <= attempt
    assert job.type == f"{TASKS}.swapped"
    assert job.id not in {other["retry_of"] for other in shop.get("/jobs")[1]["items"]}
    children = shop.get(f"/jobs?group={job.id}")[1]["items"]
    assert {child["parent"] for child in children} == {job.id}


@pytest.mark.parametrize("by", ["failing chain", "failing group"])
def test_a_task_whose_canvas_fails_fails_with_that(shop: ShopStack, by: str) -> None:
    job = shop.do(f"swapped.delay({by!r}, 1)")
    assert (job.state, job.error and job.error.message) == (State.FAILED, "RuntimeError: boom")
    until(
        lambda: shop.send(f"app.AsyncResult({job.labels['task_id']!r}).state") == "FAILURE", what="Celery"
    )


def test_a_revoked_task_and_an_expired_one_are_canceled(shop: ShopStack) -> None:
    later = shop.send("add.apply_async((1, 2), countdown=600)")
    shop.until(later, lambda job: job.state is State.QUEUED)
    until(lambda: later in shop.log("shop"), what="the worker to have it")
    shop.send(f"app.control.revoke('{later}')")
    # It is looked at when it is due, so Celery says nothing of it until then.
    expired = shop.send("add.apply_async((1, 2), countdown=1, expires=0.2)")
    assert shop.ended(expired).state is State.CANCELED
    assert shop.find(later).state is State.QUEUED  # type: ignore[union-attr]
    running = shop.send("sleeps.delay(60)")
    shop.running(running)
    shop.send(f"app.control.revoke('{running}', terminate=True)")
    assert shop.ended(running).state is State.CANCELED


def test_canceling_a_job_ends_its_running_task_and_celery_knows_it(shop: ShopStack) -> None:
    task_id = shop.send("sleeps.delay(60)")
    shop.running(task_id)
    assert shop.call("POST", f"/jobs/{shop.job_id(task_id)}/cancel")[0] == 202
    assert shop.ended(task_id).state is State.CANCELED
    until(lambda: shop.send(f"app.AsyncResult('{task_id}').state") == "REVOKED", what="Celery to know")


def test_a_task_whose_job_was_canceled_before_does_not_run(shop: ShopStack, tmp_path: Path) -> None:
    blockers = [shop.send("sleeps.delay(2)") for _ in range(2)]
    mark = tmp_path / "ran"
    task_id = shop.send(f"marks.delay({str(mark)!r})")
    group = shop.send(f"group(marks.si({str(mark)!r}) for _ in range(2)).apply_async()")
    shop.until(task_id, lambda job: job.state is State.QUEUED)
    until(lambda: group_of_job(shop, group).get("counts", {}).get("queued") == 2, what="the group")
    assert shop.call("POST", f"/jobs/{shop.job_id(task_id)}/cancel")[0] == 202
    assert shop.call("POST", f"/groups/{group}/cancel")[0] == 202
    for blocker in blockers:
        shop.ended(blocker)
    assert shop.do("add.delay(1)").result == 1
    assert shop.send(f"app.AsyncResult('{task_id}').state") == "REVOKED"
    assert not mark.exists()


def test_a_submitted_task_that_has_not_begun_before_it_expires_does_not_run(
    shop: ShopStack, tmp_path: Path
) -> None:
    blockers = [shop.send("sleeps.delay(6)") for _ in range(2)]
    for blocker in blockers:
        shop.running(blocker)
    mark = tmp_path / "ran"
    params = {"path": str(mark)}
    job = shop.wait_ended(shop.submit(f"{TASKS}.marks", params, expires_s=1.5)["id"])
    assert (job["state"], job["error"]["code"]) == ("failed", "timeout")
    for blocker in blockers:
        shop.ended(blocker)
    assert shop.do("add.delay(1)").result == 1
    assert not mark.exists()


def test_a_task_that_would_be_tried_again_when_its_jobs_time_is_over_is_not(shop: ShopStack) -> None:
    params = {"fails": 1, "countdown": 5}
    job = shop.wait_ended(shop.submit(f"{TASKS}.flaky", params, timeout_s=2)["id"])
    assert (job["state"], job["error"]["code"]) == ("failed", "timeout")
    state = f"app.AsyncResult({task_id_of(job['id'])!r}).state"
    until(lambda: shop.send(state) == "REVOKED", 20, lambda: f"Celery to drop it: {shop.send(state)}")


def test_each_task_is_a_type_that_can_be_submitted(shop: ShopStack) -> None:
    types = {t["name"]: t for t in shop.get("/types")[1]["items"]}
    assert types[ADD]["alive"]
    assert types[ADD]["params"]["properties"]["x"]["type"] == "integer"
    assert types[ADD]["params"]["required"] == ["x"]
    assert not [name for name in types if name.startswith("celery.")]

    job = shop.wait_ended(shop.submit(ADD, {"x": 3, "y": 4}, group="sums")["id"])
    assert (job["state"], job["result"], job["group"]) == ("succeeded", 7, "sums")
    wrong = shop.wait_ended(shop.submit(f"{TASKS}.named", {"args": [5], "kwargs": {}})["id"])
    assert (wrong["state"], wrong["error"]["code"]) == ("failed", "invalid_input")
    assert "takes 0 positional arguments" in wrong["error"]["message"]
    status, _, body = shop.call("POST", "/jobs", {"type": ADD, "params": {"x": "many"}})
    assert status == 422
    assert json.loads(body)["errors"][0]["pointer"] == "/params/x"
    # How often it is tried, Celery says.
    status, _, body = shop.call("POST", "/jobs", {"type": ADD, "params": {"x": 1}, "max_attempts": 1})
    assert (status, json.loads(body)["errors"][0]["pointer"]) == (422, "/max_attempts")
    assert shop.submit(ADD, {"x": 1}, max_attempts=4)["max_attempts"] == 4


def test_a_submitted_task_counts_in_its_group_and_so_does_a_retry_also_as_a_child(shop: ShopStack) -> None:
    def counts(group: str) -> dict[str, int]:
        found = shop.get(f"/groups/{group}")[1]
        return {state: number for state, number in found["counts"].items() if number}

    submitted = shop.submit(f"{TASKS}.flaky", {"fails": 1}, group="by hand")
    shop.wait_ended(submitted["id"])
    assert counts("by%20hand") == {"succeeded": 1}
    states = [e.data["state"] for e in shop.feed("by hand") if e.event == "state"]
    assert states == ["queued", "running", "retrying", "running"]

    def all_ended(group: str, jobs: int) -> bool:
        items = shop.get(f"/jobs?group={group}")[1]["items"]
        return len(items) == jobs and all(job["finished_at"] for job in items)

    groups = [
        shop.send("group(fails.s(), add.s(1, 1)).apply_async()"),
        shop.job_id(shop.send("parent_of_failing.delay(2)")),
    ]
    for group, failed in zip(groups, (1, 2), strict=True):
        until(lambda group=group: all_ended(group, 2), what="the tasks to be done")
        before = counts(group)
        assert before["failed"] == failed
        assert shop.call("POST", f"/groups/{group}/retry")[0] == 202
        until(lambda group=group, failed=failed: all_ended(group, 2 + failed), what="them to be done again")
        assert counts(group) == before


def test_a_job_can_be_tried_again_unless_arguments_were_not_kept(shop: ShopStack) -> None:
    failed = shop.do("fails.delay('again')")
    status, _, body = shop.call("POST", f"/jobs/{failed.id}/retry")
    assert status == 202
    again = shop.wait_ended(json.loads(body)["id"])
    assert (again["state"], again["retry_of"]) == ("failed", failed.id)
    assert again["error"]["message"] == "RuntimeError: again"

    large = shop.do(f"fails.delay('x' * {2_000})")
    assert large.params == {"message": "(not kept: more than 1024 bytes)"}
    status, _, body = shop.call("POST", f"/jobs/{large.id}/retry")
    assert status == 409
    assert b"not all arguments" in body


def test_a_job_of_a_type_that_no_worker_has_holds_up_no_other(shop: ShopStack) -> None:
    later = shop.send("add.starmap([(1, 2)]).apply_async(countdown=600)")
    assert shop.until(later, lambda job: job.state is State.QUEUED).type == "celery.starmap"
    reason = shop.get(f"/jobs/{shop.job_id(later)}")[1]["waiting_reason"]
    assert reason.startswith("it is to run at"), "workers do serve it"
    shop.call("POST", f"/jobs/{shop.job_id(later)}/cancel")
    mapped = shop.do("add.starmap([(1, 2)]).delay()")
    assert (mapped.type, mapped.result) == ("celery.starmap", [3])
    status, _, body = shop.call("POST", f"/jobs/{mapped.id}/retry")
    assert status == 409
    assert b"celery.starmap is no job type here" in body

    dropped = NewJob("local", "shop.dropped", {}, "celery:shop", 1, foreign=Foreign(sent=False))
    waits = shop.store.create(dropped)[0]
    assert shop.wait_ended(shop.submit(ADD, {"x": 3})["id"])["result"] == 3
    assert shop.get(f"/jobs/{waits}")[1]["waiting_reason"] == "no living worker serves shop.dropped"
    shop.call("POST", f"/jobs/{waits}/cancel")


def group_of_job(shop: ShopStack, group: str) -> dict[str, Any]:
    found: dict[str, Any] = shop.get(f"/groups/{group}")[1]
    return found


def ended_group(shop: ShopStack, group: str) -> dict[str, int]:
    """How many of its jobs are in which state, when it has ended."""
    until(
        lambda: group_of_job(shop, group).get("state") == "ended",
        30,
        lambda: f"the group: {group_of_job(shop, group)}, {shop.get(f'/jobs?group={group}')[1]['items']}",
    )
    found = group_of_job(shop, group)
    assert found["fraction"] == 1
    assert found["expected"] == sum(found["counts"].values())
    return {state: count for state, count in found["counts"].items() if count}


@pytest.mark.parametrize(
    ("canvas", "last", "jobs"),
    [
        ("group(add.s(n, n) for n in range(3))", None, 3),
        ("chord([add.s(1, 1), add.s(2, 2)], total.s())", 6, 3),
        ("chain(add.s(1, 1), add.s(2), add.s(3))", 7, 3),
        ("chord([add.s(1, 1), chain(add.s(1, 1), add.s(2))], total.s())", 6, 3),
        ("chord([chain(add.s(1, 1), add.s(1)), chain(add.s(1, 1), add.s(2))], total.s())", 7, 3),
        ("chain(group(add.s(1, 1), add.s(2, 2)), total.s(), add.s(1))", 7, 4),
        ("group(chain(swapped.si('chain'), add.s(1)), add.s(1))", None, 2),
        ("group(swapped.s('group'), swapped.s('chain'), add.s(1))", None, 3),
        ("chord([swapped.s('chain'), add.s(1)], total.s())", 5, 3),
        ("chain(add.s(1, 1), swapped.si('chain'), add.s(1))", 5, 3),
        ("chain(add.s(1, 1), swapped.si('group'), total.s(), add.s(1))", 7, 4),
        ("chain(replaced.si(), add.s(1))", 24, 2),
    ],
)
def test_a_group_a_chord_and_a_chain_are_groups_that_end(
    shop: ShopStack, canvas: str, last: int | None, jobs: int
) -> None:
    sent = shop.send(f"({canvas}).apply_async()")
    if last is None:
        group = sent
    else:
        job = shop.ended(sent)
        assert (job.state, job.result) == (State.SUCCEEDED, last)
        assert job.group is not None
        group = job.group
    assert ended_group(shop, group) == {"succeeded": jobs}
    ends = [e for e in shop.feed(group) if e.event == "group-end"]
    assert len(ends) == 1


def test_a_group_that_follows_a_group_is_one_of_its_own(shop: ShopStack) -> None:
    second = shop.send("chain(group(add.s(1, 1), add.s(2, 2)), group(total.s(), total.s())).apply_async()")
    assert ended_group(shop, second) == {"succeeded": 2}
    jobs = shop.get(f"/jobs?group={second}")[1]["items"]
    assert [job["result"] for job in jobs] == [6, 6]


def test_a_group_knows_how_many_it_will_have_before_they_are_there(shop: ShopStack) -> None:
    first = shop.send("chain(sleeps.s(60), add.si(1, 1), add.si(1, 1)).apply_async().parent.parent")
    shop.running(first)
    until(lambda: group_of_job(shop, first)["expected"] == 3, what="the total")
    assert group_of_job(shop, first)["state"] == "running"
    shop.call("POST", f"/jobs/{shop.job_id(first)}/cancel")
    # The rest of a chain is never sent then.
    assert ended_group(shop, first) == {"canceled": 1}


def test_what_is_not_sent_because_another_failed_is_not_waited_for(shop: ShopStack) -> None:
    group = shop.send("chord([fails.s(), fails.s(), add.s(1, 1)])(total.s()).parent")
    assert ended_group(shop, group) == {"failed": 2, "succeeded": 1}
    group = shop.send(
        "chord([chain(fails.s(), add.si(1, 1)), chain(add.s(1, 1), add.s(2))])(total.s()).parent"
    )
    assert ended_group(shop, group) == {"succeeded": 1}
    group = shop.send(
        "group(chain(fails.s(), add.si(1, 1)), chain(add.s(1, 1), add.si(2, 2))).apply_async()"
    )
    assert ended_group(shop, group) == {"succeeded": 1}


def test_a_task_that_sends_others_is_their_parent_and_may_end_before_them(shop: ShopStack) -> None:
    parent = shop.do("parent.delay(2)")
    assert parent.state is State.SUCCEEDED
    for task_id in parent.result:
        child = shop.ended(task_id)
        assert (child.parent, child.group, child.state) == (parent.id, parent.id, State.SUCCEEDED)
    shown = shop.get(f"/jobs/{parent.id}")[1]
    assert shown["children"]["counts"]["succeeded"] == 2
    assert {job["id"] for job in shop.get(f"/jobs?group={parent.id}")[1]["items"]} == {
        shop.job_id(task_id) for task_id in parent.result
    }
    assert shop.states(parent.labels["task_id"]) == ["queued", "running", "succeeded"]


def test_the_tasks_of_a_group_that_a_task_sends_are_its_children_too(shop: ShopStack) -> None:
    parent = shop.do("spread.delay(3)")
    assert ended_group(shop, parent.result) == {"succeeded": 3}
    for job in shop.get(f"/jobs?group={parent.result}")[1]["items"]:
        assert (job["parent"], job["group"]) == (parent.id, parent.result)
    assert shop.get(f"/jobs/{parent.id}")[1]["children"]["counts"]["succeeded"] == 3
    assert len(shop.get(f"/jobs?group={parent.id}")[1]["items"]) == 3
    assert len([e for e in shop.feed(parent.id) if e.event == "end"]) == 3


def test_the_steps_of_a_chain_are_no_children_of_those_before_also_if_they_are_groups(
    shop: ShopStack,
) -> None:
    body = shop.ended(shop.send("chain(add.s(1, 1), group(add.s(1), add.s(2)), total.s()).apply_async()"))
    assert (body.state, body.result, body.parent) == (State.SUCCEEDED, 7, None)
    members = shop.get(f"/jobs?group={body.group}")[1]["items"]
    assert [job["parent"] for job in members] == [None, None, None]


def test_canceling_a_parent_cancels_its_children_but_revoking_its_task_does_not(shop: ShopStack) -> None:
    for revoke in (False, True):
        task_id = shop.send("parent.delay(3, 60)")
        parent = shop.running(task_id)
        # One runs beside it, the others wait for a place.
        until(lambda: group_of_job(shop, parent.id).get("counts", {}).get("running") == 1, what="a child")  # noqa: B023
        if revoke:
            shop.send(f"app.control.revoke('{task_id}', terminate=True)")
        else:
            assert shop.call("POST", f"/jobs/{parent.id}/cancel")[0] == 202
        assert shop.ended(task_id).state is State.CANCELED
        if revoke:
            until(lambda: group_of_job(shop, parent.id)["counts"]["running"] == 2, what="both places")  # noqa: B023
            assert group_of_job(shop, parent.id)["counts"]["canceled"] == 0
            shop.call("POST", f"/groups/{parent.id}/cancel")
        until(lambda: group_of_job(shop, parent.id)["counts"]["canceled"] == 3, what="the children's end")  # noqa: B023
    assert shop.do("add.delay(1)").result == 1


def test_an_id_that_is_used_again_is_another_job(shop: ShopStack) -> None:
    assert shop.ended(shop.send("add.apply_async((1, 1), task_id='nightly')")).result == 2
    shop.send("add.apply_async((2, 2), task_id='nightly')")
    first = shop.job_id("nightly")

    def second() -> list[dict[str, Any]]:
        return [job for job in shop.get("/jobs?limit=20")[1]["items"] if job["retry_of"] == first]

    until(lambda: [job for job in second() if job["result"] == 4], what="the second job")
    assert shop.store.get(first).result == 2  # type: ignore[union-attr]
    # And its retries are attempts of that.
    shop.send("flaky.apply_async((2,), task_id='nightly')")
    third = until(lambda: [job for job in second() if job["result"] == "at last"], what="the third job")
    assert (third[0]["state"], third[0]["attempt"]) == ("succeeded", 3)
    assert len(second()) == 2


def test_a_result_or_argument_of_any_kind_is_shown_as_well_as_it_can_be(shop: ShopStack) -> None:
    assert shop.do("ignores.delay()").state is State.CANCELED
    said = shop.do("says_so.delay()")
    assert (said.state, said.result) == (State.SUCCEEDED, {"rows": 3})
    assert shop.do("big_result.delay(100_000)").result == "(not kept: more than 32768 bytes)"
    pickled = shop.do("add.apply_async((Decimal('1'),), dict(y=1), serializer='pickle')")
    assert pickled.params == {"x": "1", "y": 1}


def test_a_worker_that_is_killed_is_seen_by_the_lease(tmp_path: Path) -> None:
    with ShopStack(tmp_path, SHOP_VISIBILITY_S="1") as shop:
        shop.start_web()
        worker = shop.start_shop()
        lost, late = shop.send("sleeps.delay(60)"), shop.send("late.delay(3)")
        waits = shop.send("add.apply_async((1, 1), countdown=1)")
        shop.running(lost)
        shop.running(late)
        os.killpg(worker.pid, signal.SIGKILL)
        worker.wait()
        del shop.processes["shop"]
        job = shop.ended(lost)
        assert job.error is not None
        assert job.error.code is ErrorCode.WORKER_LOST
        # The broker has it still, as it is acknowledged late.
        shop.until(late, lambda job: job.state is State.RETRYING)
        # What was not begun is not lost.
        assert shop.find(waits).state is State.QUEUED  # type: ignore[union-attr]
        shop.start_shop(name="another")
        assert shop.ended(waits).result == 2
        again = shop.ended(late)
        assert (again.state, again.attempt, again.result) == (State.SUCCEEDED, 2, "late")


def test_a_task_whose_sender_and_process_are_killed_at_once_is_a_job(shop: ShopStack) -> None:
    script = (
        "import os; from tests.support.shop.tasks import dies; "
        "print(dies.delay().id, flush=True); os.kill(os.getpid(), 9)"
    )
    environ = {**os.environ, **shop.environ, **shop.shop_environ}
    sent = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, env=environ, capture_output=True, text=True, check=False
    )
    job = shop.ended(sent.stdout.strip())
    assert job.error is not None
    assert (job.type, job.error.code) == (f"{TASKS}.dies", ErrorCode.WORKER_LOST)


def test_headway_and_its_redis_away_cost_the_project_nothing(tmp_path: Path) -> None:
    """The broker is another server, as the project's is."""
    with Stack(tmp_path / "broker") as project, ShopStack(tmp_path / "headway") as shop:
        at = f"redis://127.0.0.1:{project.valkey_port}"
        shop.shop_environ.update(SHOP_BROKER=f"{at}/3", SHOP_BACKEND=f"{at}/4")
        shop.start_web()
        shop.start_shop()
        assert shop.do("add.delay(1, 2)").result == 3
        running = shop.send("count.delay(100)")
        shop.running(running)
        shop.kill_valkey()

        def result(task_id: str) -> Any:
            return shop.send(f"app.AsyncResult('{task_id}').get(timeout=30)")

        assert [result(shop.send(f"add.delay({n})")) for n in range(20)] == list(range(20))
        assert result(shop.send("count.delay(3)")) == {"rows": 3}
        last = shop.send("flaky.delay(1)")
        assert result(last) == "at last"
        assert result(running) == {"rows": 100}
        shop.start_valkey()
        shop.restart_web()
        # What is kept is written when it is back.
        assert shop.ended(running).state is State.SUCCEEDED
        assert shop.ended(last).state is State.SUCCEEDED
        assert shop.do("add.delay(5, 6)").result == 11
        assert "Traceback" not in shop.log("shop")


@pytest.mark.parametrize("pool", ["threads", "gevent"])
def test_other_pools(tmp_path: Path, pool: str) -> None:
    with ShopStack(tmp_path) as shop:
        shop.start_web()
        shop.start_shop("-P", pool, "-c", "20")
        # Many end while others of the same process are being written.
        many = [shop.send(f"flaky.delay(2, {n % 4 / 50})") for n in range(40)]
        many += [shop.send("overtaken.delay()") for _ in range(5)]
        bars = [shop.send("count.delay(20)") for _ in range(5)]
        for task_id in many:
            job = shop.ended(task_id)
            assert (job.state, job.attempt, job.result) == (State.SUCCEEDED, 3, "at last")
        for task_id in bars:
            assert shop.ended(task_id).state is State.SUCCEEDED
            assert len(shop.events(task_id, "progress")) >= 3
        for task in ("count.delay(2000)", "sleeps.delay(100)"):
            task_id = shop.send(task)
            shop.running(task_id)
            assert shop.call("POST", f"/jobs/{shop.job_id(task_id)}/cancel")[0] == 202
            assert shop.ended(task_id).state is State.CANCELED
            until(lambda: shop.send(f"app.AsyncResult('{task_id}').state") == "REVOKED", what="Celery")  # noqa: B023
        assert shop.stop("shop") == 0
        assert "headway: a task may be shown wrongly" not in shop.log("shop")
        assert shop.store.registry.workers() == []


@pytest.mark.parametrize("pool", ["prefork", "threads", "gevent"])
def test_a_worker_that_ends_at_once_no_longer_counts_as_alive(tmp_path: Path, pool: str) -> None:
    with ShopStack(tmp_path) as shop:
        # As some platforms advise: no task is waited for.
        shop.start_shop("-P", pool, REMAP_SIGTERM="SIGQUIT")
        shop.stop("shop")
        assert "Cold shutdown" in shop.log("shop")
        assert shop.store.registry.workers() == []


def test_rabbitmq_and_that_it_and_a_worker_are_killed(tmp_path: Path, rabbitmq: RabbitMQ) -> None:
    with ShopStack(tmp_path, broker=rabbitmq.url) as shop:
        shop.start_web()
        worker = shop.start_shop()
        assert shop.wait_ended(shop.submit(ADD, {"x": 1, "y": 2})["id"])["result"] == 3
        late, bar = shop.send("late.delay(20)"), shop.send("count.delay(200)")
        shop.running(late)
        shop.running(bar)
        shop.start_shop(name="another")
        os.killpg(worker.pid, signal.SIGKILL)
        worker.wait()
        del shop.processes["shop"]
        # The broker notices it at once, and the other worker has the task before the lease is over.
        shop.until(late, lambda job: job.attempt == 2 and job.state is State.RUNNING)
        assert shop.ended(bar).error.code is ErrorCode.WORKER_LOST  # type: ignore[union-attr]

        bar = shop.send("count.delay(100)")
        shop.running(bar)
        rabbitmq.kill()
        rabbitmq.start()
        # What runs goes on, broker or not; what was acknowledged late may be delivered once more.
        assert shop.ended(bar).state is State.SUCCEEDED
        assert shop.ended(late).result == "late"
        assert shop.do("add.delay(20, 3)").result == 23


def test_what_a_process_noted_is_written_before_it_ends(tmp_path: Path) -> None:
    with ShopStack(tmp_path) as shop:
        shop.start_web()
        shop.start_shop("--max-tasks-per-child", "1")
        assert [shop.do(f"add.delay({n})").result for n in range(6)] == list(range(6))
        # A script that sends and ends; no worker is there to make the job.
        shop.stop("shop")
        script = "from tests.support.shop.tasks import add; print(add.delay(7).id)"
        environ = {**shop.environ, **shop.shop_environ}
        sent = subprocess.run(
            [sys.executable, "-c", script],
            cwd=ROOT,
            env=environ,
            capture_output=True,
            text=True,
            check=True,
        )
        assert shop.until(sent.stdout.strip(), lambda job: job.state is State.QUEUED).params == {"x": 7}


def test_tasks_that_run_where_they_are_sent_are_jobs_too(tmp_path: Path) -> None:
    with ShopStack(tmp_path, SHOP_EAGER="1") as shop:
        shop.start_web()
        job = shop.do("add.delay(1, 2)")
        assert (job.state, job.result, job.attempt) == (State.SUCCEEDED, 3, 1)
        assert shop.do("flaky.delay(2)").attempt == 3
        assert shop.ended(shop.send("count.delay(10)")).progress is not None

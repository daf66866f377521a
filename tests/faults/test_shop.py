"""A short run of a Celery project's faults, and the checker's rules, each of which finds its own damage."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.faults.shop import ShopRun
from tests.faults.shop_checker import Execution, Look, ShopHistory, Span, check, read_ledger


@pytest.mark.skipif(sys.platform != "linux", reason="it looks at processes in /proc")
@pytest.mark.timeout(240)
def test_a_projects_jobs_do_not_lie_while_it_and_headway_are_killed_and_paused(tmp_path: Path) -> None:
    # What the broker delivers again takes it some 15 s, so it and whole workers are left to `make faults`.
    victims = ("pool", "valkey", "web")
    run = ShopRun(1, tasks=15, faults=7, gap_s=0.8, directory=tmp_path, say=print, victims=victims)
    run.run()
    assert len(run.did) >= 5
    assert len(run.history.sent) >= 15
    assert check(run.history) == []


def job(task: str, state: str, code: str | None = None, **more: Any) -> dict[str, Any]:
    return {
        "id": f"0-{task}",
        "labels": {"task_id": task},
        "state": state,
        "error": None if code is None else {"code": code},
        "created_at": "1",
        "finished_at": "2",
        "parent": None,
        "group": None,
        **more,
    }


def good() -> ShopHistory:
    h = ShopHistory(sent={"a": 0.1, "b": 0.1, "c": 0.1}, sent_at={"a": 1, "b": 1, "c": 1})
    lines = [
        *("10.0 7 a 0 began", "11.0 7 a 0 sent d", "12.0 7 a 0 returned"),
        *("10.0 8 b 0 began", "11.0 8 b 0 retried", "11.5 8 b 1 began", "12.0 8 b 1 raised"),
        *("12.0 9 c 0 began", "12.0 8 d 0 began", "13.0 8 d 0 returned"),
    ]
    read_ledger("\n".join(lines), h)
    h.spans = [Span("killed", 13.0, float("inf"), 9)]
    h.looks = [Look(n / 2, True, {"c": (9, n < 26)} if 24 <= n < 36 else {}) for n in range(60)]
    jobs = [
        job("a", "succeeded"),
        job("b", "failed", "error"),
        job("c", "failed", "worker_lost"),
        job("d", "succeeded", parent="0-a"),
    ]
    h.headway.documents = {document["id"]: document for document in jobs}
    return h


def test_a_good_history_has_no_violation() -> None:
    assert check(good()) == []


def change(h: ShopHistory, task: str, **fields: Any) -> None:
    h.headway.documents[f"0-{task}"].update(fields)


@pytest.mark.parametrize(
    ("rule", "damage"),
    [
        ("every task ran", lambda h: h.sent.update(e=0.1)),
        ("every task ran", lambda h: h.executions.append(Execution("e", 0, 7, 1.0, 2.0, "returned"))),
        ("every task ran", lambda h: h.executions.remove(h.of_tasks()["b"][1])),
        ("sending waits for nothing", lambda h: h.sent.update(a=3.0)),
        ("nothing is complained of", lambda h: h.complaints.append("headway: a task may be shown wrongly")),
        ("each job ends as its task did", lambda h: h.headway.documents.pop("0-a")),
        (
            "each job ends as its task did",
            lambda h: change(h, "a", state="failed", error={"code": "error"}),
        ),
        ("each job ends as its task did", lambda h: change(h, "b", error={"code": "worker_lost"})),
        ("each job ends as its task did", lambda h: change(h, "c", state="succeeded", error=None)),
        ("no job runs that nobody runs", lambda h: change(h, "d", state="running")),
        ("each job ends as its task did", lambda h: change(h, "c", state="queued", error=None)),
        (
            "no job runs that nobody runs",
            lambda h: h.looks.extend(Look(30 + n / 2, True, {"c": (9, False)}) for n in range(20)),
        ),
        (
            "no job runs that nobody runs",
            lambda h: h.looks.extend(Look(30 + n / 2, True, {"a": (7, True)}) for n in range(20)),
        ),
        ("children have their parents", lambda h: change(h, "d", parent=None)),
    ],
)
def test_a_rule_finds_its_damage(rule: str, damage: Callable[[ShopHistory], Any]) -> None:
    h = good()
    damage(h)
    assert rule in {violation.rule for violation in check(h)}


def test_an_end_that_could_not_be_written_is_no_lie() -> None:
    h = good()
    change(h, "d", state="failed", error={"code": "worker_lost"})
    assert check(h) != []
    h.spans.append(Span("killed", 13.2, float("inf"), 8))
    assert check(h) == []
    h.spans[-1].since = 15.0
    assert check(h) != []
    h.spans.append(Span("valkey", 12.5, 16.0))
    assert check(h) == []
    change(h, "d", state="queued", error=None)
    assert check(h) == [], "its beginning was not written either"


def test_a_task_whose_sender_and_whole_worker_are_killed_at_once_need_have_no_job() -> None:
    h = good()
    del h.headway.documents["0-d"]
    h.executions[-1].ended = h.executions[-1].how = None
    h.spans.append(Span("killed", 12.2, float("inf"), 8))
    assert check(h) != []
    h.spans.append(Span("shop", 12.2, 14.0))
    assert check(h) != []
    h.spans.append(Span("killed", 12.2, float("inf"), 7))
    assert check(h) == []
    h.spans[-1].since = 13.5
    assert check(h) != []
    h.spans[-1].since, h.spans[-2].what = 12.2, "pool"
    assert check(h) != []


def test_a_task_that_was_over_before_anything_could_be_written_of_it_need_have_no_job() -> None:
    h = good()
    del h.headway.documents["0-d"]
    h.executions[-1].ended = 12.4
    h.spans += [Span("killed", 12.5, float("inf"), pid) for pid in (7, 8)]
    assert check(h) == []
    h.executions[-1].ended = h.executions[-1].how = None
    assert check(h) != [], "its worker knows that its process was lost"

"""The rules of the queue find nothing in a good history, and each kind of lie in a bad one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.faults.checker import submissions_make_one_job
from tests.faults.history import Answer, Attempt, Held, History, Stop, Stored, Submission
from tests.faults.queue_rules import QUEUE_RULES

START = 1_795_000_000_000
"""Of all times here; they are given in seconds after it."""


def at(seconds: float) -> str:
    from headway.contract.encoding import rfc3339

    return rfc3339(START + round(seconds * 1000))


def job(
    h: History,
    key: str,
    made: float,
    begins: float | None,
    ends: float,
    expires_s: float = 0,
    **fields: Any,
) -> None:
    """A job that is made, begins (or never does) and ends then."""
    moments = [(made, "queued"), *([] if begins is None else [(begins, "running")])]
    events = [
        Stored(
            f"{START + round(when * 1000)}-0",
            "0-0",
            "state",
            {"state": state, "attempt": n, "at": at(when)},
        )
        for n, (when, state) in enumerate(moments)
    ]
    events.append(Stored(f"{START + round(ends * 1000)}-0", "0-0", "end", {}))
    due = max(made, (fields.get("run_at") or made))
    document = {
        "id": key,
        "type": "simulate",
        "state": "failed" if begins is None else "succeeded",
        "attempt": 0 if begins is None else 1,
        "labels": {"key": key, **({"batch": fields["batch"]} if "batch" in fields else {})},
        "priority": fields.get("priority", 4),
        "group": fields.get("group"),
        "unique": fields.get("unique"),
        "created_at": at(made),
        "run_at": at(fields["run_at"]) if "run_at" in fields else None,
        "expires_at": at(due + expires_s) if expires_s else None,
    }
    body: dict[str, Any] = {"labels": document["labels"]}
    body |= {"expires_s": expires_s} if expires_s else {}
    body |= {"unique": fields["unique"]} if "unique" in fields else {}
    h.events[key], h.documents[key] = events, document
    h.submissions.append(Submission(key, body, [Answer(202, key)]))


LIVE = {"key": "u", "while": "live"}
QUEUED = {"key": "v", "while": "queued"}


def good() -> History:
    h = History()
    job(h, "timed", 0, 5, 6, run_at=5)
    job(h, "expired", 0, None, 3, expires_s=3)
    job(h, "just in time", 1, 3.9, 5, expires_s=3)
    job(h, "first of u", 0, 1, 4, unique=LIVE)
    job(h, "second of u", 5, 6, 7, unique=LIVE)
    job(h, "first of v", 0, 2, 9, unique=QUEUED)
    job(h, "second of v", 3, 4, 9, unique=QUEUED)
    h.submissions.append(Submission("refused", {"labels": {"key": "refused"}, "unique": LIVE}))
    h.submissions[-1].answers = [Answer(0), Answer(200, "first of u"), Answer(200, "first of u")]
    job(h, "urgent", 40, 60, 61, priority=9)
    job(h, "usual", 39, 61, 62)
    job(h, "before the pause", 30, 39, 40)
    h.holds = [Held("queues", "default", START / 1000 + 40, START / 1000 + 59)]
    for n in range(3):
        job(h, f"batch.{n}", 0, 5, 6, batch="batch")
    h.stops = [Stop([1, 2], 10.0, 0, 5.0), Stop([5], 10.0, -9, 0.1, disturbed=True)]
    h.attempts = [Attempt("timed", 1, 2, "succeeded"), Attempt("urgent", 1, 5)]
    return h


def found(h: History) -> set[str]:
    return {rule.__name__.replace("_", " ") for rule in QUEUE_RULES for _ in rule(h)}


def test_a_good_history_breaks_no_rule_of_the_queue() -> None:
    assert found(good()) == set()
    assert list(submissions_make_one_job(good())) == []


LIES: dict[str, tuple[str, Callable[[History], Any]]] = {}


def lie(rule: str) -> Callable[[Callable[[History], Any]], Callable[[History], Any]]:
    def note(spoil: Callable[[History], Any]) -> Callable[[History], Any]:
        LIES[spoil.__name__] = (rule, spoil)
        return spoil

    return note


@lie("no job begins before its time")
def a_job_began_too_early(h: History) -> None:
    job(h, "early", 0, 4.999, 6, run_at=5)


@lie("no job begins after it expires")
def a_job_began_after_it_had_expired(h: History) -> None:
    job(h, "late", 0, 3, 5, expires_s=3)


@lie("no job begins after it expires")
def a_job_failed_before_it_expired(h: History) -> None:
    job(h, "given up", 0, None, 2.9, expires_s=3)


@lie("no job begins after it expires")
def a_job_has_forgotten_that_it_expires(h: History) -> None:
    h.documents["expired"]["expires_at"] = None


@lie("no job begins after it expires")
def a_job_expires_at_another_time(h: History) -> None:
    h.documents["just in time"]["expires_at"] = at(5)


@lie("no two jobs have a unique key")
def a_unique_job_was_twice_live(h: History) -> None:
    job(h, "third of u", 6.9, 8, 9, unique=LIVE)


@lie("no two jobs have a unique key")
def a_unique_job_was_twice_in_the_queue(h: History) -> None:
    job(h, "third of v", 1.9, 8, 9, unique=QUEUED)


@lie("what is paused takes nothing")
def a_paused_queue_took_a_job(h: History) -> None:
    job(h, "taken", 30, 45, 46)


@lie("what is paused takes nothing")
def a_paused_type_took_a_job(h: History) -> None:
    h.holds.append(Held("types", "simulate", START / 1000 + 4, START / 1000 + 5.5))


@lie("a higher priority goes first")
def a_lower_priority_went_first(h: History) -> None:
    job(h, "lucky", 30, 59.5, 60, priority=3)


@lie("a higher priority goes first")
def a_younger_job_went_first(h: History) -> None:
    job(h, "younger", 50, 60.5, 62)


@lie("batches are all or nothing")
def a_job_of_a_batch_is_missing(h: History) -> None:
    del h.documents["batch.1"], h.events["batch.1"]


@lie("a worker that is told to end ends in order")
def a_worker_was_killed_though_nobody_did(h: History) -> None:
    h.stops[0].status = -9


@lie("a worker that is told to end ends in order")
def a_worker_took_too_long_to_end(h: History) -> None:
    h.stops[0].seconds = 60


@lie("a worker that is told to end ends in order")
def a_worker_never_ended(h: History) -> None:
    h.stops[0].status = None


@lie("a worker that is told to end ends in order")
def an_attempt_was_lost_when_its_worker_was_told_to_end(h: History) -> None:
    h.attempts[0].outcome = None


@pytest.mark.parametrize("name", LIES)
def test_each_lie_about_the_queue_is_found(name: str) -> None:
    rule, spoil = LIES[name]
    h = good()
    spoil(h)
    assert rule in found(h)


def test_each_rule_of_the_queue_has_a_lie_that_it_finds() -> None:
    assert {rule for rule, _ in LIES.values()} == {r.__name__.replace("_", " ") for r in QUEUE_RULES}


@pytest.mark.parametrize("other", ["first of v", "timed"])
def test_who_is_told_of_a_job_without_its_unique_key_is_told_a_lie(other: str) -> None:
    h = good()
    refused = next(s for s in h.submissions if s.key == "refused")
    refused.answers = [Answer(200, other)]
    assert [subject for subject, _ in submissions_make_one_job(h)] == ["refused"]


def test_who_is_told_of_two_jobs_is_told_a_lie() -> None:
    h = good()
    refused = next(s for s in h.submissions if s.key == "refused")
    refused.answers.append(Answer(200, "second of u"))
    assert [subject for subject, _ in submissions_make_one_job(h)] == ["refused"]


def test_the_groups_of_one_priority_take_turns_and_those_of_several_do_not() -> None:
    h = good()
    job(h, "younger", 50, 60.5, 62, group="g")
    assert found(h) == set()
    job(h, "lower", 50, 59.5, 62, group="h", priority=3)
    assert found(h) == {"a higher priority goes first"}


def test_a_job_whose_cancellation_is_asked_for_does_not_begin() -> None:
    h = good()
    asked = {"state": "running", "attempt": 1, "at": at(45), "cancel_requested": True}
    h.events["usual"].insert(1, Stored(f"{START + 45_000}-0", "0-0", "state", asked))
    assert "what is paused takes nothing" not in found(h)


def test_a_pause_of_the_type_excuses_the_order() -> None:
    h = good()
    job(h, "lucky", 30, 59.5, 60, priority=3)
    h.holds.append(Held("types", "simulate", START / 1000 + 70, START / 1000 + 71))
    assert found(h) == set()

"""The checker finds nothing in a good history, and each kind of lie in one that was made to lie."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.faults.checker import RULES, check
from tests.faults.history import (
    Answer,
    Attempt,
    Connection,
    Delivered,
    Encoder,
    File,
    History,
    Look,
    Reading,
    Said,
    Stored,
    Submission,
    Waiting,
)
from tests.faults.queue_rules import QUEUE_RULES
from tests.faults.reference_reducer import begin, replay

JOB = "0-job"
AT = "2026-11-24T10:00:00.000Z"
BODY: dict[str, Any] = {
    "type": "simulate",
    "params": {"duration_s": 1, "rate": 2, "log_every": 1, "fail_at": 0.5, "fail_attempts": 1},
    "labels": {"key": "k"},
    "max_attempts": 3,
    "group": "red",
}


def good() -> History:
    """One job: its first attempt fails, its second succeeds; one reader saw all, one began in the middle,
    one watched the feed. Nothing is wrong with it."""
    events: list[Stored] = []

    def add(event: str, attempt: int, **data: Any) -> None:
        prev = events[-1].id if events else "0-0"
        head = {"job": JOB, "attempt": attempt, "at": AT}
        events.append(Stored(f"{len(events) + 1}-0", prev, event, {**head, **data}))

    add("state", 0, state="queued")
    add("state", 1, state="running")
    add("log", 1, level="info", message="update 1 of 2")
    add("progress", 1, fraction=0.5, current=1, total=2)
    add("state", 1, state="retrying", reason="boom")
    add("state", 2, state="running")
    add("log", 2, level="info", message="update 1 of 2")
    add("progress", 2, fraction=0.4, current=1, total=2)
    add("log", 2, level="info", message="update 2 of 2")
    add("progress", 2, fraction=0.9, current=2, total=2)
    artifact = {"name": "a.txt", "media_type": "text/plain", "size": 3, "url": "/a"}
    add("artifact", 2, **artifact)
    before = replay(begin(JOB, BODY), events)
    document = {
        **before,
        "state": "succeeded",
        "result": {"updates": 2},
        "progress": {"fraction": 1, "current": 2, "total": 2},
        "finished_at": AT,
        "last_event_id": "12-0",
    }
    events.append(Stored("12-0", "11-0", "end", document))
    kept = [e for e in events if e.event != "progress"]
    feed = [
        Stored(e.id, kept[i - 1].id if i else "0-0", e.event, deepcopy(e.data)) for i, e in enumerate(kept)
    ]
    counts = {"queued": 0, "running": 0, "retrying": 0, "succeeded": 1, "failed": 0, "canceled": 0}
    group_end = Stored("13-0", "12-0", "group-end", {"group": "red", "counts": counts})
    snapshot = Delivered(1, "4-0", "snapshot", replay(begin(JOB, BODY), events[:4]))
    return History(
        submissions=[Submission("k", BODY, [Answer(0), Answer(202, JOB), Answer(200, JOB)])],
        events={JOB: events},
        documents={JOB: deepcopy(document)},
        feed=feed,
        groups={"red": [*deepcopy(feed), group_end]},
        readings=[
            Reading(
                "all",
                [JOB],
                None,
                [Connection("0", 200), Connection("6-0", 200)],
                [_delivered(e, 1 if i < 6 else 2) for i, e in enumerate(events)],
                True,
            ),
            Reading(
                "late",
                [JOB],
                None,
                [Connection(None, 200)],
                [snapshot, *(_delivered(e) for e in events[4:])],
                True,
            ),
            Reading("feed", None, None, [Connection("0", 200)], [_delivered(e) for e in feed], done=True),
            Reading(
                "red",
                None,
                "red",
                [Connection("0", 200)],
                [*map(_delivered, feed[:-1]), _told(1, 0), _delivered(feed[-1]), _delivered(group_end)],
                done=True,
            ),
        ],
        attempts=[Attempt(JOB, 1, 7, "to be retried"), Attempt(JOB, 2, 8, "succeeded")],
        looks=[
            Look(100 + n / 2, True, True, [], {JOB: 2}, [Encoder(9, JOB, 2, False)]) for n in range(100)
        ],
        files=[File(JOB, 2, "a.txt", 3)],
        faults=["1 killed worker1"],
    )


def _told(running: int, failed: int) -> Delivered:
    counts = {
        "queued": 0,
        "running": running,
        "retrying": 0,
        "succeeded": 0,
        "failed": failed,
        "canceled": 0,
    }
    return Delivered(1, "11-5", "group", {"group": "red", "counts": counts})


def _delivered(e: Stored, connection: int = 1) -> Delivered:
    return Delivered(connection, e.id, e.event, deepcopy(e.data))


def test_a_good_history_breaks_no_rule() -> None:
    assert check(good()) == []


def test_a_history_that_was_kept_is_the_same_when_it_is_read_again(tmp_path: Path) -> None:
    good().save(tmp_path / "history.json")
    assert History.load(tmp_path / "history.json") == good()


def test_progress_that_newer_progress_replaced_may_be_missing() -> None:
    h = good()
    del h.readings[0].events[7]
    assert check(h) == []


def test_a_reset_makes_up_for_what_is_missing_before_it() -> None:
    h = good()
    reading = h.readings[0]
    shown = replay(begin(JOB, BODY), h.events[JOB][:9])
    reading.foreign = True
    reading.events[3:9] = [Delivered(2, "9-0", "reset", {"reason": "cursor_unknown", "job": shown})]
    assert check(h) == []


LIES: dict[str, tuple[str, Callable[[History], Any]]] = {}


def lie(rule: str) -> Callable[[Callable[[History], Any]], Callable[[History], Any]]:
    """A way to spoil a good history, and the rule that must find it."""

    def note(spoil: Callable[[History], Any]) -> Callable[[History], Any]:
        LIES[spoil.__name__] = (rule, spoil)
        return spoil

    return note


def _end(h: History) -> Stored:
    return h.events[JOB][-1]


@lie("submissions make one job")
def an_accepted_job_is_gone(h: History) -> None:
    del h.documents[JOB], h.events[JOB]


@lie("submissions make one job")
def one_key_made_two_jobs(h: History) -> None:
    h.documents["0-other"] = {**h.documents[JOB], "id": "0-other"}


@lie("submissions make one job")
def a_repeat_was_told_of_another_job(h: History) -> None:
    h.submissions[0].answers[2].job = "0-other"


@lie("submissions make one job")
def a_job_was_made_that_nobody_submitted(h: History) -> None:
    h.submissions.clear()


@lie("submissions make one job")
def a_submission_was_answered_with_500(h: History) -> None:
    h.submissions[0].answers[0].status = 500


@lie("one end and nothing after it")
def a_job_has_no_end(h: History) -> None:
    h.events[JOB].pop()


@lie("one end and nothing after it")
def a_job_has_two_ends(h: History) -> None:
    h.events[JOB].append(Stored("13-0", "12-0", "end", _end(h).data))


@lie("one end and nothing after it")
def something_comes_after_the_end(h: History) -> None:
    late = {"job": JOB, "attempt": 2, "at": AT, "level": "info", "message": "update 2 of 2"}
    h.events[JOB].append(Stored("13-0", "12-0", "log", late))


@lie("no write with an old fence")
def an_old_attempt_still_writes(h: History) -> None:
    h.events[JOB][6].data["attempt"] = 1


@lie("progress never falls")
def progress_falls_within_an_attempt(h: History) -> None:
    h.events[JOB][9].data["fraction"] = 0.3


@lie("progress never falls")
def a_reader_sees_progress_fall(h: History) -> None:
    h.readings[0].events[9].data["fraction"] = 0.3


@lie("progress never falls")
def progress_is_whole_before_the_job_has_succeeded(h: History) -> None:
    h.events[JOB][9].data["fraction"] = 1


@lie("rest is the replay")
def rest_says_something_else(h: History) -> None:
    h.documents[JOB]["artifacts"] = []


@lie("rest is the replay")
def the_end_has_forgotten_an_artifact(h: History) -> None:
    _end(h).data["artifacts"] = h.documents[JOB]["artifacts"] = []


@lie("rest is the replay")
def a_snapshot_says_something_else(h: History) -> None:
    h.readings[1].events[0].data["state"] = "queued"


@lie("outcomes are those asked for")
def it_was_canceled_and_nobody_asked_for_that(h: History) -> None:
    h.documents[JOB]["state"] = "canceled"


@lie("outcomes are those asked for")
def an_attempt_that_had_to_fail_succeeded(h: History) -> None:
    h.documents[JOB]["params"]["fail_attempts"] = 2


@lie("outcomes are those asked for")
def a_log_line_was_lost(h: History) -> None:
    del h.events[JOB][8]


@lie("outcomes are those asked for")
def a_log_line_came_twice(h: History) -> None:
    h.events[JOB][8].data["message"] = "update 1 of 2"


@lie("outcomes are those asked for")
def the_last_count_is_wrong(h: History) -> None:
    h.documents[JOB]["result"] = {"updates": 1}


@lie("outcomes are those asked for")
def a_message_of_the_task_was_lost(h: History) -> None:
    h.documents[JOB]["params"]["message_every"] = 1


def _say(h: History, index: int) -> None:
    data = {**h.events[JOB][index].data, "from": "client", "name": "said", "data": "x"}
    h.events[JOB][index] = Stored(f"{index + 1}-0", f"{index}-0", "message", data)


@lie("messages arrive once")
def an_accepted_message_was_lost(h: History) -> None:
    h.said.append(Said(JOB, "x", [0, 201]))


@lie("messages arrive once")
def a_message_arrived_twice(h: History) -> None:
    h.said.append(Said(JOB, "x", [0, 200]))
    _say(h, 2)
    _say(h, 6)


@lie("messages arrive once")
def a_message_arrived_that_nobody_sent(h: History) -> None:
    _say(h, 2)


@lie("messages arrive once")
def a_message_was_refused_after_it_was_accepted(h: History) -> None:
    h.said.append(Said(JOB, "x", [201, 409]))
    _say(h, 2)


@lie("artifacts are of the newest attempt")
def an_artifact_is_of_an_old_attempt(h: History) -> None:
    h.documents[JOB]["artifacts"][0]["attempt"] = 1


@lie("artifacts are of the newest attempt")
def an_artifact_is_there_twice(h: History) -> None:
    h.documents[JOB]["artifacts"] *= 2


@lie("artifacts are of the newest attempt")
def a_file_is_not_whole(h: History) -> None:
    h.files[0].size = 2


@lie("artifacts are of the newest attempt")
def a_file_is_not_there(h: History) -> None:
    h.files.clear()


@lie("chains are unbroken")
def an_event_names_the_wrong_one_before_it(h: History) -> None:
    h.events[JOB][5].prev = "4-0"


@lie("chains are unbroken")
def an_id_is_smaller_than_the_one_before(h: History) -> None:
    h.feed[3].id = h.feed[4].prev = "1-0"


@lie("feeds hold what their jobs hold")
def a_feed_lacks_an_event(h: History) -> None:
    del h.groups["red"][3]


@lie("feeds hold what their jobs hold")
def a_feed_has_an_event_that_no_job_has(h: History) -> None:
    h.feed.append(Stored("13-0", "12-0", "log", {}))


@lie("groups are their jobs")
def a_group_has_no_end(h: History) -> None:
    h.groups["red"].pop()


@lie("groups are their jobs")
def a_group_has_two_ends(h: History) -> None:
    h.groups["red"].append(Stored("14-0", "13-0", "group-end", h.groups["red"][-1].data))


@lie("groups are their jobs")
def a_group_counts_a_job_twice(h: History) -> None:
    h.groups["red"][-1].data["counts"]["failed"] = 1


@lie("groups are their jobs")
def a_reader_is_not_told_that_a_group_has_ended(h: History) -> None:
    h.readings[3].events.pop()


@lie("groups are their jobs")
def a_reader_is_told_of_fewer_ended_jobs_than_before(h: History) -> None:
    h.readings[3].events[-3] = _told(0, 2)


@lie("readers miss nothing")
def a_reader_misses_a_log_line(h: History) -> None:
    del h.readings[0].events[6]


@lie("readers miss nothing")
def a_reader_misses_the_newest_progress(h: History) -> None:
    del h.readings[0].events[9]


@lie("readers miss nothing")
def a_reader_of_a_feed_misses_an_event(h: History) -> None:
    del h.readings[2].events[3]


@lie("readers miss nothing")
def a_reader_got_an_event_twice(h: History) -> None:
    h.readings[0].events.insert(7, h.readings[0].events[6])


@lie("readers miss nothing")
def a_reader_got_what_the_store_does_not_have(h: History) -> None:
    h.readings[0].events[2].id = "2-5"


@lie("readers miss nothing")
def a_reader_got_other_data(h: History) -> None:
    h.readings[0].events[2].data["message"] = "something else"


@lie("readers miss nothing")
def a_reader_never_saw_its_end(h: History) -> None:
    h.readings[0].done = False


@lie("readers miss nothing")
def a_stream_was_answered_with_503(h: History) -> None:
    h.readings[0].connections[1].status = 503


@lie("readers miss nothing")
def a_reader_was_reset_though_nothing_was_lost(h: History) -> None:
    shown = replay(begin(JOB, BODY), h.events[JOB][:9])
    h.readings[0].events[3:9] = [Delivered(2, "9-0", "reset", {"reason": "x", "job": shown})]


@lie("attempts have one holder")
def two_workers_had_the_same_attempt(h: History) -> None:
    h.attempts.append(Attempt(JOB, 2, 9))


@lie("attempts have one holder")
def an_attempt_ran_that_the_store_does_not_know(h: History) -> None:
    h.attempts.append(Attempt(JOB, 3, 9))


@lie("attempts have one holder")
def the_outcome_of_an_old_attempt_counted(h: History) -> None:
    h.attempts[0].outcome = "failed"


@lie("no encoder without its job")
def an_encoder_works_on_for_a_job_that_has_moved_on(h: History) -> None:
    for look in h.looks:
        look.running[JOB] = 3


@lie("no encoder without its job")
def something_is_left_in_the_end(h: History) -> None:
    h.left.append("work/0-job/1/video.mp4")


@lie("no job waits beside a free worker")
def a_job_waits_beside_a_free_worker(h: History) -> None:
    for look in h.looks:
        look.waiting = [Waiting(JOB, 0)]


@pytest.mark.parametrize("name", LIES)
def test_each_lie_is_found(name: str) -> None:
    rule, spoil = LIES[name]
    h = good()
    spoil(h)
    assert rule in {violation.rule for violation in check(h)}


def test_each_rule_has_a_lie_that_it_finds() -> None:
    # Those of the queue have theirs in test_queue_rules.py.
    own = [rule for rule in RULES if rule not in QUEUE_RULES]
    assert {rule for rule, _ in LIES.values()} == {rule.__name__.replace("_", " ") for rule in own}


def test_waiting_and_straying_count_only_while_nothing_disturbs() -> None:
    h = good()
    for look in h.looks:
        look.calm = False
        look.running[JOB] = 3
        look.waiting = [Waiting(JOB, 0)]
    assert check(h) == []
    for look in h.looks:
        look.calm, look.free = True, False
        look.encoders[0].held = True
    assert check(h) == []


# -- progress that was not kept ------------------------------------------------------------------------


def forget_progress(h: History) -> None:
    """As the store does at the end of a job: all but the newest."""
    stored = h.events[JOB]
    kept: list[Stored] = []
    gap = None
    for e in stored:
        if e.event == "progress" and e.id != "10-0":
            gap = gap or kept[-1].id
        else:
            e.kept, gap = gap, None
            kept.append(e)
    h.events[JOB] = kept


def test_progress_that_was_not_kept_may_have_been_seen_and_may_have_been_missed() -> None:
    h = good()
    forget_progress(h)
    assert check(h) == []
    everything, late = h.readings[:2]
    everything.events = [e for e in everything.events if e.id != "4-0"]
    late.events = [e for e in late.events if e.id != "8-0"]
    assert check(h) == [], "a snapshot may show what nobody else has seen"


@pytest.mark.parametrize("nobody_got_it", [True, False])
def test_a_state_may_show_progress_that_nobody_got_and_no_other(nobody_got_it: bool) -> None:
    h = good()
    shown = replay(begin(JOB, BODY), h.events[JOB][:9])
    forget_progress(h)
    shown["progress"]["message"] = "what nobody else was told"
    reading, *others = h.readings
    if nobody_got_it:
        for other in others:
            other.events = [e for e in other.events if e.id != "8-0"]
    reading.foreign = True
    reading.events[3:8] = [Delivered(2, "9-0", "reset", {"reason": "cursor_unknown", "job": shown})]
    assert ("rest is the replay" in {v.rule for v in check(h)}) != nobody_got_it


def test_what_was_not_kept_is_still_held_against_the_readers() -> None:
    h = good()
    forget_progress(h)
    at = next(i for i, e in enumerate(h.readings[0].events) if e.id == "8-0")
    h.readings[0].events[at] = replace(
        h.readings[0].events[at], data={**h.readings[0].events[at].data, "x": 1}
    )
    assert "readers miss nothing" in {v.rule for v in check(h)}, "two readers were told two things"
    h = good()
    forget_progress(h)
    strange = replace(h.readings[0].events[at], id="9-1")
    h.readings[0].events.insert(at + 2, strange)
    assert "readers miss nothing" in {v.rule for v in check(h)}, "it is where nothing was left out"
    h = good()
    forget_progress(h)
    h.events[JOB] = [e for e in h.events[JOB] if e.id != "9-0"]
    assert "chains are unbroken" in {v.rule for v in check(h)}


# -- a store that may have lost something ------------------------------------------------------------


def lossy() -> History:
    """A failover has taken away what followed the second event: the reader of `all` had seen more, was told
    so, and saw the rest as it came to be. The reader of `late` came after it."""
    h = good()
    h.lossy = True
    reader = h.readings[0]
    kept, rest = h.events[JOB][:2], h.events[JOB][2:]
    ghosts = [Delivered(1, f"2-{n}", "log", {"job": JOB, "attempt": 1, "message": "lost"}) for n in (1, 2)]
    state = replay(begin(JOB, BODY), kept)
    reset = Delivered(2, kept[-1].id, "reset", {"reason": "cursor_ahead", "job": state})
    reader.events = [*map(_delivered, kept), *ghosts, reset, *(_delivered(e, 2) for e in rest)]
    h.submissions.append(Submission("lost", BODY, [Answer(202, "0-lost")]))
    h.readings.append(Reading("lost", ["0-lost"], None, [Connection("0", 200), Connection("1-0", 404)]))
    return h


def test_what_was_lost_and_told_breaks_no_rule() -> None:
    assert check(lossy()) == []


def _says_nothing_of_the_loss(h: History) -> None:
    h.readings[0].events = [e for e in h.readings[0].events if e.event != "reset"]
    h.readings[0].done = False


def _the_feed_has_an_event_that_was_lost(h: History) -> None:
    h.readings[2].events.append(Delivered(1, "99-0", "log", {"job": JOB, "attempt": 2, "message": "lost"}))


def _misses_something_after_the_reset(h: History) -> None:
    h.readings[0].events = [e for e in h.readings[0].events if e.id != "7-0"]


def _is_reset_to_what_never_was(h: History) -> None:
    next(e for e in h.readings[0].events if e.event == "reset").data["job"]["state"] = "failed"


def _the_lost_job_stays_silent(h: History) -> None:
    h.readings[-1].connections = [Connection("0", 200)]


def _two_ends(h: History) -> None:
    h.events[JOB].append(Stored("14-0", "12-0", "end", h.events[JOB][-1].data))


@pytest.mark.parametrize(
    "damage",
    [
        _says_nothing_of_the_loss,
        _the_feed_has_an_event_that_was_lost,
        _misses_something_after_the_reset,
        _is_reset_to_what_never_was,
        _the_lost_job_stays_silent,
        _two_ends,
    ],
)
def test_a_loss_that_is_not_told_is_found(damage: Callable[[History], None]) -> None:
    h = lossy()
    damage(h)
    assert check(h) != []


def test_nothing_may_be_lost_by_a_store_that_loses_nothing() -> None:
    h = lossy()
    h.lossy = False
    rules = {violation.rule for violation in check(h)}
    assert {"submissions make one job", "readers miss nothing"} <= rules

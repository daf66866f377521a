"""What a reader is given from the store, page by page."""

from __future__ import annotations

from dataclasses import replace

import pytest

from headway.contract.events import ZERO, EventId
from headway.contract.pages import FeedSnapshot
from service.streaming.catchup import JobGone, cursor_fault
from service.streaming.store_reader import PAGE
from tests.support.engine import Engine
from tests.support.memory_store import RETENTION_MS
from tests.support.sse import Parser, seen

AT_ONCE = 20
"""Events of one job that a list of many jobs reads at once."""


@pytest.fixture
def engine() -> Engine:
    return Engine()


def given(frames: bytes) -> list[tuple[str, str]]:
    return seen(Parser().feed(frames))


@pytest.mark.parametrize(
    ("cursor", "kept", "ended", "fault"),
    [
        ("zero", 4, False, None),
        ("zero", 1, False, None),
        ("first", 4, False, None),
        ("first", 3, False, None),
        ("first", 2, False, "cursor_trimmed"),
        ("first", 1, True, "cursor_trimmed"),
        ("last", 1, False, None),
        ("last", 1, True, None),
        ("other job's, between", 5, False, "cursor_unknown"),
        ("other job's, after", 5, False, "cursor_unknown"),
        ("other job's, after", 5, True, None),
        ("ahead", 5, False, "cursor_ahead"),
        ("ahead", 5, True, "cursor_ahead"),
    ],
)
def test_a_cursor_is_good_if_nothing_after_it_is_missing(
    engine: Engine, cursor: str, kept: int, ended: bool, fault: str | None
) -> None:
    store = engine.store
    job_id, other = store.create(), store.create()
    first = store.history[0][1].id
    store.emit(job_id, "log")
    between = store.emit(other, "log").id
    store.emit(job_id, "log")
    last = store.emit(job_id, "end" if ended else "log").id
    after = store.emit(other, "log").id
    store.trim(job_id, kept)
    at = {
        "zero": ZERO,
        "first": first,
        "last": last,
        "other job's, between": between,
        "other job's, after": after,
        "ahead": EventId(store.clock.ms + 1, 0),
    }[cursor]
    (page,) = store.read_jobs([(job_id, at)], 100)
    assert page is not None
    assert cursor_fault(page, at) == fault
    assert engine.job(job_id).after(at).reset == fault


def test_a_job_that_has_ended_begins_with_its_state_before_the_end(engine: Engine) -> None:
    job_id = engine.store.create()
    end = engine.store.emit(job_id, "end")
    page = engine.job(job_id).start()
    assert given(page.frames) == [(str(end.prev), "snapshot"), (str(end.id), "end")]
    assert (page.cursor, page.closed) == (end.id, True)


def test_at_the_end_of_a_job_nothing_is_given_and_nothing_follows(engine: Engine) -> None:
    job_id = engine.store.create()
    end = engine.store.emit(job_id, "end").id
    page = engine.job(job_id).after(end)
    assert (page.frames, page.closed, page.cursor) == (b"", True, end)


@pytest.mark.parametrize("events", [PAGE - 1, PAGE, PAGE + 1])
def test_a_full_page_of_a_job_is_not_taken_for_its_last(engine: Engine, events: int) -> None:
    job_id = engine.store.create()
    for _ in range(events - 1):
        engine.store.emit(job_id, "log")
    catchup, cursor, got = engine.job(job_id), ZERO, 0
    while True:
        page = catchup.after(cursor)
        cursor, got = page.cursor, got + len(page.events)
        if page.complete:
            break
    assert (cursor, got) == (engine.store.clock, events)


def test_no_job_of_a_list_may_be_missing(engine: Engine) -> None:
    job_id = engine.store.create()
    with pytest.raises(JobGone, match="0-nobody"):
        engine.jobs(job_id, "0-nobody").start()
    with pytest.raises(JobGone, match="0-nobody"):
        engine.jobs(job_id, "0-nobody").after(ZERO)
    with pytest.raises(JobGone, match="0-nobody"):
        engine.job("0-nobody").after(ZERO)


def test_a_list_begins_with_snapshots_and_ends_in_the_order_of_their_ids(engine: Engine) -> None:
    store = engine.store
    one, two, three = store.create(), store.create(), store.create()
    end = store.emit(two, "end").id
    last = store.emit(one, "log").id
    page = engine.jobs(one, two, three, one).start()
    first = next(event.id for job_id, event in store.history if job_id == three)
    assert given(page.frames) == [(str(first), "snapshot"), (str(end), "end"), (str(last), "snapshot")]
    assert (page.cursor, page.lasts) == (last, (last, end, first))


def test_a_list_is_complete_only_up_to_where_the_first_full_page_stops(engine: Engine) -> None:
    store = engine.store
    jobs = [store.create() for _ in range(4 * PAGE // AT_ONCE)]
    for n in range(2 * AT_ONCE):
        store.emit(jobs[0], "log")
        store.emit(jobs[1 + n % 2], "log")
    catchup, cursor = engine.jobs(*jobs), ZERO
    got, pages = [], 0
    while True:
        page = catchup.after(cursor)
        got += [event.id for event in page.events]
        cursor, pages = page.cursor, pages + 1
        if page.complete:
            break
    assert got == [event.id for _, event in store.history]
    assert pages > 1


def test_a_list_resumes_from_an_event_of_any_of_its_jobs_and_of_no_other(engine: Engine) -> None:
    store = engine.store
    one, two, other = store.create(), store.create(), store.create()
    catchup = engine.jobs(one, two)
    at = store.emit(one, "log").id
    strange = store.emit(other, "log").id
    news = store.emit(two, "log").id
    assert [event.id for event in catchup.after(at).events] == [news]
    assert catchup.after(strange).reset == "cursor_unknown"
    assert catchup.after(EventId(store.clock.ms + 1, 0)).reset == "cursor_ahead"


def test_a_list_is_reset_if_any_of_its_jobs_was_trimmed_after_the_cursor(engine: Engine) -> None:
    store = engine.store
    one, two = store.create(), store.create()
    at = store.emit(one, "log").id
    store.emit(two, "log")
    store.emit(two, "log")
    store.trim(two, 1)
    page = engine.jobs(one, two).after(at)
    assert page.reset == "cursor_trimmed"
    assert given(page.frames) == [(str(store.clock), "reset")]
    assert engine.jobs(one, two).after(ZERO).reset is None, "0 asks for what is kept"


def test_a_feed_gives_what_it_keeps_and_of_each_running_job_the_newest_progress(engine: Engine) -> None:
    store = engine.store
    job_id, done = store.create("g"), store.create("g")
    at = store.clock
    store.emit(job_id, "progress")
    log = store.emit(job_id, "log").id
    store.emit(done, "progress")
    newest = store.emit(job_id, "progress").id
    end = store.emit(done, "end").id
    page = engine.feed("g").after(at)
    assert [event.id for event in page.events] == [log, newest, end]
    assert (page.cursor, page.complete) == (store.clock, True)


def test_progress_before_a_feeds_cursor_is_not_given_again(engine: Engine) -> None:
    job_id = engine.store.create("g")
    engine.store.emit(job_id, "progress")
    assert engine.feed("g").after(engine.store.clock).events == []


def test_a_full_page_of_a_feed_has_no_progress_yet(engine: Engine) -> None:
    """What is newer than the page would lead the cursor past what was not read."""
    store = engine.store
    job_id = store.create("g")
    for _ in range(PAGE):
        store.emit(job_id, "log")
    newest = store.emit(job_id, "progress").id
    page = engine.feed("g").after(ZERO)
    assert (len(page.events), page.complete, page.cursor) == (PAGE, False, page.events[-1].id)
    rest = engine.feed("g").after(page.cursor)
    assert [event.id for event in rest.events][-1] == newest
    assert rest.complete


def test_a_feed_whose_newest_event_is_an_end_still_tells_where_it_stands(engine: Engine) -> None:
    store = engine.store
    job_id = store.create("g")
    end = store.emit(job_id, "end").id
    page = engine.feed("g").start()
    assert given(page.frames) == []
    assert b"id: %s\n" % str(end).encode() in page.frames


def test_a_reader_that_has_caught_up_on_a_feed_stands_at_the_clock(engine: Engine) -> None:
    """Standing at the feed's last event, it would be reset once that event is older than the retention."""
    store = engine.store
    store.create("g")
    at = store.clock
    store.create("h")
    assert store.clock > at
    assert engine.feed("g").after(at).cursor == store.clock


@pytest.mark.parametrize(
    ("quiet_ms", "fault"),
    [(RETENTION_MS - 1, None), (RETENTION_MS, None), (RETENTION_MS + 1, "cursor_trimmed")],
)
def test_a_feed_that_has_expired_does_not_pretend_to_know_its_past(
    engine: Engine, quiet_ms: int, fault: str | None
) -> None:
    store = engine.store
    store.create("g")
    at = store.clock
    store.expire_feed("g")
    store.now_ms = at.ms + quiet_ms
    assert engine.feed("g").after(at).reset == fault


def test_a_feed_that_has_expired_and_then_had_progress_does_not_know_its_past_either(
    engine: Engine,
) -> None:
    store = engine.store
    job_id = store.create("g")
    at = store.clock
    missed = store.emit(job_id, "log").id
    store.expire_feed("g")
    store.emit(job_id, "progress")
    assert engine.feed("g").after(at).reset == "cursor_trimmed"
    assert engine.feed("g").after(missed).reset == "cursor_trimmed", (
        "it cannot know that nothing is missing"
    )
    assert engine.feed("g").after(store.clock).reset is None


def test_a_feed_is_reset_if_its_cursor_is_ahead_or_what_followed_was_trimmed(engine: Engine) -> None:
    store = engine.store
    job_id = store.create("g")
    at = store.clock
    for _ in range(3):
        store.emit(job_id, "log")
    feed = engine.feed("g")
    assert feed.after(EventId(store.clock.ms + 1, 0)).reset == "cursor_ahead"
    assert feed.after(at).reset is None
    store.trim_feed("g", 1)
    page = feed.after(at)
    assert page.reset == "cursor_trimmed"
    assert page.cursor == store.clock
    assert feed.after(ZERO).reset is None, "0 asks for what is kept"


def test_a_slow_reader_is_given_only_the_newest_progress_of_each_job(engine: Engine) -> None:
    store = engine.store
    one, two = store.create(), store.create()
    at = store.clock
    store.emit(one, "progress", data=b'{"job":"1","n":1}')
    other = store.emit(two, "progress", data=b'{"job":"2","n":1}').id
    log = store.emit(one, "log", data=b'{"job":"1","n":2}').id
    newest = store.emit(one, "progress", data=b'{"job":"1","n":3}').id
    page = engine.jobs(one, two).after(at).newest_progress()
    assert [event.id for event in page.events] == [other, log, newest]


def test_progress_that_an_ended_job_has_not_kept_is_a_place_to_resume_from(engine: Engine) -> None:
    store = engine.store
    job_id, other = store.create(), store.create()
    first = store.history[0][1].id
    dropped = [store.emit(job_id, "progress").id for _ in range(3)]
    log = store.emit(job_id, "log").id
    store.emit(other, "log")
    more = [store.emit(job_id, "progress").id for _ in range(2)]
    end = store.emit(job_id, "end").id
    rest = [log, more[1], end]
    for view in (engine.job(job_id), engine.jobs(job_id, other)):
        for cursor, expected in (
            *((at, rest) for at in (first, *dropped)),
            *((at, rest[1:]) for at in (log, more[0])),
            (more[1], [end]),
        ):
            page = view.after(cursor)
            got = [e.id for e in page.events if e.id in (first, *dropped, *more, *rest)]
            assert (page.reset, got) == (None, expected)
    assert [e.id for e in engine.job(job_id).after(ZERO).events] == [first, *rest]
    store.trim(job_id, 3)
    for view in (engine.job(job_id), engine.jobs(job_id, other)):
        assert view.after(first).reset is None, "nothing of it was trimmed but what had come"
    store.trim(job_id, 2)
    for view in (engine.job(job_id), engine.jobs(job_id, other)):
        assert view.after(dropped[1]).reset == "cursor_trimmed"
        assert view.after(log).reset is None


def test_an_id_beside_what_an_ended_job_has_not_kept_is_unknown(engine: Engine) -> None:
    store = engine.store
    job_id, other = store.create(), store.create()
    store.emit(job_id, "progress")
    store.emit(job_id, "log")
    strange = store.emit(other, "log").id
    store.emit(job_id, "progress")
    store.emit(job_id, "end")
    assert engine.job(job_id).after(strange).reset == "cursor_unknown"


def test_a_list_that_another_job_led_on_has_missed_nothing_when_progress_was_not_kept(
    engine: Engine,
) -> None:
    store = engine.store
    job_id, other = store.create(), store.create()
    store.emit(job_id, "progress")
    cursor = store.emit(other, "log").id
    store.emit(job_id, "progress")
    store.emit(job_id, "progress")
    store.emit(job_id, "end")
    page = engine.jobs(job_id, other).after(cursor)
    assert all(before <= cursor for before in page.befores)


@pytest.mark.parametrize("how", ["start", "reset"])
def test_a_feeds_state_that_is_read_over_a_while_misses_nothing_and_repeats_nothing(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    store = engine.store
    one, two, three = store.create("g"), store.create("g"), store.create("g")
    read = store.snapshot
    moment = store.clock

    def slowly(owner: str, group: str | None) -> FeedSnapshot:
        first = read(owner, group)
        store.emit(one, "log")
        store.emit(one, "progress")
        jobs = {page.id: page for page in read(owner, group).jobs}
        store.emit(one, "progress")
        store.emit(two, "log")
        store.emit(three, "end")
        jobs[two] = next(page for page in first.jobs if page.id == two)
        return replace(first, jobs=sorted([jobs[one], jobs[two]], key=lambda page: page.last))

    monkeypatch.setattr(store, "snapshot", slowly)
    feed = engine.feed("g")
    page = feed.start() if how == "start" else feed.reset("cursor_unknown")
    events = [event for job_id, event in store.history if event.id > moment]
    states = [str(event.id) for event in events]
    told = {
        "start": [(str(store.history[1][1].id), "snapshot"), (states[1], "snapshot")],
        "reset": [(str(moment), "reset")],
    }
    news = [(states[2], "progress"), (states[3], "log"), (states[4], "end")]
    assert given(page.frames) == told[how] + news
    assert (page.cursor, page.complete) == (store.clock, True)

"""Streams over the real web process: what a reader gets, whatever happens to it.

The jobs' events are written through the store here, as a worker would; tests/e2e has the real workers.
"""

from __future__ import annotations

import json
import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from headway.contract.encoding import dumps
from headway.contract.states import State
from headway.contract.store import Report
from tests.support.fake_worker import claim, create, log, progress, run_jobs, stored
from tests.support.sse import Reader, Seen, follow, seen
from tests.support.stack import STOP_S, Stack
from tests.support.wait import until

CAP = 50
LAST_OF_ALL = "-".join(2 * [str(2**64 - 1)])
"""The highest id that there could be: Redis cannot be asked what comes after it."""


@pytest.fixture(scope="module", params=["sockets", pytest.param("threads", marks=pytest.mark.long)])
def web(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Valkey and a web process, no worker: a test is the only one that works on its jobs. Once with the
    sockets handed over to the hub, once under another WSGI server, which iterates."""
    with Stack(
        tmp_path_factory.mktemp("web"), HEARTBEAT_S="0.3", DRAIN_S="1", EVENTS_PER_JOB="2000"
    ) as stack:
        stack.start_web(threads=request.param == "threads")
        yield stack


@pytest.fixture(scope="module")
def capped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The same with room for CAP events a job."""
    with Stack(tmp_path_factory.mktemp("capped"), EVENTS_PER_JOB=str(CAP), DRAIN_S="0") as stack:
        stack.start_web()
        yield stack


@pytest.fixture
def small(own_stack: Stack) -> Stack:
    """The same for one test, which may break it."""
    own_stack.start_web()
    return own_stack


def test_a_stream_begins_with_a_snapshot_follows_live_and_closes_after_the_end(web: Stack) -> None:
    job_id = create(web.store)
    with Reader(web.url, f"/jobs/{job_id}/events") as reader:
        assert reader.status == 200
        assert reader.headers["content-type"] == "text/event-stream"
        assert reader.headers["cache-control"] == "no-store, no-transform"
        assert reader.headers["x-accel-buffering"] == "no"
        (snapshot,) = reader.take(1)
        assert (snapshot.event, snapshot.data) == ("snapshot", web.document(job_id))
        assert snapshot.id == snapshot.data["last_event_id"]
        run_jobs(web.store, [job_id], 10, 0.01).join()
        rest = reader.until_end()
    assert seen(rest) == stored(web.store, job_id)[1:]
    assert rest[-1].data == web.document(job_id)
    assert reader.parser.retry_ms is not None


def test_a_stream_cut_200_times_gives_exactly_what_an_uncut_one_gives(web: Stack) -> None:
    job_id = create(web.store)
    uncut: list[Seen] = []
    with Reader(web.url, f"/jobs/{job_id}/events", "0") as reader:
        whole = threading.Thread(target=lambda: uncut.extend(reader.until_end()))
        whole.start()
        after_cuts = threading.Event()
        work = run_jobs(web.store, [job_id], 1000, 0.002, hold=after_cuts)
        cut = follow(
            web.url,
            f"/jobs/{job_id}/events",
            lambda got: got[-1].event == "end",
            cuts=200,
            longest_s=0.01,
            after_cuts=after_cuts,
        )
        work.join()
        whole.join(60)
    assert seen(cut) == seen(uncut) == stored(web.store, job_id)
    assert cut == uncut


def test_a_list_of_20_jobs_cut_200_times_misses_nothing_and_doubles_nothing(web: Stack) -> None:
    ids = [create(web.store) for _ in range(20)]
    path = "/events?" + "&".join(f"job={job_id}" for job_id in ids)
    after_cuts = threading.Event()
    work = run_jobs(web.store, ids, 80, 0.02, hold=after_cuts)

    def all_ended(events: list[Seen]) -> bool:
        return sum(e.event == "end" for e in events) == 20

    cut = follow(web.url, path, all_ended, cuts=200, longest_s=0.01, after_cuts=after_cuts)
    work.join()
    expected = sorted(
        (entry for job_id in ids for entry in stored(web.store, job_id)),
        key=lambda entry: tuple(map(int, entry[0].split("-"))),
    )
    assert seen(cut) == expected


def test_a_list_with_a_long_past_comes_in_order_page_by_page(web: Stack) -> None:
    ids = [create(web.store) for _ in range(4)]
    held = [claim(web.store, job_id) for job_id in ids]
    for batch in range(1, 11):
        # One job has far more events than the others: a page of it ends long before theirs do.
        web.store.append(held[batch % 3], batch, [log(batch)])
        web.store.append(held[3], batch, [log(n) for n in range(150)])
    path = "/events?last_event_id=0&" + "&".join(f"job={job_id}" for job_id in ids)
    expected = sorted(
        (entry for job_id in ids for entry in stored(web.store, job_id)),
        key=lambda entry: tuple(map(int, entry[0].split("-"))),
    )
    with Reader(web.url, path) as reader:
        assert seen(reader.take(len(expected))) == expected


@pytest.mark.parametrize("group", ["cut-feed", None])
def test_a_feed_cut_200_times_misses_nothing_but_superseded_progress(web: Stack, group: str | None) -> None:
    ids = [create(web.store, group=group) for _ in range(10)]
    path = f"/events?group={group}" if group else "/events"
    after_cuts = threading.Event()
    work = run_jobs(web.store, ids, 100, 0.02, hold=after_cuts)

    def all_ended(events: list[Seen]) -> bool:
        return len({e.data["id"] for e in events if e.event == "end" and e.data["id"] in ids}) == 10

    cut = follow(web.url, path, all_ended, cuts=200, longest_s=0.01, after_cuts=after_cuts)
    work.join()
    mine = [e for e in cut if (e.data.get("job") or e.data.get("id")) in ids]
    got = seen(mine)
    assert len(set(got)) == len(got)
    order = [tuple(map(int, i.split("-"))) for i, _ in got]
    assert order == sorted(order)
    must = sorted(
        (entry for job_id in ids for entry in stored(web.store, job_id) if entry[1] != "progress"),
        key=lambda entry: tuple(map(int, entry[0].split("-"))),
    )
    assert [entry for entry in got if entry[1] != "progress"] == must
    last_progress = {e.data["job"]: e.data["current"] for e in mine if e.event == "progress"}
    assert all(current > 1 for current in last_progress.values())


def test_a_job_that_ends_before_while_or_after_someone_connects_gives_its_end(web: Stack) -> None:
    count = 1000

    def once(n: int) -> bool:
        rng = random.Random(n)
        job_id = create(web.store)
        held = claim(web.store, job_id)
        kind = n % 3
        if kind == 0:
            web.store.end(held, State.SUCCEEDED)
            ender = None
        else:
            ender = threading.Timer(rng.uniform(0, 0.006) if kind == 1 else 0.03, web.store.end,
                                    (held, State.SUCCEEDED))  # fmt: skip
            ender.start()
        cursor = rng.choice([None, "0"])
        with Reader(web.url, f"/jobs/{job_id}/events", cursor) as reader:
            ends = [e for e in reader.until_end() if e.event == "end"]
        if ender is not None:
            ender.join()
        return len(ends) == 1 and ends[0].data["id"] == job_id

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(once, range(count))) == count


def test_a_reader_cut_off_between_snapshot_and_end_still_gets_the_end(web: Stack) -> None:
    job_id = create(web.store)
    web.store.end(claim(web.store, job_id), State.SUCCEEDED)
    with Reader(web.url, f"/jobs/{job_id}/events") as reader:
        snapshot, end = reader.until_end()
    assert (snapshot.event, end.event) == ("snapshot", "end")
    with Reader(web.url, f"/jobs/{job_id}/events", snapshot.id) as reader:
        assert reader.until_end() == [end]
    with Reader(web.url, f"/jobs/{job_id}/events", end.id) as reader:
        assert reader.status == 204


@pytest.mark.parametrize("ended", [False, True])
@pytest.mark.parametrize(
    "fault", ["trimmed", "of another job", "ahead", "snowman", "10 kB", "a word", "huge", "the last of all"]
)
def test_a_cursor_that_cannot_be_resumed_gets_reset_with_the_state(
    capped: Stack, fault: str, ended: bool
) -> None:
    job_id = create(capped.store)
    first = stored(capped.store, job_id)[0][0]
    other = stored(capped.store, create(capped.store))[0][0]
    held = claim(capped.store, job_id)
    capped.store.append(held, 1, [log(n) for n in range(2 * CAP if fault == "trimmed" else 3)])
    if ended:
        capped.store.end(held, State.SUCCEEDED)
    cursor = {
        "trimmed": first,
        "of another job": other,
        "ahead": "99999999999999-0",
        "snowman": "☃",
        "10 kB": "x1" * 5000,
        "a word": "latest",
        "huge": "99999999999999999999-99999999999999999999",
        "the last of all": LAST_OF_ALL,
    }[fault]
    with Reader(capped.url, f"/jobs/{job_id}/events", cursor) as reader:
        assert reader.status == 200
        (reset, *rest) = reader.take(2 if ended else 1)
    assert reset.event == "reset"
    assert reset.data["job"] == capped.document(job_id)
    assert reset.data["reason"].startswith("cursor_")
    if ended:
        assert [e.event for e in rest] == ["end"]
        assert rest[0].id == stored(capped.store, job_id)[-1][0]
    else:
        assert reset.id == stored(capped.store, job_id)[-1][0]


@pytest.mark.parametrize("path", ["/events?", "/events?job={job}&", "/events?group=g&"])
@pytest.mark.parametrize("cursor", ["☃", "99999999999999-0", LAST_OF_ALL])
def test_streams_of_many_jobs_reset_too(web: Stack, path: str, cursor: str) -> None:
    job_id = create(web.store, group="g")
    with Reader(web.url, path.format(job=job_id), cursor) as reader:
        (reset,) = reader.take(1)
    assert reset.event == "reset"
    assert job_id in [job["id"] for job in reset.data["jobs"]]
    web.store.cancel(job_id)


def test_a_feed_tells_how_far_a_job_came_that_waits_for_its_next_attempt(web: Stack) -> None:
    """Else its bar would stand where it was before the reader was cut off."""
    job_id = create(web.store, group="waits", max_attempts=2)
    held = claim(web.store, job_id)
    with Reader(web.url, "/events?group=waits") as reader:
        cursor = reader.take(1)[0].id
    web.store.append(held, 1, [progress(1)])
    web.store.append(held, 2, [progress(2)])
    web.store.retry(held, delay_s=60, reason="once more")
    with Reader(web.url, "/events?group=waits", cursor) as reader:
        newest, state = reader.take(2)
    assert (newest.event, newest.data["current"]) == ("progress", 2)
    assert (state.event, state.data["state"]) == ("state", "retrying")
    web.store.cancel(job_id)


def test_a_feed_whose_past_was_trimmed_resets(capped: Stack) -> None:
    with Reader(capped.url, "/events") as reader:
        until(lambda: reader.receive() or reader.parser.last_event_id)
    first = create(capped.store)
    cursor = stored(capped.store, first)[0][0]
    held = claim(capped.store, first)
    for batch in range(1, 8):
        capped.store.append(held, batch, [log(n) for n in range(100)])
    with Reader(capped.url, "/events", cursor) as reader:
        (reset,) = reader.take(1)
    assert (reset.event, reset.data["reason"]) == ("reset", "cursor_trimmed")


def test_zero_asks_for_everything_that_is_kept_even_after_trimming(capped: Stack) -> None:
    job_id = create(capped.store)
    held = claim(capped.store, job_id)
    capped.store.append(held, 1, [log(n) for n in range(2 * CAP)])
    capped.store.end(held, State.SUCCEEDED)
    with Reader(capped.url, f"/jobs/{job_id}/events?last_event_id=0") as reader:
        assert seen(reader.until_end()) == stored(capped.store, job_id)


@pytest.mark.parametrize("value", ["x", "%E2%98%83", "1-2-3", "-1", "1", "x" * 10_000])
def test_what_is_no_id_on_the_query_is_the_callers_mistake(web: Stack, value: str) -> None:
    job_id = create(web.store)
    for path in (f"/jobs/{job_id}/events?", "/events?", f"/events?job={job_id}&"):
        status, headers, body = web.call("GET", f"{path}last_event_id={value}")
        assert (status, headers["content-type"]) == (400, "application/problem+json")
        assert "last_event_id" in json.loads(body)["detail"]


def test_the_header_wins_over_the_query(web: Stack) -> None:
    job_id = create(web.store)
    run_jobs(web.store, [job_id], 4, 0).join()
    ids = [i for i, _ in stored(web.store, job_id)]
    with Reader(web.url, f"/jobs/{job_id}/events?last_event_id={ids[0]}", ids[3]) as reader:
        assert [e.id for e in reader.until_end()] == ids[4:]


def test_a_feed_without_live_jobs_still_hands_out_a_cursor(small: Stack) -> None:
    with Reader(small.url, "/events") as reader:
        until(lambda: reader.receive() or reader.parser.last_event_id == "0")
    job_id = create(small.store)  # it comes and goes while nobody is connected
    small.store.end(claim(small.store, job_id), State.SUCCEEDED)
    with Reader(small.url, "/events", "0") as reader:
        assert [e.event for e in reader.take(3)] == ["state", "state", "end"]


def test_a_list_begins_with_the_live_jobs_and_the_ends_of_the_others_in_order(web: Stack) -> None:
    ids = [create(web.store) for _ in range(4)]
    web.store.end(claim(web.store, ids[2]), State.SUCCEEDED)
    web.store.append(claim(web.store, ids[0]), 1, [log(1)])
    path = "/events?" + "&".join(f"job={job_id}" for job_id in ids)
    with Reader(web.url, path) as reader:
        events = reader.take(4)
    assert [(e.event, e.data["id"]) for e in events] == [
        ("snapshot", ids[1]),
        ("snapshot", ids[3]),
        ("end", ids[2]),
        ("snapshot", ids[0]),
    ]
    with Reader(web.url, path, events[1].id) as reader:
        again = reader.take(4)
    assert seen(again)[0][0] == stored(web.store, ids[2])[1][0]


def test_heartbeats_are_comments_or_events_without_an_id(web: Stack) -> None:
    job_id = create(web.store)
    with Reader(web.url, f"/jobs/{job_id}/events") as reader:
        reader.take(1)
        until(lambda: reader.receive() or reader.parser.comments >= 2)
    with Reader(web.url, f"/jobs/{job_id}/events?heartbeat=event") as reader:
        snapshot, first, second = reader.take(3)
    assert (first.event, second.event) == ("heartbeat", "heartbeat")
    assert first.id == snapshot.id
    assert web.call("GET", f"/jobs/{job_id}/events?heartbeat=x")[0] == 400


@pytest.mark.parametrize("threads", [False, True])
def test_a_reader_of_heartbeats_is_told_at_once_whether_it_is_behind(tmp_path: Path, threads: bool) -> None:
    """Long before a heartbeat is due: the stream that opened while the store was away is not trusted, and
    is as soon as it has caught up; so is the one that was open."""
    stack = Stack(tmp_path, HEARTBEAT_S="600", DRAIN_S="0")

    def said(reader: Reader, count: int) -> list[tuple[str, bool]]:
        return [(event.event, "behind" in event.data) for event in reader.take(count)]

    caught_up = [("snapshot", False), ("heartbeat", False)]
    try:
        stack.start_web(threads=threads)
        job_id = create(stack.store)
        path = f"/jobs/{job_id}/events?heartbeat=event"
        with Reader(stack.url, path) as early:
            assert said(early, 2) == caught_up
            os.kill(stack.valkey.process.pid, signal.SIGSTOP)
            try:
                with Reader(stack.url, path) as late:
                    assert said(late, 1) == said(early, 1) == [("heartbeat", True)]
                    os.kill(stack.valkey.process.pid, signal.SIGCONT)
                    assert said(late, 2) == caught_up
                    assert said(early, 1) == caught_up[1:]
            finally:
                os.kill(stack.valkey.process.pid, signal.SIGCONT)
    finally:
        stack.close()


def test_the_first_bytes_come_at_once(web: Stack) -> None:
    job_id = create(web.store)
    times = []
    for _ in range(20):
        before = time.perf_counter()
        with Reader(web.url, f"/jobs/{job_id}/events") as reader:
            reader.receive(1)
            times.append(time.perf_counter() - before)
    # Others may need the cores at the same time: not of every one is it the service's own time.
    assert sorted(times)[5] < 0.1


def test_unknown_jobs_are_404_in_every_form(web: Stack) -> None:
    known, unknown = create(web.store), "0-" + "x" * 22
    for path in (
        f"/jobs/{unknown}/events",
        "/jobs/rubbish/events",
        f"/events?job={known}&job={unknown}",
        "/events?job=rubbish",
    ):
        for accept in ("text/event-stream", "application/json"):
            status, headers, _ = web.call("GET", path, headers={"Accept": accept})
            assert (status, headers["content-type"]) == (404, "application/problem+json")


def test_polling_gives_the_same_events_in_pages_and_waits_for_new_ones(web: Stack) -> None:
    job_id = create(web.store)
    held = claim(web.store, job_id)
    web.store.append(held, 1, [log(n) for n in range(7)])
    json_only = {"Accept": "application/json"}
    got, cursor = [], "0"
    while True:
        status, page = web.get(f"/jobs/{job_id}/events?after={cursor}&limit=3", headers=json_only)
        assert (status, page["reset"]) == (200, None)
        assert len(page["events"]) <= 3
        got += [(e["id"], e["event"]) for e in page["events"]]
        cursor = page["cursor"]
        if not page["events"]:
            break
    assert got == stored(web.store, job_id)
    later = threading.Timer(0.2, web.store.end, (held, State.SUCCEEDED))
    later.start()
    page = web.get(f"/jobs/{job_id}/events?after={cursor}&wait=20", headers=json_only)[1]
    assert [e["event"] for e in page["events"]] == ["end"]
    before = time.monotonic()
    page = web.get(f"/jobs/{job_id}/events?after={page['cursor']}&wait=20", headers=json_only)[1]
    assert (page["events"], page["reset"]) == ([], None)
    assert time.monotonic() - before < 10, "nothing more can come"
    page = web.get(f"/jobs/{job_id}/events?after=99999999999999-0", headers=json_only)[1]
    assert page["reset"]["reason"] == "cursor_ahead"
    assert page["reset"]["job"]["id"] == job_id
    for bad in ("after=x", "limit=0", "limit=x", "wait=-1", "wait=nan", "limit=1e9"):
        assert web.get(f"/jobs/{job_id}/events?{bad}", headers=json_only)[0] == 400


def test_a_lost_redis_connection_loses_no_event(web: Stack) -> None:
    job_id = create(web.store)
    with Reader(web.url, f"/jobs/{job_id}/events", "0") as reader:
        work = run_jobs(web.store, [job_id], 150, 0.01)
        while work.is_alive():
            web.store.redis.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
            work.join(0.2)
        assert seen(reader.until_end()) == stored(web.store, job_id)


def test_an_end_that_falls_into_a_lost_connection_is_not_missed(web: Stack) -> None:
    for _ in range(10):
        job_id = create(web.store)
        held = claim(web.store, job_id)
        with Reader(web.url, f"/jobs/{job_id}/events", timeout=5) as reader:
            reader.take(1)
            # No later event could show the gap, and the audit would take longer than this waits.
            web.store.redis.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
            web.store.end(held, State.SUCCEEDED)
            assert [e.event for e in reader.until_end()] == ["end"]


def test_a_stream_outlives_a_restart_of_valkey_and_says_so_meanwhile(small: Stack) -> None:
    job_id = create(small.store)
    with Reader(small.url, f"/jobs/{job_id}/events", "0") as reader:
        reader.take(1)
        small.valkey.stop()
        until(lambda: small.get("/readyz")[0] == 503, what="readiness to say so")
        with Reader(small.url, f"/jobs/{job_id}/events", "0") as late:
            assert late.status == 200, "an error status would stop a browser for good"
            small.start_valkey()
            until(lambda: small.get("/readyz")[0] == 200, what="readiness to come back")
            run_jobs(small.store, [job_id], 4, 0).join()
            assert seen(late.until_end()) == stored(small.store, job_id)
        assert seen(reader.until_end()) == stored(small.store, job_id)[1:]


def test_a_store_that_lost_its_last_second_is_noticed_as_a_cursor_ahead(small: Stack) -> None:
    job_id = create(small.store)
    cursor = stored(small.store, job_id)[-1][0]
    small.store.redis.delete(small.store.keys.clock(0))  # as an older copy of the data would have it
    with Reader(small.url, f"/jobs/{job_id}/events", cursor) as reader:
        (reset,) = reader.take(1)
    assert (reset.event, reset.data["reason"]) == ("reset", "cursor_ahead")


@pytest.mark.long
def test_a_server_that_stops_says_shutdown_and_is_gone_in_time(small: Stack) -> None:
    job_id = create(small.store)
    with ExitStack() as opened:
        readers = [opened.enter_context(Reader(small.url, f"/jobs/{job_id}/events")) for _ in range(30)]
        for reader in readers:
            reader.take(1)
        assert small.stop("web", seconds=STOP_S) == 0
        goodbyes = [reader.until_end() for reader in readers]
    assert all([e.event for e in goodbye] == ["shutdown"] for goodbye in goodbyes)
    assert len({reader.parser.retry_ms for reader in readers}) > 10, "not all come back at once"


def test_readers_that_go_away_leave_no_subscription(web: Stack) -> None:
    job_ids = [create(web.store) for _ in range(20)]
    channels = [web.store.keys.events(job_id) for job_id in job_ids]

    def watched() -> int:
        return sum(n for _, n in web.store.redis.pubsub_shardnumsub(*channels))

    readers = [Reader(web.url, f"/jobs/{job_id}/events") for job_id in job_ids]
    for reader in readers:
        reader.take(1)
    assert watched() == 20
    for reader in readers:
        reader.close()
    until(lambda: watched() == 0, what="the hub to leave the topics")


def test_a_slow_reader_costs_others_nothing_and_gets_everything(web: Stack) -> None:
    job_id = create(web.store)
    path = f"/jobs/{job_id}/events"
    line = Report("log", dumps({"level": "info", "message": "x" * 8000}))
    with Reader(web.url, path, "0") as slow, Reader(web.url, path, "0") as fast:
        held = claim(web.store, job_id)
        for batch in range(1, 1500):
            web.store.append(held, batch, [line])
        web.store.end(held, State.SUCCEEDED)
        expected = stored(web.store, job_id)
        assert seen(fast.until_end()) == expected
        assert seen(slow.until_end()) == expected

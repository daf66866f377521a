"""headway.client where networks, proxies and servers fail it: a real service behind a real proxy."""

from __future__ import annotations

import http.server
import itertools
import os
import signal
import socket
import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from headway.client import BadAnswer, Client, ClientError, Event, Invalid, Unavailable, Unreachable, Watch
from headway.contract.states import State
from tests.support.fake_worker import claim, create, log, progress, stored
from tests.support.faulty_proxy import FaultyProxy, unavailable
from tests.support.sse import Reader
from tests.support.stack import Stack, free_port
from tests.support.wait import until


@pytest.fixture
def small(own_stack: Stack) -> Stack:
    """A service that a test may kill."""
    own_stack.start_web()
    return own_stack


@pytest.fixture
def door(lasting: Stack) -> Iterator[FaultyProxy]:
    with FaultyProxy(lasting.port) as door:
        yield door


class Watching:
    """A watch that is read in a thread: what it gave out, and how it ended."""

    def __init__(self, watch: Watch) -> None:
        self.watch = watch
        self.events: list[Event] = []
        self.error: ClientError | None = None
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        try:
            for event in self.watch:
                self.events.append(event)
        except ClientError as error:
            self.error = error

    @property
    def seen(self) -> list[tuple[str, str]]:
        return [(event.id, event.event) for event in self.events]

    def join(self) -> None:
        self._thread.join(60)
        assert not self._thread.is_alive()


# -- 503 ------------------------------------------------------------------------------------------------


def test_a_submission_waits_as_long_as_a_503_says_and_makes_one_job(stack: Stack) -> None:
    group = f"later-{time.time_ns()}"
    with FaultyProxy(stack.port) as door:
        door.refuse(unavailable(1))
        threading.Timer(0.5, door.refuse, [None]).start()
        job = Client(door.url).submit("simulate", {"duration_s": 0.1}, group=group)
    first, second = door.opened
    assert second - first >= 1
    assert [found["id"] for found in Client(stack.url).list(group=group)] == [job["id"]]


def test_a_store_that_is_nearly_full_is_unavailable_and_says_for_how_long(stack: Stack) -> None:
    redis = stack.store.redis
    before = redis.config_get("maxmemory")["maxmemory"]
    redis.config_set("maxmemory", redis.info("memory")["used_memory"])
    started = time.monotonic()
    try:
        with pytest.raises(Unavailable, match="nearly full") as raised:
            Client(stack.url).submit("simulate")
    finally:
        redis.config_set("maxmemory", before)
    assert raised.value.retry_after_s == 30
    assert time.monotonic() - started < 20, "beyond its patience it does not wait for it"


def test_a_watch_waits_out_a_503_at_its_beginning_and_in_its_middle(
    lasting: Stack, door: FaultyProxy
) -> None:
    told: list[str] = []
    door.refuse(unavailable(1))
    job_id = create(lasting.store)
    watching = Watching(
        Client(door.url).watch(job_id, cursor="0", lost=lambda error: told.append(str(error)))
    )
    until(lambda: isinstance(watching.watch.problem, Unavailable))
    assert watching.watch.status == "connecting"
    door.refuse(None)
    until(lambda: watching.events)
    assert door.opened[1] - door.opened[0] >= 1
    held = claim(lasting.store, job_id)
    until(lambda: len(watching.events) == 2)
    count = len(door.opened)
    door.refuse(unavailable(1))
    door.cut()
    until(lambda: len(door.opened) > count)
    lasting.store.append(held, 1, [log(1)])
    lasting.store.end(held, State.SUCCEEDED)
    until(lambda: isinstance(watching.watch.problem, Unavailable))
    assert watching.watch.status == "reconnecting"
    door.refuse(None)
    watching.join()
    assert watching.seen == stored(lasting.store, job_id)
    assert told[0] == "503 <h1>later</h1>"
    assert len(told) == 2, "once for each time without a connection"


# -- the server goes, and comes back --------------------------------------------------------------------


def test_a_server_that_is_stopped_says_so_and_the_next_one_is_read_on_from(small: Stack) -> None:
    job_id = create(small.store)
    watching = Watching(Client(small.url).watch(job_id, cursor="0"))
    until(lambda: watching.events)
    held = claim(small.store, job_id)
    small.store.append(held, 1, [progress(1), log(1)])
    with Reader(small.url, f"/jobs/{job_id}/events", "0") as reader:
        reader.take(4)
        small.stop("web", signal.SIGTERM)
        assert [event.event for event in reader.until_end()] == ["shutdown"]
    until(lambda: watching.watch.status == "reconnecting")
    small.store.append(held, 2, [log(2)])
    small.start_web()
    small.store.append(held, 3, [log(3)])
    small.store.end(held, State.SUCCEEDED)
    watching.join()
    assert watching.error is None
    assert watching.seen == stored(small.store, job_id)


@pytest.mark.long
def test_a_watch_through_five_kills_gives_each_of_the_stores_events_once(small: Stack) -> None:
    held = [claim(small.store, create(small.store)) for _ in range(3)]
    watchings = [Watching(Client(small.url).watch(c.ref.id, cursor="0")) for c in held]
    steps = itertools.count(1)

    def happen(times: int) -> None:
        for n in itertools.islice(steps, times):
            for c in held:
                small.store.append(c, n, [progress(n) if n % 2 else log(n)])

    for _ in range(5):
        until(
            lambda: all(
                w.seen == stored(small.store, c.ref.id) for w, c in zip(watchings, held, strict=True)
            )
        )
        happen(3)
        small.stop("web", signal.SIGKILL)
        happen(3)
        small.start_web()
        happen(2)
    for watching, c in zip(watchings, held, strict=True):
        small.store.end(c, State.SUCCEEDED)
        watching.join()
        assert watching.seen == stored(small.store, c.ref.id)


def test_a_watch_gives_up_and_another_goes_on_from_its_cursor(lasting: Stack, door: FaultyProxy) -> None:
    job_id = create(lasting.store)
    held = claim(lasting.store, job_id)
    watching = Watching(Client(door.url).watch(job_id, cursor="0", give_up_s=1.5))
    until(lambda: len(watching.events) == 2)
    door.close()
    watching.join()
    assert isinstance(watching.error, Unreachable)
    assert str(watching.error).startswith("gave up after ")
    assert watching.watch.status == "closed"
    lasting.store.append(held, 1, [log(1)])
    lasting.store.end(held, State.SUCCEEDED)
    rest = Client(lasting.url).watch(job_id, cursor=watching.watch.cursor, timeout_s=30)
    assert watching.seen + [(e.id, e.event) for e in rest] == stored(lasting.store, job_id)


def test_a_service_that_was_never_there_is_given_up_at_once_and_one_that_never_answers_in_time() -> None:
    with pytest.raises(Unreachable, match="does not answer"):
        next(Client(f"http://127.0.0.1:{free_port()}").watch("x", give_up_s=30))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        watch = Client(f"http://127.0.0.1:{silent.getsockname()[1]}").watch("x", give_up_s=0.5)
        started = time.monotonic()
        with pytest.raises(Unreachable):
            next(watch)
        assert 0.4 < time.monotonic() - started < 20


def test_a_history_that_was_trimmed_meanwhile_is_a_reset_and_the_watch_goes_on(
    lasting: Stack, door: FaultyProxy
) -> None:
    job_id = create(lasting.store)
    held = claim(lasting.store, job_id)
    watching = Watching(Client(door.url).watch(job_id, cursor="0"))
    until(lambda: len(watching.events) == 2)
    door.refuse(unavailable(None))
    door.cut()
    for n in range(1, 300):  # of which 50 are kept
        lasting.store.append(held, n, [log(n)])
    door.refuse(None)
    until(lambda: len(watching.events) == 3)
    lasting.store.append(held, 300, [log(300)])
    lasting.store.end(held, State.SUCCEEDED)
    watching.join()
    _, _, reset, after, end = watching.events
    assert (reset.event, reset.data["reason"], reset.data["job"]["id"]) == (
        "reset",
        "cursor_trimmed",
        job_id,
    )
    assert (after.data["message"], end.event) == ("line 300", "end")
    assert [reset.id, *[event.id for event in (after, end)]] == [
        e for e, _ in stored(lasting.store, job_id)[-3:]
    ]


def test_a_job_that_ended_with_a_trimmed_history_ends_the_watch(lasting: Stack, door: FaultyProxy) -> None:
    ids = [create(lasting.store) for _ in range(2)]
    held = [claim(lasting.store, job_id) for job_id in ids]
    one, both = (Watching(Client(door.url).watch(jobs, cursor="0")) for jobs in (ids[0], ids))
    until(lambda: len(one.events) == 2 and len(both.events) == 4)
    door.refuse(unavailable(None))
    door.cut()
    for n in range(1, 200):
        lasting.store.append(held[0], n, [log(n)])
    for c in held:
        lasting.store.end(c, State.SUCCEEDED)
    door.refuse(None)
    for watching in (one, both):
        watching.join()
        assert watching.error is None
        assert "reset" in [event.event for event in watching.events]
    last = one.events[-1]
    ended = last.data["job"] if last.event == "reset" else last.data
    assert ended["state"] == "succeeded"


def test_a_watch_that_is_closed_among_many_events_is_gone_on_from_the_last_one_given_out(
    lasting: Stack,
) -> None:
    job_id = create(lasting.store)
    held = claim(lasting.store, job_id)
    lasting.store.append(held, 1, [log(n) for n in range(20)])
    lasting.store.end(held, State.SUCCEEDED)
    got: list[tuple[str, str]] = []
    cursor: str | None = "0"
    while len(got) < 23:  # three at a time, of what comes in one piece
        with Client(lasting.url).watch(job_id, cursor=cursor, timeout_s=30) as watch:
            got += [(event.id, event.event) for event in itertools.islice(watch, 3)]
        assert watch.status == "closed"
        cursor = watch.cursor
    assert got == stored(lasting.store, job_id)


# -- answers that get lost ------------------------------------------------------------------------------


@pytest.fixture
def ended(stack: Stack) -> str:
    job = stack.submit("simulate", {"duration_s": 0.1}, group=f"ended-{time.time_ns()}")
    return str(stack.wait_ended(job["id"])["id"])


@pytest.mark.parametrize("lost", [1, 2])
def test_a_submission_whose_answer_was_lost_is_repeated_and_makes_one_job(stack: Stack, lost: int) -> None:
    group = f"lost-{time.time_ns()}"
    with FaultyProxy(stack.port) as door:
        door.lose(lost)
        job = Client(door.url).submit("simulate", {"duration_s": 0.1}, group=group)
    assert len(door.opened) == lost + 1
    assert [found["id"] for found in Client(stack.url).list(group=group)] == [job["id"]]


def test_a_retry_whose_answer_was_lost_is_repeated_and_makes_one_job(stack: Stack, ended: str) -> None:
    client = Client(stack.url)
    with FaultyProxy(stack.port) as door:
        door.lose(1)
        job = Client(door.url).retry(ended)
    assert len(door.opened) == 2
    found = list(client.list(group=job["group"]))
    assert [one["id"] for one in found] == [job["id"], ended]
    assert job["retry_of"] == ended


def test_a_key_of_ones_own_makes_one_job_over_the_end_of_the_process(stack: Stack, ended: str) -> None:
    client, key = Client(stack.url), f"key-{time.time_ns()}"
    calls: list[Callable[[], str]] = [
        lambda: client.submit("simulate", {"duration_s": 0.1}, key=key)["id"],
        lambda: client.retry(ended, key=f"{key}-again")["id"],
    ]
    for call in calls:
        assert call() == call()
    with pytest.raises(Invalid, match="used with another request"):
        client.submit("simulate", {"duration_s": 0.2}, key=key)


# -- files ----------------------------------------------------------------------------------------------


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """As large as it says, and nothing on the disk."""
    path = tmp_path / "large"
    with path.open("wb") as file:
        file.truncate(200_000_000)
    return path


def test_a_file_that_is_too_large_is_refused_while_it_goes_up(own_stack: Stack, large: Path) -> None:
    own_stack.environ["MAX_UPLOAD_BYTES"] = "1000000"
    own_stack.start_web()
    steps = [0]
    with pytest.raises(Invalid, match="larger than 1000000 bytes") as raised:
        Client(own_stack.url).upload(large, progress=lambda done, _: steps.append(done))
    assert raised.value.status == 413
    assert steps[-1] < 100_000_000, "it stopped sending"
    uploads = own_stack.directory / "uploads"
    until(lambda: not uploads.exists() or not list(uploads.iterdir()), what="nothing to be kept")
    large.write_bytes(b"x")
    assert Client(own_stack.url).upload(large)["size"] == 1


def test_an_upload_that_is_cut_is_sent_again_from_its_beginning(
    lasting: Stack, door: FaultyProxy, large: Path
) -> None:
    cut = [False]

    def cut_once(done: int, total: int) -> None:
        if not cut[0] and done > total / 10:
            cut[0] = True
            door.cut()

    os.truncate(large, 20_000_000)
    sent = Client(door.url).upload(large, progress=cut_once)
    assert cut == [True]
    assert sent["size"] == 20_000_000


def test_what_is_no_file_to_send_is_said_at_once(stack: Stack, tmp_path: Path) -> None:
    client = Client(stack.url)
    with pytest.raises(FileNotFoundError):
        client.upload(tmp_path / "nothing")
    os.mkfifo(tmp_path / "pipe")
    for path, kind in ((tmp_path, "a directory"), (tmp_path / "pipe", "not a regular file")):
        with pytest.raises(ClientError, match=f"cannot upload {path}: it is {kind}"):
            client.upload(path)
    shrinking = tmp_path / "shrinking"
    shrinking.write_bytes(b"x" * 1_000_000)
    with pytest.raises(ClientError, match="became shorter"):
        client.upload(shrinking, progress=lambda _, __: os.truncate(shrinking, 100_000))


# -- what is kept ---------------------------------------------------------------------------------------


class PlainServer(http.server.BaseHTTPRequestHandler):
    """A web server that is no Headway: 404 for every GET, 501 for every other method."""

    def do_GET(self) -> None:
        self.send_error(404)

    def log_message(self, *_: object) -> None:
        pass


class NoHttp(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        self.request.sendall(b"SSH-2.0-OpenSSH_9.6\r\n")
        self.request.recv(4096)


@pytest.mark.parametrize(
    ("handler", "ask", "words"),
    [
        (PlainServer, lambda client: client.types(), "404 Not Found"),
        (PlainServer, lambda client: client.submit("simulate"), "501 Unsupported method"),
        (PlainServer, lambda client: next(client.watch("x")), "404 Not Found"),
        (NoHttp, lambda client: client.types(), "it does not speak HTTP"),
    ],
)
def test_a_server_that_is_no_headway_is_one_clear_line_at_once(handler: Any, ask: Any, words: str) -> None:
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}"
        started = time.monotonic()
        with pytest.raises(BadAnswer, match=f"^{url} is not a Headway: {words}"):
            ask(Client(url))
        assert time.monotonic() - started < 5
        server.shutdown()


def test_the_events_that_are_kept_are_given_without_waiting_page_by_page(
    lasting: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    import headway.client.calls

    monkeypatch.setattr(headway.client.calls, "EVENTS_PAGE", 7)
    job_id = create(lasting.store)
    held = claim(lasting.store, job_id)
    for n in range(1, 20):
        lasting.store.append(held, n, [log(n)])
    client, expected = Client(lasting.url), stored(lasting.store, job_id)
    got = [(event.id, event.event) for event in client.events(job_id)]
    assert got == expected
    assert [event.id for event in client.events(job_id, cursor=got[9][0])] == [e for e, _ in expected[10:]]
    assert [event.data["message"] for event in client.logs(job_id)] == [f"line {n}" for n in range(1, 20)]
    for n in range(20, 200):
        lasting.store.append(held, n, [log(n)])
    first, *rest = client.events(job_id, cursor=got[3][0])
    assert (first.event, first.data["reason"], rest) == ("reset", "cursor_trimmed", [])
    with pytest.raises(ClientError, match="is not a cursor"):
        next(client.events(job_id, cursor="x"))

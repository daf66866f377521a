"""How long the client waits, and for what: with a clock and a chance of the test's own."""

from __future__ import annotations

import contextlib
import io
import itertools
import random
from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace
from typing import Any

import pytest

import headway.client.blocking
import headway.client.retrying
import headway.client.upload
import headway.client.watch
from headway.client import Client, ClientError, Unavailable, Unreachable, retrying
from headway.client.blocking import BlockingTransport
from headway.client.driving import run
from headway.client.errors import problem
from headway.client.retrying import BASE_S, LIMIT_S, PATIENCE_S, TRANSFER_PATIENCE_S, Backoff
from headway.client.transport import Response


class Clock:
    """A time that passes only while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    for module in (headway.client.blocking, headway.client.retrying, headway.client.watch):
        monkeypatch.setattr(module, "time", clock)
    return clock


@pytest.fixture
def longest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chance always says the most that it may."""
    monkeypatch.setattr(headway.client.retrying, "_random", SimpleNamespace(uniform=lambda _, most: most))


def test_the_limit_of_a_wait_doubles_up_to_half_a_minute(longest: None) -> None:
    backoff = Backoff()
    assert [backoff.next_s() for _ in range(7)] == [1, 2, 4, 8, 16, 30, 30]
    backoff.reset()
    assert backoff.next_s() == BASE_S
    backoff.failures = 100_000
    assert backoff.next_s() == LIMIT_S


def test_the_wait_is_anywhere_below_its_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(headway.client.retrying, "_random", random.Random(11))
    for failures, limit in ((0, 1), (3, 8), (9, 30)):
        waits = []
        for _ in range(2000):
            backoff = Backoff()
            backoff.failures = failures
            waits.append(backoff.next_s())
        tenths = [sum(k * limit <= 10 * wait < (k + 1) * limit for wait in waits) for k in range(10)]
        assert sum(tenths) == len(waits)
        assert min(tenths) > 140, "none is rarer than another"


def test_what_gets_lost_is_asked_for_again_within_its_patience(clock: Clock, longest: None) -> None:
    def lost() -> None:
        raise Unreachable("x", sent=True)

    with pytest.raises(Unreachable):
        repeated(lost)
    assert clock.slept == [1, 2, 4, 8]
    assert sum(clock.slept) <= PATIENCE_S


def test_what_was_never_reached_is_not_asked_again_but_after_a_lost_answer_it_is(
    clock: Clock, longest: None
) -> None:
    sent = iter([False])
    with pytest.raises(Unreachable):
        repeated(lambda: _raise(Unreachable("x", sent=next(sent))))
    assert clock.slept == []
    sent = iter([True, False, False])  # it went down when it had the request
    with pytest.raises(RuntimeError, match="StopIteration"):  # there is no fourth
        repeated(lambda: _raise(Unreachable("x", sent=next(sent))))
    assert clock.slept == [1, 2, 4]


def test_retry_after_is_waited_for_and_not_beyond_the_patience(clock: Clock, longest: None) -> None:
    answers = iter([problem(503, b"", "7"), problem(503, b"", "30")])
    with pytest.raises(Unavailable) as raised:
        repeated(lambda: _raise(next(answers)))
    assert clock.slept == [7 + 1]
    assert raised.value.retry_after_s == 30


def test_a_transfer_that_took_an_hour_and_broke_off_goes_on_and_one_that_gains_nothing_does_not(
    clock: Clock, longest: None
) -> None:
    done = 0
    parts = itertools.chain([1, 1, 0, 1], itertools.repeat(0))

    def transfer() -> None:
        nonlocal done
        part = next(parts)
        clock.now += 3600 * part
        done += part
        # Refused, as the service is not back yet: it was there.
        raise Unreachable("x", sent=False)

    with pytest.raises(Unreachable):
        repeated(transfer, lambda: done)
    assert clock.slept[:6] == [1, 1, 2, 1, 2, 4]
    assert TRANSFER_PATIENCE_S - LIMIT_S < sum(clock.slept[3:]) <= TRANSFER_PATIENCE_S
    assert done == 3
    clock.slept.clear()
    with pytest.raises(Unreachable):
        repeated(transfer, lambda: 0)
    assert clock.slept == [], "it was never reached"


def _raise(error: Exception) -> None:
    raise error


def repeated(once: Callable[[], None], gained: Callable[[], int] | None = None) -> None:
    async def call() -> None:
        once()

    run(retrying.repeated(call, BlockingTransport("http://127.0.0.1:1").sleep, gained))


class Script(BlockingTransport):
    """A server that answers each request for a stream with the next of these: an error, or bytes."""

    def __init__(self, *answers: ClientError | bytes) -> None:
        super().__init__("http://127.0.0.1:1")
        self.answers = iter(answers)

    @contextlib.asynccontextmanager
    async def request(self, *_: Any, **__: Any) -> AsyncIterator[Response]:
        answer = next(self.answers)
        if isinstance(answer, ClientError):
            raise answer
        chunks = iter([answer, b""])

        async def read() -> bytes:
            return next(chunks)

        async def expect(_: int) -> None:
            pass

        headers = {"Content-Type": "text/event-stream"}
        yield SimpleNamespace(  # type: ignore[misc]
            status=200,
            expect=expect,
            header=headers.get,
            limit=lambda _: None,
            read=read,
        )


class Refusing(BlockingTransport):
    """A service that takes new uploads, and does with what comes after that as `then` says."""

    def __init__(self, then: Callable[[str], None]) -> None:
        super().__init__("http://127.0.0.1:1")
        self.then = then
        self.asked: list[str] = []

    @contextlib.asynccontextmanager
    async def request(self, method: str, *_: Any, **__: Any) -> AsyncIterator[Response]:
        self.asked.append(method)
        if method != "POST":
            self.then(method)

        async def expect(_: int) -> None:
            pass

        offset = "1" if method == "PATCH" else "0"
        headers = {"Location": "/uploads/x", "Tus-Resumable": "1.0.0", "Upload-Offset": offset}
        yield SimpleNamespace(status=200, expect=expect, header=headers.get)  # type: ignore[misc]

    def upload(self) -> None:
        run(headway.client.upload.upload(self, io.BytesIO(b"x"), 1, "x", lambda *_: None))


@pytest.mark.parametrize("sent", [True, False])
def test_an_upload_that_nobody_answers_is_given_up_after_five_minutes(
    clock: Clock, longest: None, sent: bool
) -> None:
    service = Refusing(lambda _: _raise(Unreachable("gone", sent=sent)))
    with pytest.raises(Unreachable):
        service.upload()
    assert TRANSFER_PATIENCE_S - LIMIT_S < sum(clock.slept) <= TRANSFER_PATIENCE_S


def test_an_upload_whose_bytes_are_all_refused_is_given_up_after_five_minutes(
    clock: Clock, longest: None
) -> None:
    def refuse(method: str) -> None:
        if method == "PATCH":
            raise Unreachable("refused", sent=False)

    with pytest.raises(Unreachable):
        Refusing(refuse).upload()
    assert TRANSFER_PATIENCE_S - LIMIT_S < sum(clock.slept) <= TRANSFER_PATIENCE_S


def test_the_time_in_which_an_upload_sends_does_not_count(clock: Clock, longest: None) -> None:
    service = Refusing(lambda _: None)

    def break_off(method: str) -> None:
        if method == "PATCH" and service.asked.count("PATCH") < 4:
            clock.now += 3600
            raise Unreachable("gone", sent=True)
        if method == "GET":
            raise ClientError("complete")

    service.then = break_off
    with pytest.raises(ClientError, match="complete"):
        service.upload()


def watch(*answers: ClientError | bytes, **more: Any) -> headway.client.watch.Watch:
    return headway.client.watch.Watch(Script(*answers), **more)


def test_a_watch_comes_back_ever_more_rarely_while_nothing_comes(clock: Clock, longest: None) -> None:
    gone = Unreachable("gone", sent=False)
    with pytest.raises(RuntimeError):  # the script is at its end
        list(watch(b"retry: 1500\n\nevent: heartbeat\ndata: {}\n\n", *[gone] * 7, b"", b""))
    # First what the server asked for; then doubling, and a connection that brings nothing is a failure too.
    assert clock.slept == [1.5, 2, 4, 8, 16, 30, 30, 30, 30, 30]


def test_an_event_begins_the_waits_anew(clock: Clock, longest: None) -> None:
    gone = Unreachable("gone", sent=False)
    event = b"id: 1-0\nevent: log\ndata: {}\n\n"
    with pytest.raises(RuntimeError):
        list(watch(event, gone, gone, event, gone))
    assert clock.slept == [1, 2, 4, 1, 2]


def test_a_server_that_was_there_a_moment_ago_is_waited_for_and_another_one_is_not(
    clock: Clock, longest: None
) -> None:
    refused, reset = Unreachable("refused", sent=False), Unreachable("reset", sent=True)
    with pytest.raises(Unreachable):
        next(watch(refused))
    assert clock.slept == []
    with pytest.raises(Unreachable, match="refused"):
        next(watch(reset, *[refused] * 9))
    assert clock.slept == [1, 2, 4, 8, 16]
    clock.slept.clear()
    event = b"id: 1-0\nevent: log\ndata: {}\n\n"
    assert next(watch(reset, refused, event)).id == "1-0"


def test_a_503_is_left_alone_for_as_long_as_it_says_but_not_for_ever(clock: Clock, longest: None) -> None:
    later, much_later = problem(503, b"", "9"), problem(503, b"", "999999999")
    with pytest.raises(RuntimeError):
        list(watch(later, much_later, problem(502, b"", None)))
    assert clock.slept == [9 + 1, 300 + 2, 4]


def test_a_watch_gives_up_when_the_next_try_would_be_too_late(clock: Clock, longest: None) -> None:
    told: list[str] = []
    gone = Unreachable("gone", sent=False)
    watched = watch(
        b"event: heartbeat\ndata: {}\n\n", *[gone] * 9, give_up_s=10, lost=lambda e: told.append(str(e))
    )
    with pytest.raises(Unreachable, match="gave up after 7 s: gone"):
        next(watched)
    assert clock.slept == [1, 2, 4]
    assert told == ["gone"]
    assert watched.status == "closed"


@pytest.mark.parametrize(
    "url",
    [
        "",
        "127.0.0.1:8000",
        "ftp://x",
        "http://",
        "http://x:99999",
        "http://a b",
        "http://x/\n",
        "http://u@x",
        "http://x?y",
        "http://é",
    ],
)
def test_what_is_no_url_of_a_service_is_said_at_once(url: str) -> None:
    with pytest.raises(ClientError, match="is not the URL of a Headway"):
        BlockingTransport(url)


@pytest.mark.parametrize(
    "user", ["u:s3cret@", ":s3cret@", "u:s3/cret@", "u:s3?cret@", "u:s3#cret@", "u/s3cret@"]
)
def test_a_password_in_the_url_is_refused_and_not_shown(user: str) -> None:
    with pytest.raises(ClientError) as refused:
        BlockingTransport(f"http://{user}127.0.0.1:1")
    assert "s3" not in str(refused.value)
    assert "cret" not in str(refused.value)


def test_a_host_that_cannot_be_one_is_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Unreachable, match="does not answer"):
        Client(f"http://{'a' * 70}.example").types()

"""Requests that are sent slowly or without end, perhaps on purpose: nobody else waits for them."""

from __future__ import annotations

import select
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from service.api.gate import ALWAYS
from service.process.request_head import MAX_UNFINISHED_BYTES
from tests.support import credentials
from tests.support.manual_jobs import running_by_hand
from tests.support.sse import Reader
from tests.support.stack import Stack
from tests.support.wait import until

HEAD_TIMEOUT_S, BODY_TIMEOUT_S = 6, 3
HEAD = (
    b"POST /uploads HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n%s\r\n"
    % credentials.LINE.encode()
)


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    limits = {
        "HEAD_TIMEOUT_S": str(HEAD_TIMEOUT_S),
        "BODY_TIMEOUT_S": str(BODY_TIMEOUT_S),
        "MAX_REQUEST_HEADER_BYTES": "8192",
    }
    with Stack(tmp_path_factory.mktemp("slow"), DRAIN_S="0", **limits) as stack:
        stack.start_web()
        yield stack


def connect(stack: Stack) -> socket.socket:
    sock = socket.create_connection(("127.0.0.1", stack.port), timeout=60)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def alive(sock: socket.socket) -> bool:
    sock.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
    data = b""
    while not data.endswith(b"}"):
        data += sock.recv(1000) or b"}"
    return data.startswith(b"HTTP/1.1 200")


def closed(sock: socket.socket) -> bool:
    try:
        return sock.recv(1000) == b""
    except ConnectionError:
        return True


def drip(socks: list[socket.socket], seconds: float) -> None:
    """A byte each half second, to those that still take one."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        for sock in list(socks):
            try:
                sock.send(b"a")
            except OSError:
                socks.remove(sock)
        time.sleep(0.5)


def test_slow_heads_and_bodies_are_cut_off_and_keep_nobody_waiting(web: Stack) -> None:
    before = web.uploads()
    with ExitStack() as opened:
        heads = [opened.enter_context(connect(web)) for _ in range(50)]
        bodies = [opened.enter_context(connect(web)) for _ in range(50)]
        idle, second = opened.enter_context(connect(web)), opened.enter_context(connect(web))
        assert alive(idle)
        assert alive(second)
        heads.append(second)
        for sock in heads:
            sock.sendall(b"GET /jobs HTTP/1.1\r\nHost: localhost\r\nX-Slow: ")
        for sock in bodies:
            sock.sendall(HEAD + b"\r\n")
        assert web.get("/healthz")[0] == 200
        drip([*heads, *bodies], BODY_TIMEOUT_S + 1)
        assert not _answered(heads)
        for sock in bodies:
            answer = sock.recv(1000)
            assert answer.startswith(b"HTTP/1.1 408")
            assert b"nothing was kept" in answer
        drip(heads, HEAD_TIMEOUT_S)
        assert not heads
        # One that only waits before its next request is none of them.
        assert alive(idle)
    assert "Traceback" not in web.log("web")
    assert web.uploads() == before


def test_a_body_that_comes_slowly_but_steadily_is_taken(web: Stack) -> None:
    with connect(web) as sock:
        sock.sendall(HEAD.replace(b"1000000", b"30000") + b"\r\n")
        for _ in range(30):
            sock.sendall(b"a" * 1000)
            time.sleep(0.1 + BODY_TIMEOUT_S / 30)
        assert sock.recv(1000).startswith(b"HTTP/1.1 201")


@pytest.mark.parametrize(
    ("line", "fields", "status"),
    [(2, 2, b"404"), (40_000, 2, b"404"), (41_000, 2, b"414"), (2, 4000, b"404"), (2, 4100, b"431")],
)
def test_a_head_may_be_as_large_as_the_settings_say(
    web: Stack, line: int, fields: int, status: bytes
) -> None:
    with connect(web) as sock:
        sock.sendall(b"GET /%s HTTP/1.1\r\nHost: localhost\r\nX: %s\r\n\r\n" % (b"a" * line, b"x" * fields))
        assert _status(sock) == status


@pytest.mark.parametrize(
    ("head", "piece"),
    [
        (b"POST /jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999\r\n\r\n", b"a" * 600_000),
        (
            b"POST /jobs HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"1\r\na\r\n" * 100_000,
        ),
        (b"", b"GET /jobs HTTP/1.1\r\nHost: localhost\r\n\r\n" * 1000),
    ],
    ids=["a body", "a body of tiny chunks", "requests"],
)
def test_nobody_waits_for_one_who_sends_without_end(web: Stack, head: bytes, piece: bytes) -> None:
    flooding_s = 4

    def flood(sock: socket.socket) -> None:
        with suppress(OSError):
            sock.sendall(head)
            while time.monotonic() < began + flooding_s:
                sock.sendall(piece)

    def read(sock: socket.socket) -> None:
        with suppress(OSError):
            while sock.recv(1 << 20):
                pass

    with connect(web) as sock:
        began = time.monotonic()
        for work in (flood, read):
            threading.Thread(target=work, args=(sock,), daemon=True).start()
        time.sleep(0.5)
        asked = time.monotonic()
        assert web.get("/healthz")[0] == 200
        # On a quiet machine it takes 20 ms; without turns, as long as the flood lasts.
        assert time.monotonic() - asked < flooding_s / 2


def test_unfinished_heads_take_a_bounded_memory_and_a_request_beside_them_is_served(web: Stack) -> None:
    line = b"GET /" + b"a" * 40_000
    with ExitStack() as opened:
        socks = [opened.enter_context(connect(web)) for _ in range(MAX_UNFINISHED_BYTES // len(line) + 50)]
        for sock in socks:
            with suppress(ConnectionError):
                sock.sendall(line)
        assert web.get("/jobs")[0] == 200
        refused = until(lambda: len(found := _answered(socks)) >= 40 and found, what="some to be refused")
        assert all(_status(sock) == b"503" for sock in refused)
        socks = [sock for sock in socks if sock not in refused]
        for sock in socks:
            with suppress(ConnectionError):
                sock.sendall(b" HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert sum(_status(sock) == b"404" for sock in socks) > 100


def _answered(socks: list[socket.socket]) -> list[socket.socket]:
    """Those that have something to read."""
    poll = select.poll()
    by_fd = {sock.fileno(): sock for sock in socks}
    for fd in by_fd:
        poll.register(fd, select.POLLIN)
    return [by_fd[fd] for fd, _ in poll.poll(0)]


def _status(sock: socket.socket) -> bytes:
    with suppress(ConnectionError):
        return sock.recv(5000)[9:12]
    return b""


def test_an_address_that_opens_connections_without_end_is_refused_the_next_and_served_again_later(
    tmp_path: Path,
) -> None:
    limits = {"MAX_CONNECTIONS_PER_CALLER": "5", "TRUSTED_PROXIES": "10.1.2.3"}
    with Stack(tmp_path, DRAIN_S="0", **limits) as stack, ExitStack() as opened:
        stack.start_web()
        claim = running_by_hand(stack)
        watched = f"/jobs/{claim.ref.id}/events"
        readers = [opened.enter_context(Reader(stack.url, watched)) for _ in range(8)]
        assert [reader.status for reader in readers] == [200] * 8, "streams have a limit of their own"
        idle = [opened.enter_context(connect(stack)) for _ in range(5)]
        assert all(alive(sock) for sock in idle)
        with connect(stack) as sixth:
            answer = sixth.recv(5000)
            assert answer.startswith(b"HTTP/1.1 429 ")
            assert b"\r\nRetry-After: 10\r\n" in answer
            assert all(f"\r\n{name}: {value}\r\n".encode() in answer for name, value in ALWAYS)
            assert b"MAX_CONNECTIONS_PER_CALLER" in answer
            assert closed(sixth)
        idle.pop().close()

        def served() -> bool:
            with connect(stack) as sock, suppress(OSError):
                return alive(sock)
            return False

        until(served, what="the place of a closed connection to be free")

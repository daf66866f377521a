"""Heads of requests that come in pieces, given to gunicorn's own parser."""

from __future__ import annotations

from typing import Any

import pytest
from gunicorn.config import Config
from gunicorn.http.errors import LimitRequestHeaders, LimitRequestLine, NoMoreData, ParseException
from gunicorn.http.message import Request
from gunicorn.http.unreader import IterUnreader

from service.process import request_head
from service.process.request_head import BoundedRequest, TooManyUnfinished

MAX_LINE_BYTES, MAX_FIELDS_BYTES = 40_960, 24_576
HEAD = b"GET /jobs?" + b"job=a&" * 5000 + b" HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 8000 + b"\r\n\r\n"


class Pieces(IterUnreader):  # type: ignore[misc]
    """A connection on which these pieces come."""

    sock = None

    def __init__(self, data: bytes, size: int) -> None:
        super().__init__(data[i : i + size] for i in range(0, len(data), size))


def read(data: bytes, size: int) -> BoundedRequest:
    config = Config()
    config.set("limit_request_field_size", MAX_FIELDS_BYTES // 2)
    return BoundedRequest(config, Pieces(data, size), ("127.0.0.1", 1))


@pytest.fixture(autouse=True)
def line_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gunicorn.http.message.MAX_REQUEST_LINE", MAX_LINE_BYTES)
    monkeypatch.setattr(Config, "limit_request_line", MAX_LINE_BYTES, raising=False)


@pytest.mark.parametrize("size", [1, 7, 4096, 1 << 20])
def test_every_byte_of_a_head_is_looked_at_once_and_parsed_once(
    monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    looked_at, parsed = [], []
    end, parse = request_head._end, Request.parse

    def counted(head: bytes, begin: int) -> int:
        looked_at.append(len(head) - begin)
        return end(head, begin)

    def seen(request: Any, unreader: Any) -> Any:
        parsed.append(unreader.buf.getvalue())
        return parse(request, unreader)

    monkeypatch.setattr(request_head, "_end", counted)
    monkeypatch.setattr(Request, "parse", seen)
    request = read(HEAD + b"the body", size)
    assert (request.method, len(request.query), len(request.headers)) == ("GET", 30_000, 2)
    assert len(HEAD) <= sum(looked_at) <= len(HEAD) + size
    (whole,) = parsed
    assert whole.startswith(HEAD)
    assert request_head._unfinished == 0


@pytest.mark.parametrize("size", [1, 1000, 8192])
@pytest.mark.parametrize(
    ("head", "refusal"),
    [
        (b"GET /" + b"a" * MAX_LINE_BYTES * 2, LimitRequestLine),
        (b"GET / HTTP/1.1\r\n" + b"X: a\r\n" * MAX_FIELDS_BYTES, LimitRequestHeaders),
        (b"\r\nGET / HTTP/1.1\r\n" + b"X: a\r\n" * MAX_FIELDS_BYTES + b"\r\n", LimitRequestHeaders),
        (b"GET / HTTP/1.1\n" + b"a" * 100, ParseException),
        (b"GET / HTTP/1.1\r\nHost: localhost\nX", ParseException),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\n", NoMoreData),
        (b"\r", NoMoreData),
        (b"", StopIteration),
    ],
)
def test_what_is_no_head_is_refused_however_it_comes(
    head: bytes, refusal: type[Exception], size: int
) -> None:
    with pytest.raises(refusal):
        read(head, size)
    assert request_head._unfinished == 0


def test_an_empty_line_before_a_request_is_left_out() -> None:
    for size in (1, 3, 1 << 20):
        assert read(b"\r\nGET /a HTTP/1.1\r\nHost: b\r\n\r\n", size).uri == "/a"


def test_unfinished_heads_of_all_connections_together_have_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_head, "MAX_UNFINISHED_BYTES", 3 * len(HEAD))
    refused: list[bytes] = []

    class Nested(Pieces):
        """While its last piece is awaited, another connection's head comes in."""

        def chunk(self, size_hint: int | None = None) -> bytes:
            piece: bytes = super().chunk(size_hint)
            if not piece and not refused:
                try:
                    BoundedRequest(Config(), Nested(HEAD[:-1], 5000), ("127.0.0.1", 1))
                except TooManyUnfinished:
                    refused.append(piece)
            return piece

    with pytest.raises(NoMoreData):
        BoundedRequest(Config(), Nested(HEAD[:-1], 5000), ("127.0.0.1", 1))
    assert len(refused) == 1
    assert request_head._unfinished == 0
    # A head that comes whole never counts.
    monkeypatch.setattr(request_head, "MAX_UNFINISHED_BYTES", 0)
    assert read(HEAD, 1 << 20).method == "GET"

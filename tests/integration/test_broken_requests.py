"""Requests that break HTTP's own rules, sent byte by byte, and what a stranger's leave in the log."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator

import pytest

from service.api.auth.audit import REFUSALS_PER_S
from service.api.gate import ALWAYS
from tests.support import credentials
from tests.support.raw_http import exchange
from tests.support.stack import Stack


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with Stack(tmp_path_factory.mktemp("broken"), DRAIN_S="0", LOG_LEVEL="DEBUG") as stack:
        stack.start_web()
        yield stack


BROKEN_CHUNKS = {
    "a size that is no number": b"ZZ\r\nabc\r\n0\r\n\r\n",
    "a size with a prefix": b"0x3\r\nabc\r\n0\r\n\r\n",
    "a size with a sign": b"+3\r\nabc\r\n0\r\n\r\n",
    "a size with a blank": b"3 \r\nabc\r\n0\r\n\r\n",
    "a negative size": b"-1\r\nabc\r\n0\r\n\r\n",
    "no size": b"\r\nabc\r\n0\r\n\r\n",
    "a bad extension": b"3;=\r\nabc\r\n0\r\n\r\n",
    "more bytes than its size": b"3\r\nabcdef\r\n0\r\n\r\n",
    "a trailer that is none": b"3\r\nabc\r\n0\r\nno trailer\r\n\r\n",
    "a trailer that is forbidden": b"3\r\nabc\r\n0\r\nHost: b\r\n\r\n",
    "a trailer without end": b"3\r\nabc\r\n0\r\nX: " + b"a" * 600_000,
}


@pytest.mark.parametrize("chunks", BROKEN_CHUNKS.values(), ids=BROKEN_CHUNKS.keys())
def test_a_body_whose_chunks_are_broken_is_a_400_on_every_route_and_nothing_is_kept(
    web: Stack, chunks: bytes
) -> None:
    here = json.loads(web.call("POST", "/jobs", {"type": "t", "run": "here"})[2])
    attempt = f"Authorization: Bearer {here['token']}"
    tus = f"{credentials.LINE}\r\nTus-Resumable: 1.0.0"
    coming = web.call("POST", "/uploads", b"", {"Tus-Resumable": "1.0.0", "Upload-Length": "9"})[1][
        "location"
    ]
    uploads = web.uploads()
    for request, lines in {
        "POST /uploads": credentials.LINE,
        "PUT /uploads/x": credentials.LINE,
        "POST /jobs": credentials.LINE,
        "POST /jobs:batch": credentials.LINE,
        f"PUT /jobs/{here['id']}/artifacts/x": attempt,
        f"POST /jobs/{here['id']}/reports": attempt,
        f"PATCH {coming}": f"{tus}\r\nUpload-Offset: 0\r\nUpload-Checksum: sha1 {'A' * 27}=",
    }.items():
        kind = "application/offset+octet-stream" if "PATCH" in request else "application/json"
        head = (
            f"{request} HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n"
            f"Content-Type: {kind}\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        status, headers, body = exchange(web, head.encode() + chunks)
        assert (status, headers["content-type"]) == (400, "application/problem+json"), (request, body)
        assert b"chunks" in body
    assert web.uploads() == uploads
    assert web.get(f"/jobs/{here['id']}")[1]["artifacts"] == []
    assert "Traceback" not in web.log("web")


HOST = b"Host: localhost\r\n"
BROKEN_HEADS = {
    "a line that is too long": (b"GET /" + b"a" * 41_000 + b" HTTP/1.1\r\n" + HOST, 414),
    "a field that is too long": (b"GET / HTTP/1.1\r\nX: " + b"a" * 20_000 + b"\r\n" + HOST, 431),
    "too many fields": (b"GET / HTTP/1.1\r\n" + b"X: a\r\n" * 45 + HOST, 431),
    "two hosts": (b"GET / HTTP/1.1\r\n" + 2 * HOST, 400),
    "a line without a version": (b"GET /secret\r\n" + HOST, 400),
    "an unknown version": (b"GET /secret HTTP/9.9\r\n" + HOST, 400),
    "an address that is none": (b"GET http://[secret HTTP/1.1\r\n" + HOST, 400),
    "a method that is none": (b"secret / HTTP/1.1\r\n" + HOST, 400),
    "a field that is none": (b"GET / HTTP/1.1\r\nAuthorization secret\r\n" + HOST, 400),
    "a length and chunks": (
        b"POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n" + HOST,
        400,
    ),
    "an unknown coding": (b"POST / HTTP/1.1\r\nTransfer-Encoding: secret\r\n" + HOST, 501),
    "an unknown expectation": (b"POST / HTTP/1.1\r\nExpect: secret\r\n" + HOST, 417),
    "an origin that is none": (b"GET /jobs HTTP/1.1\r\nOrigin: http://[bad\r\n" + HOST, 403),
    "another host in the address": (b"GET http://evil.example/docs HTTP/1.1\r\n" + HOST, 421),
    "another host behind ours": (b"GET http://localhost@evil.example/ HTTP/1.1\r\n" + HOST, 421),
}


@pytest.mark.parametrize(("head", "expected"), BROKEN_HEADS.values(), ids=BROKEN_HEADS.keys())
def test_a_head_that_is_refused_is_answered_as_everything_is_and_is_not_repeated(
    web: Stack, head: bytes, expected: int
) -> None:
    status, headers, body = exchange(web, head + b"\r\n")
    assert (status, headers["content-type"]) == (expected, "application/problem+json"), body
    assert json.loads(body)["status"] == expected
    assert (headers["cache-control"], int(headers["content-length"])) == ("no-store", len(body))
    for name, value in ALWAYS:
        assert headers[name.lower()] == value
    assert b"secret" not in body
    assert "secret" not in web.log("web")
    assert "Traceback" not in web.log("web")


def test_an_address_with_our_host_in_it_is_ours(web: Stack) -> None:
    assert exchange(web, b"GET http://localhost/healthz HTTP/1.1\r\n" + HOST + b"\r\n")[0] == 200


@pytest.mark.parametrize("status", ["401", "403", "404", "405", "421", "422"])
def test_no_problem_may_be_kept(web: Stack, status: str) -> None:
    method, path, headers = {
        "401": ("GET", "/jobs", {"Authorization": ""}),
        "403": ("GET", "/jobs", {"Origin": "https://evil.example"}),
        "404": ("GET", "/nowhere", {}),
        "405": ("DELETE", "/healthz", {}),
        "421": ("GET", "/jobs", {"Host": "evil.example"}),
        "422": ("POST", "/uploads?name=..", {}),
    }[status]
    answered, got, _ = web.call(method, path, headers=headers)
    assert (answered, got["cache-control"]) == (int(status), "no-store")


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET /" + b"b" * 39_000 + b"\r\n" + HOST + b"\r\n",
        b"POST /nowhere?" + b"b" * 39_000 + b" HTTP/1.1\r\n" + HOST + b"\r\n",
        b"DELETE /healthz HTTP/1.1\r\n" + HOST + b"\r\n",
        b"DELETE /session HTTP/1.1\r\n" + HOST + b"\r\n",
    ],
    ids=["what is not HTTP", "404", "405", "204"],
)
def test_what_a_stranger_sends_fills_no_log(web: Stack, request_bytes: bytes) -> None:
    before, began = len(web.log("web")), time.monotonic()
    for _ in range(200):
        exchange(web, request_bytes)
    seconds = time.monotonic() - began
    assert len(web.log("web")) - before < (seconds + 2) * REFUSALS_PER_S * 500


def test_a_head_never_gets_into_the_log_whole_or_broken_off(web: Stack) -> None:
    assert web.call("PUT", "/uploads/SECRET.mov", b"x")[0] == 201
    with socket.create_connection(("127.0.0.1", web.port)) as sock:
        sock.sendall(b"GET /events HTTP/1.1\r\nAuthorization: Bearer SECRET")
        sock.shutdown(socket.SHUT_WR)
        while sock.recv(65536):
            pass
    assert "SECRET" not in web.log("web")


def test_a_ticket_in_an_address_never_gets_into_the_log_or_another_address(web: Stack) -> None:
    for line in (
        "GET /events?ticket=hwt1.SECRET",
        "GET http://[bad/events?ticket=hwt1.SECRET HTTP/1.1",
        "POST /jobs/x//cancel?ticket=hwt1.SECRET HTTP/1.1",
        "POST //jobs?ticket=hwt1.SECRET HTTP/1.1",
        "GET /jobs/x/artifacts/y?ticket=hwt1.SECRET HTTP/1.1",
    ):
        _, headers, body = exchange(web, line.encode() + b"\r\n" + HOST + b"\r\n")
        assert b"SECRET" not in body
        assert "location" not in headers
    assert "SECRET" not in web.log("web")


def test_refusals_are_counted_by_what_was_refused(web: Stack) -> None:
    def counted() -> float:
        text = web.call("GET", "/metrics")[2].decode()
        _, _, found = text.partition('headway_requests_refused_total{reason="head"} ')
        return float(found.split()[0]) if found else 0

    before = counted()
    exchange(web, b"GET /\r\n\r\n")
    assert counted() == before + 1

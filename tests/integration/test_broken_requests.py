"""Requests that break HTTP's own rules, sent byte by byte, and what a stranger's leave in the log."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest

from service.api.auth.audit import REFUSALS_PER_S
from tests.support import credentials
from tests.support.raw_http import exchange
from tests.support.stack import Stack


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with Stack(tmp_path_factory.mktemp("broken"), DRAIN_S="0") as stack:
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
    uploads = set((web.directory / "uploads").glob("*"))
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
    assert set((web.directory / "uploads").glob("*")) == uploads
    assert web.get(f"/jobs/{here['id']}")[1]["artifacts"] == []
    assert "Traceback" not in web.log("web")


HOST = b"Host: localhost\r\n"


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
        b"POST /nowhere?" + b"b" * 39_000 + b" HTTP/1.1\r\n" + HOST + b"\r\n",
        b"DELETE /healthz HTTP/1.1\r\n" + HOST + b"\r\n",
        b"DELETE /session HTTP/1.1\r\n" + HOST + b"\r\n",
    ],
    ids=["404", "405", "204"],
)
def test_what_a_stranger_sends_fills_no_log(web: Stack, request_bytes: bytes) -> None:
    before, began = len(web.log("web")), time.monotonic()
    for _ in range(200):
        exchange(web, request_bytes)
    seconds = time.monotonic() - began
    assert len(web.log("web")) - before < (seconds + 2) * REFUSALS_PER_S * 500


def test_a_ticket_in_an_address_never_gets_into_the_log_or_another_address(web: Stack) -> None:
    for line in (
        "POST /jobs/x//cancel?ticket=hwt1.SECRET HTTP/1.1",
        "POST //jobs?ticket=hwt1.SECRET HTTP/1.1",
        "GET /jobs/x/artifacts/y?ticket=hwt1.SECRET HTTP/1.1",
    ):
        _, headers, body = exchange(web, line.encode() + b"\r\n" + HOST + b"\r\n")
        assert b"SECRET" not in body
        assert "location" not in headers
    assert "SECRET" not in web.log("web")

"""The gate around the real web process: streams, files and limits that only gunicorn knows."""

from __future__ import annotations

import contextlib
import json
import socket
import time
from collections.abc import Iterator

import pytest

from service.api.gate import ALWAYS
from tests.support import credentials
from tests.support.fake_worker import create
from tests.support.raw_http import exchange
from tests.support.stack import Stack

APP = "https://app.example"


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    stack = Stack(
        tmp_path_factory.mktemp("gate"), DRAIN_S="0", CORS_ORIGINS=APP, ALLOWED_HOSTS="jobs.example"
    )
    try:
        stack.start_web()
        yield stack
    finally:
        stack.close()


def get(web: Stack, path: str, *lines: str) -> tuple[int, dict[str, str]]:
    lines = (f"GET {path} HTTP/1.1", *lines, credentials.LINE, "Connection: close", "", "")
    return exchange(web, "\r\n".join(lines).encode())[:2]


def test_every_way_to_a_stream_passes_the_gate(web: Stack) -> None:
    job_id = create(web.store)
    for path in (f"/jobs/{job_id}/events", f"/jobs/{job_id}/events?heartbeat=event", "/events"):
        assert get(web, path, "Host: evil.example")[0] == 421
        assert get(web, path, "Host: localhost", "Host: localhost")[0] == 400
        assert get(web, path, "Host: localhost", "Sec-Fetch-Site: same-site")[0] == 403
        assert get(web, path, "Host: localhost", "Origin: https://evil.example")[0] == 403
        status, headers = get(
            web, path, "Host: jobs.example", f"Origin: {APP}", "Sec-Fetch-Site: cross-site"
        )
        assert (status, headers["access-control-allow-origin"]) == (200, APP)
        for name, value in (*ALWAYS, ("Vary", "Origin"), ("Cache-Control", "no-store, no-transform")):
            assert headers[name.lower()] == value
        assert "server" not in headers


def test_every_kind_of_answer_carries_the_headers_and_none_names_the_server(web: Stack) -> None:
    own = {"/": "trusted-types", "/docs": "unsafe-inline", "/web/index.html": "trusted-types"}
    for path in (
        "/",
        "/docs",
        "/web/index.html",
        "/web/jobs.js",
        "/jobs",
        "/nowhere",
        "/healthz",
        "/metrics",
    ):
        _, headers = get(web, path, "Host: localhost")
        assert "server" not in headers
        for name, value in ALWAYS:
            if name == "Content-Security-Policy" and path in own:
                assert own[path] in headers["content-security-policy"]
                assert "frame-ancestors 'none'" in headers["content-security-policy"]
            else:
                assert headers[name.lower()] == value, (path, name)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/uploads"),
        ("PUT", "/uploads/x"),
        ("POST", "/jobs"),
        ("POST", "/jobs/{}/cancel"),
        ("POST", "/jobs/{}/retry"),
    ],
)
def test_a_page_of_another_site_changes_nothing(web: Stack, method: str, path: str) -> None:
    job_id = create(web.store)
    before = web.uploads()
    for headers in (
        {"Sec-Fetch-Site": "cross-site", "Content-Type": "text/plain"},
        {"Sec-Fetch-Site": "same-site", "Content-Type": "application/json"},
        {"Origin": "http://evil.example", "Content-Type": "application/x-www-form-urlencoded"},
    ):
        status, answered, body = web.call(method, path.format(job_id), b"x=1", headers)
        assert (status, answered["content-type"]) == (403, "application/problem+json"), body
    assert web.document(job_id)["state"] == "queued"
    assert web.uploads() == before


def test_an_allowed_origin_uploads_submits_and_loads_the_modules(web: Stack) -> None:
    site = {"Origin": APP, "Sec-Fetch-Site": "cross-site"}
    assert web.call("POST", "/uploads", b"x", site)[0] == 201
    status, headers, _ = web.call(
        "GET", "/web/job-progress.min.js", headers={**site, "Accept-Encoding": "gzip"}
    )
    assert (status, headers["access-control-allow-origin"]) == (200, APP)
    assert headers["vary"] == "Accept-Encoding, Origin"


LONG_HEAD = b"".join(b"X-%d: %s\r\n" % (n, b"a" * 60_000) for n in range(97))


@pytest.mark.parametrize(
    "head_bytes",
    [
        b"GET /" + b"a" * (16 << 20) + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\n" + LONG_HEAD + b"\r\n",
    ],
    ids=["a request line of 16 MiB", "97 headers of 60 kB"],
)
def test_no_request_head_stalls_the_process(web: Stack, head_bytes: bytes) -> None:
    with socket.create_connection(("127.0.0.1", web.port), timeout=60) as sock:
        before = time.monotonic()
        with contextlib.suppress(OSError):  # the service hangs up in the middle
            sock.sendall(head_bytes)
        assert web.get("/healthz")[0] == 200
        # On a quiet machine it takes milliseconds; without the limits 5 s and 31 s.
        assert time.monotonic() - before < 3


def test_header_fields_are_limited_together_and_not_only_each(web: Stack) -> None:
    """At each read, all that has come of a head is searched anew."""
    several = [f"X-{n}: {'a' * 11_000}" for n in range(3)]
    assert get(web, "/healthz", "Host: localhost", *several[:2])[0] == 200
    assert get(web, "/healthz", "Host: localhost", *several)[0] == 431


def test_a_list_of_1000_jobs_still_is_a_request_line(web: Stack) -> None:
    jobs = "&".join(f"job={create(web.store)}" for _ in range(1000))
    assert get(web, f"/events?{jobs}", "Host: localhost")[0] == 200


def test_script_name_moves_no_path(web: Stack) -> None:
    assert get(web, "/x/metrics", "Host: localhost", "SCRIPT_NAME: /x")[0] == 404
    assert get(web, "/metrics", "Host: localhost", "SCRIPT_NAME: /x")[0] == 200


def test_the_answer_to_a_foreign_host_says_what_to_set(web: Stack) -> None:
    status, _, body = web.call("GET", "/jobs", headers={"Host": "evil.example"})
    assert status == 421
    assert "ALLOWED_HOSTS" in json.loads(body)["detail"]

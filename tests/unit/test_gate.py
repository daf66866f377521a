"""The gate: which requests come in, and what every answer carries."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

import pytest

from headway.contract.settings import load
from service.api.gate import ALWAYS, HEADERS, Gate

APP = "https://app.example"


def inside(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain"), ("Vary", "Accept-Encoding")])
    return [b"inside"]


def ask(
    method: str = "GET",
    path: str = "/jobs",
    settings: str = "",
    environ: Mapping[str, str] | None = None,
    **headers: str,
) -> Any:
    """Status, headers with lower-case names, and body of what the gate answers."""
    variables = {"REDIS_URL": "redis://127.0.0.1"}
    variables |= dict(pair.split("=", 1) for pair in settings.split())
    found: list[Any] = []

    def start_response(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> None:
        found[:] = [int(status[:3]), {name.lower(): value for name, value in headers}]
        assert len(found[1]) == len(headers), "no header twice"

    request = {"REQUEST_METHOD": method, "PATH_INFO": path, "HTTP_HOST": "127.0.0.1:8000"}
    request |= environ or {}
    request |= {f"HTTP_{name.upper()}": value for name, value in headers.items()}
    body = b"".join(Gate(inside, load(variables))(request, start_response))
    return (*found, body)


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "127.0.0.1:8000", "localhost:9", "LocalHost", "[::1]:8000", "jobs.example:1", "b:81"],
)
def test_a_host_that_is_known_is_let_in(host: str) -> None:
    assert ask(host=host, settings="ALLOWED_HOSTS=jobs.example,b:81")[0] == 200


def test_a_host_that_a_proxy_says_must_be_known_too_and_does_not_stand_for_the_host_itself() -> None:
    """A page whose own name leads here can send the header."""

    def asked(host: str, said: str, peer: str = "127.0.0.1", **more: str) -> int:
        headers = {"host": host, "x_forwarded_host": said, **more}
        settings = "ALLOWED_HOSTS=jobs.example"
        environ = {"REMOTE_ADDR": peer}
        status: int = ask(settings=settings, environ=environ, **headers)[0]
        return status

    assert asked("127.0.0.1:8000", "jobs.example") == 200
    assert asked("127.0.0.1:8000", "evil.example") == 421
    assert asked("evil.example", "jobs.example") == 421
    assert asked("evil.example", "jobs.example", peer="192.0.2.1") == 421
    assert asked("127.0.0.1:8000", "evil.example", peer="192.0.2.1") == 200, "it is not read"
    # An old browser, whose Origin is compared with the host.
    assert asked("127.0.0.1:8000", "jobs.example", origin="https://jobs.example") == 200
    assert asked("127.0.0.1:8000", "jobs.example", origin="https://evil.example") == 403


@pytest.mark.parametrize(
    "host",
    [
        "evil.example", "evil.example:8000", "", "a b", "127.0.0.1, evil.example", "x@127.0.0.1",
        "127.0.0.1:", "127.0.0.1:8000:1", "localhost.evil.example", "localhost.", "169.254.169.254",
        "0.0.0.0", "b", "b:80", "127.0.0.1:\u0661",
    ],
)  # fmt: skip
def test_a_host_that_is_not_known_is_a_421_that_says_what_to_set(host: str) -> None:
    status, headers, body = ask(host=host, settings="ALLOWED_HOSTS=jobs.example,b:81")
    assert (status, headers["content-type"]) == (421, "application/problem+json")
    assert "ALLOWED_HOSTS" in json.loads(body)["detail"]
    assert ask(path="/healthz", host=host)[0] == 200


UNSAFE = ("POST", "PUT", "DELETE", "PATCH")


@pytest.mark.parametrize("method", UNSAFE)
@pytest.mark.parametrize(
    ("headers", "allowed"),
    [
        # The table of Go's http.CrossOriginProtection.
        ({"sec_fetch_site": "same-origin"}, True),
        ({"sec_fetch_site": "none"}, True),
        ({"sec_fetch_site": "cross-site"}, False),
        ({"sec_fetch_site": "same-site"}, False),
        ({"sec_fetch_site": ""}, False),
        ({}, True),
        ({"origin": "http://127.0.0.1:8000"}, True),
        ({"origin": "https://127.0.0.1:8000"}, True),
        ({"origin": "http://127.0.0.1:3000"}, False),
        ({"origin": "https://evil.example"}, False),
        ({"origin": "null"}, False),
        ({"sec_fetch_site": "cross-site", "origin": APP}, True),
        ({"origin": APP}, True),
        ({"sec_fetch_site": "same-origin", "origin": "https://evil.example"}, True),
        # A form that another site's page sends.
        (
            {"sec_fetch_site": "cross-site", "sec_fetch_mode": "navigate", "sec_fetch_dest": "document"},
            False,
        ),
    ],
)
def test_unsafe_requests_from_other_sites_are_refused(
    method: str, headers: dict[str, str], allowed: bool
) -> None:
    status, answer, body = ask(method, settings=f"CORS_ORIGINS={APP}", **headers)
    assert status == (200 if allowed else 403)
    if not allowed:
        assert answer["content-type"] == "application/problem+json"
        assert "CORS_ORIGINS" in json.loads(body)["detail"]


@pytest.mark.parametrize(
    ("mode", "dest", "allowed"),
    [
        ("navigate", "document", True),
        ("navigate", "iframe", False),
        ("navigate", "object", False),
        ("no-cors", "image", False),
        ("no-cors", "script", False),
        ("no-cors", "video", False),
        ("no-cors", "empty", False),
        ("cors", "empty", False),
        ("cors", "script", False),
    ],
)
@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_other_sites_may_link_here_and_read_nothing(site: str, mode: str, dest: str, allowed: bool) -> None:
    headers = {"sec_fetch_site": site, "sec_fetch_mode": mode, "sec_fetch_dest": dest}
    for path in ("/jobs", "/events", "/web/jobs.js", "/jobs/x/artifacts/y", "/healthz"):
        assert ask(path=path, **headers)[0] == (200 if allowed else 403)


def test_without_cors_origins_no_answer_shares_anything() -> None:
    for origin in (APP, "null", "*", ""):
        for method in ("GET", "OPTIONS", "POST"):
            headers = ask(method, origin=origin, access_control_request_method="POST")[1]
            assert not [name for name in headers if name.startswith("access-control")]


def test_an_origin_of_cors_origins_gets_exactly_its_own() -> None:
    site = {"sec_fetch_site": "cross-site", "sec_fetch_mode": "cors"}
    status, headers, body = ask(settings=f"CORS_ORIGINS={APP},http://b:81", origin=APP, **site)
    assert (status, body) == (200, b"inside")
    assert headers["access-control-allow-origin"] == APP
    assert headers["access-control-allow-credentials"] == "true"
    exposed = {name.strip().lower() for name in headers["access-control-expose-headers"].split(",")}
    assert exposed >= {"location", "retry-after", "tus-resumable", "upload-length", "upload-offset"}
    assert headers["vary"] == "Accept-Encoding, Origin"
    for other in (
        "https://app.example.evil",
        "https://app.example:444",
        "http://app.example",
        "null",
        "b:81",
    ):
        status, headers, _ = ask(settings=f"CORS_ORIGINS={APP},http://b:81", origin=other, **site)
        assert (status, "access-control-allow-origin" in headers) == (403, False), other
    assert ask(settings=f"CORS_ORIGINS={APP}")[1]["vary"] == "Accept-Encoding, Origin"


@pytest.mark.parametrize("path", ["/jobs", "/jobs/x/cancel", "/uploads/y", "/web/jobs.js", "/nowhere"])
def test_preflights_are_answered_for_every_route_and_kept(path: str) -> None:
    asked = {"origin": APP, "sec_fetch_site": "cross-site", "access_control_request_method": "POST"}
    status, headers, body = ask("OPTIONS", path, f"CORS_ORIGINS={APP}", **asked)
    assert (status, body) == (204, b"")
    allowed = {name.strip() for name in headers["access-control-allow-headers"].split(",")}
    tus = {"Tus-Resumable", "Upload-Checksum", "Upload-Length", "Upload-Metadata", "Upload-Offset"}
    tus |= {"X-HTTP-Method-Override"}
    traced = {"Traceparent", "Tracestate"}
    assert allowed == {"Authorization", "Content-Type", "Idempotency-Key", "Last-Event-ID"} | tus | traced
    assert {"POST", "PUT", "PATCH", "DELETE"} <= set(headers["access-control-allow-methods"].split(", "))
    assert int(headers["access-control-max-age"]) > 600
    assert ask("OPTIONS", path, **asked)[0] == 403


def test_every_answer_carries_the_headers_also_a_refusal_and_a_streams_head() -> None:
    for answer in (ask(), ask(host="evil.example"), ask("POST", sec_fetch_site="cross-site")):
        for name, value in ALWAYS:
            assert answer[1][name.lower()] == value
    environ = {"REQUEST_METHOD": "GET", "HTTP_HOST": "localhost", "PATH_INFO": "/events"}
    list(Gate(inside, load({"REDIS_URL": "redis://127.0.0.1"}))(environ, lambda *_: None))
    assert environ[HEADERS] == ALWAYS

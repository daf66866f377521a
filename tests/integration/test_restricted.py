"""Credentials that open some jobs or groups alone, and tokens of an attempt: at every route."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from headway.contract.access import ROLES
from service.api.auth.roles import ATTEMPT, ROUTES
from tests.support.credentials import bearer, jwt_header, keys_and_jwts
from tests.support.routes import refusal, requests
from tests.support.stack import Stack

ABSENT = "0-" + "x" * 22
OPEN = {
    # What is nobody's in particular, or the caller's own.
    "GET /metrics",
    "GET /workers",
    "GET /types",
    "POST /session",
    "GET /session",
    "POST /uploads",
    "PUT /uploads/<filename:name>",
}
ELSEWHERE: dict[str, dict[str, Any]] = {
    "POST /jobs": {"type": "t", "group": "g"},
    "POST /jobs:batch": {"jobs": [{"type": "t", "group": "g"}]},
    "POST /jobs:cancel": {"group": "g"},
    "POST /jobs:retry": {"group": "g"},
    "POST /jobs:delete": {"group": "g"},
    "PUT /groups/<group:group>": {"title": "mine"},
    "POST /tickets": {"group": "g"},
}
"""Bodies that name what the credential does not open."""


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    directory = tmp_path_factory.mktemp("restricted")
    with Stack(directory, **keys_and_jwts(directory), DRAIN_S="0", HEARTBEAT_S="1") as stack:
        stack.start_web()
        stack.headers = {}
        yield stack


@pytest.fixture(scope="module")
def ann(web: Stack) -> dict[str, str]:
    return bearer(web.store.access.create("ann", ROLES[:-1])[1])


def running(web: Stack, ann: dict[str, str]) -> dict[str, Any]:
    """A job of the group `g` that somebody does, with the token of its attempt."""
    answer = web.call("POST", "/jobs", {"type": "t", "run": "here", "group": "g"}, ann)[2]
    job: dict[str, Any] = json.loads(answer)
    return job


def test_a_restricted_token_opens_nothing_beside_what_it_names(web: Stack, ann: dict[str, str]) -> None:
    web.call("PUT", "/types/t", {}, ann)
    web.call("PUT", "/webhooks/x", {"url": "https://hooks.example/"}, ann)
    for scope in ({"groups": ["other"]}, {"jobs": [ABSENT]}, {"groups": [], "jobs": []}):
        narrow = jwt_header("ann", ROLES[:-1], **scope)
        cookie = web.call("POST", "/session", b"", narrow)[1]["set-cookie"].partition(";")[0]
        job = running(web, ann)
        upload = json.loads(web.call("POST", "/uploads", b"x", ann)[2])["id"]
        before = web.get(f"/jobs/{job['id']}", headers=ann)[1]
        for headers in (narrow, {"Cookie": cookie}):
            for route, path, body in requests(job["id"], upload):
                method = route.partition(" ")[0]
                more = {"X-HTTP-Method-Override": "DELETE"} if "upload_id" in route else {}
                for accept in ({}, {"Accept": "application/json"}):
                    got = refusal(
                        web, method, path, ELSEWHERE.get(route, body), {**headers, **more, **accept}
                    )
                    if route in OPEN:
                        assert got < 300, route
                    elif route == "GET /events":
                        # The stream of all that it opens, which is nothing of this.
                        assert got in (200, 403, 404), route
                    else:
                        assert got == 401 if ROUTES[route] == ATTEMPT else got in (403, 404), (route, got)
        assert web.get(f"/jobs/{job['id']}", headers=ann)[1] == before
        assert web.get(f"/uploads/{upload}", headers=ann)[0] == 200


def test_the_token_of_an_attempt_opens_that_attempt_alone(web: Stack, ann: dict[str, str]) -> None:
    mine, other = running(web, ann), running(web, ann)
    upload = json.loads(web.call("POST", "/uploads", b"x", ann)[2])["id"]
    token = bearer(mine["token"])
    for job in (mine, other):
        for route, path, body in requests(job["id"], upload):
            method = route.partition(" ")[0]
            if ROUTES[route] != ATTEMPT:
                assert refusal(web, method, path, body, token) == 403, route
            elif job is other:
                body = {"batch": 1, "events": []} if path.endswith("reports") else {"state": "succeeded"}
                got = refusal(web, method, path, body, token)
                assert got in (403, 404, 409), (route, got)
    for job in (mine, other):
        found = web.get(f"/jobs/{job['id']}", headers=ann)[1]
        assert (found["state"], found["artifacts"]) == ("running", [])

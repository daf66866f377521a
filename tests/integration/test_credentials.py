"""What a request shows with which it is let in, over both ways in: cookies beside ours, and two at once."""

from __future__ import annotations

import contextlib
import http.client
import json
from collections.abc import Iterator

import pytest

from tests.support.credentials import bearer
from tests.support.stack import Stack


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with Stack(tmp_path_factory.mktemp("credentials"), DRAIN_S="0") as stack:
        stack.start_web()
        stack.headers = {}
        yield stack


def key(web: Stack, owner: str = "ann", *roles: str) -> dict[str, str]:
    return bearer(web.store.access.create(owner, roles or ("read",))[1])


def session(web: Stack, headers: dict[str, str]) -> str:
    """The cookie of a session that is begun with these headers."""
    status, answered, _ = web.call("POST", "/session", b"", headers)
    assert status == 200
    return answered["set-cookie"].partition(";")[0]


@pytest.mark.parametrize(
    "foreign",
    [
        b'prefs={"theme":"dark","n":1}',
        b"a[b]=c",
        "name=Jürgen".encode(),
        "name=Jürgen".encode("latin-1"),
        b'open="',
        b"no value",
        b"=",
        b"headway-1=hws1.a.b.c",
    ],
)
def test_a_cookie_of_another_service_does_not_hide_ours(web: Stack, foreign: bytes) -> None:
    ours = session(web, key(web)).encode()
    for cookies in (foreign + b"; " + ours, ours + b"; " + foreign, foreign + b";" + ours + b";"):
        with contextlib.closing(
            http.client.HTTPConnection("127.0.0.1", web.port, timeout=30)
        ) as connection:
            connection.request("GET", "/session", headers={"Cookie": cookies})  # type: ignore[dict-item]
            answer = connection.getresponse()
            assert (answer.status, json.loads(answer.read())["kind"]) == (200, "session"), cookies


def feed_ticket(web: Stack, headers: dict[str, str]) -> str:
    """The query with a ticket for all jobs."""
    status, _, body = web.call("POST", "/tickets", {"feed": True}, headers)
    assert status == 201
    return f"?ticket={json.loads(body)['ticket']}"


@pytest.mark.parametrize("owner", ["ann", "bob"])
def test_two_different_credentials_are_a_400_whoever_owns_them(web: Stack, owner: str) -> None:
    one, other = key(web, "ann"), key(web, owner)
    cookie = {"Cookie": session(web, one)}
    ticket = feed_ticket(web, one)
    assert web.call("GET", "/jobs", headers={**cookie, **other})[0] == 400
    for path in (f"/jobs{ticket}", f"/events{ticket}"):
        assert web.call("GET", path, headers=other)[0] == 400
        assert web.call("GET", path, headers={"Cookie": session(web, other)})[0] == 400
    twice = {"Authorization": f"{one['Authorization']}, {one['Authorization']}"}
    assert web.call("GET", "/jobs", headers=twice)[0] == 400


def test_what_a_credential_was_exchanged_for_may_come_beside_it(web: Stack) -> None:
    one = key(web)
    cookie = {"Cookie": session(web, one)}
    for maker in (one, cookie):
        ticket = feed_ticket(web, maker)
        for headers in (one, cookie, {**one, **cookie}):
            assert web.call("GET", f"/jobs{ticket}", headers=headers)[0] == 200
    assert web.call("DELETE", "/session", headers=cookie)[0] == 204
    other = key(web)
    assert web.call("GET", "/jobs", headers={**cookie, **other})[0] == 200, "an old cookie is no harm"


@pytest.mark.parametrize(("role", "status"), [("read", 200), ("work", 200), ("submit", 403)])
def test_who_watches_and_who_works_may_see_the_types(web: Stack, role: str, status: int) -> None:
    assert web.call("GET", "/types", headers=key(web, "ann", role))[0] == status

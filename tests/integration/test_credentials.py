"""What a request shows with which it is let in, over both ways in: cookies beside ours, and two at once."""

from __future__ import annotations

import contextlib
import http.client
import json
from collections.abc import Iterator

import pytest

from tests.support.stack import Stack


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with Stack(tmp_path_factory.mktemp("credentials"), DRAIN_S="0") as stack:
        stack.start_web()
        stack.headers = {}
        yield stack


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


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

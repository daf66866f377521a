"""Names that people read are what they look like."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest

from headway.contract.records import is_name
from tests.support.stack import Stack

HIDDEN = ["\x00", "\x1b[31m", "\x7f", "\x85", "\u202e", "\u2066", "\u200b", "\u200e", "\u2028", "\ufeff"]
SHOWN = [
    "Ferien 2027",
    "a/b:c",
    "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
    "\U0001f469\u200d\U0001f680",
    "\xa0x",
    "<b>",
]


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with Stack(tmp_path_factory.mktemp("names"), DRAIN_S="0") as stack:
        stack.start_web()
        yield stack


def submission(**more: Any) -> dict[str, Any]:
    return {"type": "t", "run": "here", **more}


def faults(web: Stack, method: str, path: str, body: dict[str, Any]) -> list[str]:
    """The pointers of a 422; nothing if it was accepted."""
    status, _, answer = web.call(method, path, body)
    if status in (200, 201, 202):
        return []
    assert status == 422, answer
    return [fault["pointer"] for fault in json.loads(answer)["errors"]]


@pytest.mark.parametrize("hidden", HIDDEN)
def test_a_name_with_something_that_is_not_seen_is_refused(web: Stack, hidden: str) -> None:
    name = f"a{hidden}b"
    job_id = web.submit("t", {}, run="here")["id"]
    for more, pointer in (
        ({"type": name}, "/type"),
        ({"group": name}, "/group"),
        ({"labels": {"a": name}}, "/labels/a"),
        ({"labels": {name: "a"}}, f"/labels/{name}"),
        ({"unique": {"key": name, "while": "live"}, "run": None}, "/unique/key"),
    ):
        assert faults(web, "POST", "/jobs", submission(**more)) == [pointer], more
    assert faults(web, "POST", f"/jobs/{job_id}/messages", {"name": name}) == ["/name"]
    assert faults(web, "PUT", f"/groups/{quote(name)}", {"expected": 1}) == [""]
    assert faults(web, "PUT", "/groups/g", {"title": name}) == ["/title"]
    assert faults(web, "PUT", "/types/x", {"title": name}) == ["/title"]
    assert not is_name(name)
    assert hidden not in json.dumps(web.get("/jobs?limit=500")[1], ensure_ascii=False)


@pytest.mark.parametrize("name", SHOWN)
def test_any_other_name_is_accepted(web: Stack, name: str) -> None:
    more = {"type": name, "group": name, "labels": {name: name}}
    assert faults(web, "POST", "/jobs", submission(**more)) == []
    assert faults(web, "PUT", f"/groups/{quote(name, safe='')}", {"title": name}) == []
    assert is_name(name)

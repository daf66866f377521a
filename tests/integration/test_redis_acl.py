"""docs/operators.md, "Redis or Valkey": web and workers as the users that it defines, who need no more."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from tests.support.checkout import ROOT
from tests.support.sse import Reader
from tests.support.stack import Stack

DOCS = (ROOT / "docs" / "operators.md").read_text("utf-8")
PASSWORDS = {"web": "canary-web", "worker": "canary-worker"}


def rules() -> dict[str, list[str]]:
    """Those of the document, by user."""
    (block,) = re.findall(r"```\n(user web .*?)```", DOCS, re.DOTALL)
    text = block.replace("\\\n", " ")
    for name, password in PASSWORDS.items():
        text = text.replace(f"{name.upper()}-PASSWORD", password)
    return {words[1]: words[2:] for words in map(str.split, text.splitlines()) if words}


def url_of(stack: Stack, user: str) -> str:
    return f"redis://{user}:{PASSWORDS[user]}@127.0.0.1:{stack.valkey_port}/0"


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with Stack(tmp_path_factory.mktemp("acl"), HEARTBEAT_S="1", DRAIN_S="0") as stack:
        for user, given in rules().items():
            stack.store.redis.execute_command("ACL", "SETUSER", user, *given)
        stack.environ["REDIS_URL"] = url_of(stack, "web")
        stack.start_web()
        stack.environ["REDIS_URL"] = url_of(stack, "worker")
        stack.start_worker()
        yield stack


def refused(stack: Stack) -> list[Any]:
    found: list[Any] = stack.store.redis.execute_command("ACL", "LOG")  # type: ignore[no-untyped-call]
    return [dict(entry) if not isinstance(entry, list) else entry for entry in found]


def test_both_do_all_of_their_work_and_ask_for_nothing_that_is_refused(stack: Stack) -> None:
    jobs = [stack.submit("simulate", {"duration_s": 0.5, "log_every": 2}, group="g") for _ in range(3)]
    with Reader(stack.url, f"/jobs/{jobs[0]['id']}/events", "0") as reader:
        assert reader.until_end()[-1].data["state"] == "succeeded"
    with Reader(stack.url, "/events?group=g") as reader:
        assert reader.status == 200
    for job in jobs:
        stack.wait_ended(job["id"])
    film = stack.submit("video.encode", {"input": "sample:1", "width": 160})
    failing = stack.submit(
        "simulate", {"duration_s": 1, "fail_at": 0.5, "fail_attempts": 1}, max_attempts=2
    )
    long = stack.submit("simulate", {"duration_s": 600})
    assert stack.call("POST", f"/jobs/{long['id']}/cancel")[0] == 202
    for job, state in ((film, "succeeded"), (failing, "succeeded"), (long, "canceled")):
        assert stack.wait_ended(job["id"])["state"] == state
    once = {"Idempotency-Key": "k"}
    assert stack.call("POST", f"/jobs/{long['id']}/retry", b"", once)[0] == 202
    upload = json.loads(stack.call("POST", "/uploads", b"x")[2])["id"]
    assert stack.call("DELETE", f"/uploads/{upload}")[0] == 204
    assert stack.call("POST", "/tickets", {"jobs": [job["id"] for job in jobs]})[0] == 201
    assert stack.call("POST", "/session", b"")[0] == 200
    assert stack.call("DELETE", f"/jobs/{jobs[0]['id']}")[0] == 204
    for path in ("/jobs?group=g", "/workers", "/types", "/metrics", "/readyz", f"/jobs/{film['id']}"):
        assert stack.call("GET", path)[0] == 200, path
    environ = {**os.environ, "REDIS_URL": url_of(stack, "web")}
    for words in (["create", "--owner", "acme", "--roles", "read"], ["list"]):
        ran = subprocess.run(
            [sys.executable, "-m", "headway", "keys", *words],
            cwd=ROOT, env=environ, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert ran.returncode == 0, ran.stderr
    assert refused(stack) == []


@pytest.mark.parametrize("user", PASSWORDS)
def test_neither_can_do_what_it_need_not(stack: Stack, user: str) -> None:
    client = redis.Redis.from_url(url_of(stack, user), protocol=2)
    keys = stack.store.keys
    commands: list[tuple[Any, ...]] = [
        ("FLUSHALL",), ("FLUSHDB",), ("CONFIG", "GET", "*"), ("KEYS", "*"), ("ACL", "LIST"), ("SHUTDOWN",),
        ("MODULE", "LIST"), ("GET", "another"), ("SET", "another", "x"),
        ("PUBLISH", "another", "x"), ("MONITOR",), ("FUNCTION", "LIST"), ("REPLICAOF", "NO", "ONE"),
    ]  # fmt: skip
    if user == "worker":
        commands += [
            ("HGETALL", keys.api_keys),
            ("HSET", keys.api_keys, "a", "b"),
            ("GET", keys.access_version),
        ]
    with client:
        for command in commands:
            with pytest.raises(redis.exceptions.NoPermissionError):
                client.execute_command(*command)
    assert refused(stack), "the log in which nothing was found before"
    stack.store.redis.execute_command("ACL", "LOG", "RESET")  # type: ignore[no-untyped-call]

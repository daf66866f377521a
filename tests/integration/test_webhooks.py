"""Webhooks against real receivers: that of the docs, and slow, dead, lying and redirecting ones."""

from __future__ import annotations

import hmac
import json
import os
import re
import signal
import subprocess
import sys
import time
from base64 import b64decode, b64encode
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from headway.cli.main import main
from headway.contract.states import State
from headway.contract.webhooks import Target
from tests.support.checkout import ROOT
from tests.support.fake_worker import claim, create
from tests.support.receiver import Received, Receiver, answer
from tests.support.stack import Stack, free_port
from tests.support.wait import until


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    directory = tmp_path_factory.mktemp("webhooks")
    with Stack(directory, WEBHOOK_ALLOW="127.0.0.0/8,::1", DRAIN_S="0", LEASE_S="60") as stack:
        stack.start_web()
        yield stack


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with Receiver() as receiver:
        yield receiver


@pytest.fixture(autouse=True)
def _none_left(web: Stack) -> Iterator[None]:
    yield
    for webhook in web.get("/webhooks")[1]["items"]:
        assert web.call("DELETE", f"/webhooks/{webhook['name']}")[0] == 204


def put(web: Stack, name: str, url: str, *events: str) -> dict[str, Any]:
    status, _, body = web.call("PUT", f"/webhooks/{name}", {"url": url, "events": events or ["end"]})
    assert status in (200, 201), body
    return dict(json.loads(body))


def finish(web: Stack, **more: Any) -> str:
    """A job that is begun here and ended at once."""
    job = web.submit("t", {}, run="here", **more)
    token = {"Authorization": f"Bearer {job['token']}"}
    assert web.call("POST", f"/jobs/{job['id']}/end", {"state": "succeeded"}, token)[0] == 200
    return str(job["id"])


def verifies(secret: str, got: Received) -> int:
    """Which of the signatures is by this secret, from 1; 0 for none."""
    text = f"{got.headers['webhook-id']}.{got.headers['webhook-timestamp']}.".encode() + got.body
    key = b64decode(secret.removeprefix("whsec_"))
    good = "v1," + b64encode(hmac.digest(key, text, sha256)).decode()
    signatures = got.headers["webhook-signature"].split(" ")
    return signatures.index(good) + 1 if good in signatures else 0


def test_the_receiver_of_the_docs_prints_what_happens_to_a_job(web: Stack, tmp_path: Path) -> None:
    text = (ROOT / "docs" / "webhooks.md").read_text()
    code = re.search(r"```python\n(.*?)```", text, re.S)
    assert code
    lines = [line for line in code[1].splitlines() if line.strip()]
    assert len(lines) <= 20
    port = free_port()
    secret = put(web, "docs", f"http://127.0.0.1:{port}/", "state", "end")["secret"]
    with (tmp_path / "said").open("w") as said:
        process = subprocess.Popen(
            [sys.executable, "-c", code[1], str(port)],
            env={**os.environ, "WEBHOOK_SECRET": secret},
            stdout=said,
            stderr=subprocess.DEVNULL,
        )
    try:
        until(
            lambda: f":{port:04X} 00000000:0000 0A" in Path("/proc/net/tcp").read_text(),
            what="it to listen",
        )
        finish(web)
        printed = "job.state queued\njob.state running\njob.end succeeded\n"
        until(lambda: (tmp_path / "said").read_text() == printed, what=(tmp_path / "said").read_text)
        put(web, "docs", f"http://127.0.0.1:{port}/", "end")
        web.store.redis.hset(web.store.keys.webhook("local", "docs"), "secrets", '[["whsec_AAAA",null]]')
        finish(web)
        log = until(lambda: _log(web, "docs", 4), what="the fourth delivery")
        assert log[0]["status"] == 401, "a signature by another secret is refused"
        assert (tmp_path / "said").read_text() == printed
    finally:
        process.kill()
        process.wait()


def _log(web: Stack, name: str, at_least: int) -> Any:
    status, body = web.get(f"/webhooks/{name}/deliveries")
    assert status == 200
    return body["items"] if len(body["items"]) >= at_least else None


def test_a_submission_names_its_own_receiver_and_a_retry_keeps_it(web: Stack, receiver: Receiver) -> None:
    name = f"127.0.0.1:{receiver.port}"
    secret = json.loads(web.call("POST", f"/webhooks/{name}/secret")[2])["secret"]
    job_id = finish(web, webhook={"url": receiver.url("/ok/one?order=7")})
    (got,) = receiver.wait("/ok/one?order=7")
    body = json.loads(got.body)
    assert (body["type"], body["data"]) == ("job.end", web.document(job_id))
    assert verifies(secret, got) == 1
    assert got.headers["content-type"] == "application/json"
    assert web.call("PUT", "/types/t", {})[0] == 200, "somebody must be there to do it again"
    status, _, again = web.call("POST", f"/jobs/{job_id}/retry", b"")
    assert status == 202
    web.call("POST", f"/jobs/{json.loads(again)['id']}/cancel", b"")
    receiver.wait("/ok/one?order=7", 2)
    shown = web.get(f"/webhooks/{name}")[1]
    assert (shown["name"], shown["url"], shown["events"]) == (name, None, None)


def test_a_name_is_resolved_beside_the_event_loop_and_each_of_its_addresses_is_tried(
    web: Stack, receiver: Receiver
) -> None:
    """The receiver listens at 127.0.0.1 alone, and localhost may be ::1 as well."""
    put(web, "lost", "HTTPS://nowhere.invalid/")
    finish(web)
    (first,) = until(lambda: _log(web, "lost", 1), what="the name that has no address")
    assert first["outcome"] == "failed"
    put(web, "named", f"http://localhost:{receiver.port}/ok/named")
    finish(web)
    assert receiver.wait("/ok/named")[0].headers["host"] == f"localhost:{receiver.port}"


def test_an_artifact_is_told_of(web: Stack, receiver: Receiver) -> None:
    job = web.submit(
        "t", {}, run="here", webhook={"url": receiver.url("/ok/file"), "events": ["artifact", "end"]}
    )
    token = {"Authorization": f"Bearer {job['token']}"}
    assert web.call("PUT", f"/jobs/{job['id']}/artifacts/a.txt", b"x", token)[0] == 201
    web.call("POST", f"/jobs/{job['id']}/end", {"state": "succeeded"}, token)
    got = [json.loads(one.body) for one in receiver.wait("/ok/file", 2)]
    assert [one["type"] for one in got] == ["job.artifact", "job.end"]
    assert got[0]["data"]["name"] == "a.txt"


def test_a_rotated_secret_signs_beside_the_new_one(web: Stack, receiver: Receiver) -> None:
    old = put(web, "rotated", receiver.url("/ok/rotated"))["secret"]
    assert "secret" not in put(web, "rotated", receiver.url("/ok/rotated"))
    assert "secret" not in web.get("/webhooks/rotated")[1]
    rotated = json.loads(web.call("POST", "/webhooks/rotated/secret")[2])
    assert rotated["previous_until"] > web.get("/webhooks/rotated")[1]["created_at"]
    finish(web)
    (got,) = receiver.wait("/ok/rotated")
    assert (verifies(rotated["secret"], got), verifies(old, got)) == (1, 2)


def test_a_receiver_that_fails_gets_it_again_and_the_log_says_so(web: Stack, receiver: Receiver) -> None:
    receiver.answers["/flaky"] = [answer(500, b"not today\x00" + b"x" * 9_000), answer(204)]
    put(web, "flaky", receiver.url("/flaky"))
    job_id = finish(web)
    first, second = receiver.wait("/flaky", 2)
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    log = until(lambda: _log(web, "flaky", 2), what="both tries in the log")
    assert [(one["job"], one["outcome"], one["status"], one["attempt"]) for one in log] == [
        (job_id, "delivered", 204, 2),
        (job_id, "failed", 500, 1),
    ]
    assert log[1]["answer"].startswith("not today x")
    assert len(log[1]["answer"]) == 512
    assert log[1]["next_at"] is not None


def test_a_delivery_is_made_again_by_hand(web: Stack, receiver: Receiver) -> None:
    put(web, "again", receiver.url("/ok/again"))
    job_id = finish(web)
    first = receiver.wait("/ok/again")[0]
    message_id = first.headers["webhook-id"]
    until(lambda: _log(web, "again", 1), what="the log")
    assert web.call("POST", "/webhooks/again/redeliver", {"id": message_id})[0] == 202
    second = receiver.wait("/ok/again", 2)[1]
    assert (second.headers["webhook-id"], second.body) == (message_id, first.body)
    assert web.call("POST", "/webhooks/again/redeliver", {"id": "evt_1-1_x"})[0] == 404
    assert web.call("DELETE", f"/jobs/{job_id}")[0] == 204
    assert web.call("POST", "/webhooks/again/redeliver", {"id": message_id})[0] == 404


def test_a_redirect_is_not_followed(web: Stack, receiver: Receiver) -> None:
    receiver.answers["/moved"] = [answer(308, Location=receiver.url("/ok/secret"))]
    put(web, "moved", receiver.url("/moved"))
    finish(web)
    log = until(lambda: _log(web, "moved", 1), what="the log")
    assert (log[0]["status"], log[0]["outcome"]) == (308, "failed")
    assert "redirects are not followed" in log[0]["error"]
    assert not receiver.at("/ok/secret")


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"url": "https://10.0.0.1/"}, "/url"),
        ({"url": "https://[::ffff:169.254.169.254]/latest/meta-data"}, "/url"),
        ({"url": "https://169.254.169.254/"}, "/url"),
        ({"url": "http://1.1.1.1/"}, "/url"),
        ({"url": "ftp://127.0.0.1/"}, "/url"),
        ({"url": "https://"}, "/url"),
        ({"url": "https://a b/"}, "/url"),
        ({"url": "https://ex\u00e4mple.org/"}, "/url"),
        ({"url": "https://a.example/\r\nX: y"}, "/url"),
        ({"url": "https://user:pass@a.example/"}, "/url"),
        ({"url": "https://a.example:99999/"}, "/url"),
        ({"url": "https://[::1/"}, "/url"),
        ({"url": "https://a.example/" + "x" * 3_000}, "/url"),
        ({"url": "https://a.example/", "events": []}, "/events"),
        ({"url": "https://a.example/", "events": ["progress"]}, "/events/0"),
        ({"url": "https://a.example/", "events": ["log"]}, "/events/0"),
    ],
)
def test_what_cannot_be_a_webhook_is_refused(web: Stack, body: dict[str, Any], pointer: str) -> None:
    status, _, text = web.call("PUT", "/webhooks/x", body)
    assert (status, json.loads(text)["errors"][0]["pointer"]) == (422, pointer), text
    status, _, text = web.call("POST", "/jobs", {"type": "t", "run": "here", "webhook": body})
    assert (status, json.loads(text)["errors"][0]["pointer"]) == (422, f"/webhook{pointer}"), text
    assert web.get("/webhooks")[1]["items"] == []


def test_a_name_that_cannot_be_one_is_refused_and_one_that_is_none_is_absent(web: Stack) -> None:
    target = {"url": "https://a.example/"}
    for name in ("a.b", "a%20b", "x" * 65, "a:443"):
        assert web.call("PUT", f"/webhooks/{name}", target)[0] == 422, name
    assert web.get("/webhooks/none")[0] == web.get("/webhooks/none/deliveries")[0] == 404
    assert web.call("DELETE", "/webhooks/none")[0] == 404
    assert web.call("POST", "/webhooks/none/secret")[0] == 404
    assert web.call("POST", "/webhooks/none/redeliver", {"id": "x"})[0] == 404


def test_fifty_receivers_that_hang_harm_nobody(web: Stack, receiver: Receiver) -> None:
    store = web.store
    host = f"127.0.0.1:{receiver.port}"
    jobs = []
    for n in range(50):
        store.webhooks.ensure_host(f"owner{n}", host)
        hang = Target(host, receiver.url("/hang"), ["end"])
        jobs.append(create(store, owner=f"owner{n}", webhook=hang))
    for job_id in jobs:
        store.end(claim(store, job_id), State.SUCCEEDED)
    until(lambda: receiver.hung >= 50, what=lambda: f"{receiver.hung} to hang")
    put(web, "good", receiver.url("/ok/good"))
    began = time.monotonic()
    finish(web)
    receiver.wait("/ok/good")
    assert receiver.hung < 100, "the good one did not wait for the others' second try"
    for _ in range(20):
        assert web.call("GET", "/healthz", timeout=5)[0] == 200
    assert web.get("/readyz")[0] == 200
    assert time.monotonic() - began < 30
    for n in range(50):
        store.webhooks.remove(f"owner{n}", host)


def test_a_process_that_is_killed_between_sending_and_noting_sends_again_in_order(
    web: Stack, receiver: Receiver
) -> None:
    store = web.store
    put(web, "killed", receiver.url("/ok/killed"), "state", "end")

    def kill(_: Received) -> None:
        receiver.before = lambda _: None
        os.killpg(web.pid("web"), signal.SIGKILL)

    receiver.before = kill
    job_id = finish_in_store(web)
    receiver.wait("/ok/killed")
    web.restart_web()
    # Its lease is over.
    member = store.redis.zrange(store.keys.webhooks_due(0), 0, -1)
    assert member == [b"local:killed"]
    assert len(receiver.at("/ok/killed")) == 1, "until then nobody else sends"
    store.redis.zadd(store.keys.webhooks_due(0), {b"local:killed": 0})
    got = [json.loads(one.body)["data"] for one in receiver.wait("/ok/killed", 4)]
    assert [one["state"] for one in got] == ["queued", "queued", "running", "succeeded"]
    assert got[-1]["id"] == job_id
    ids = [one.headers["webhook-id"] for one in receiver.at("/ok/killed")]
    assert ids[0] == ids[1]
    assert len(set(ids)) == 3


def finish_in_store(web: Stack) -> str:
    """A job from its beginning to its end, without the web process."""
    job_id = create(web.store)
    web.store.end(claim(web.store, job_id), State.SUCCEEDED)
    return job_id


def test_the_command_makes_shows_rotates_and_repeats(
    web: Stack, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HEADWAY_URL", web.url)

    def headway(*words: str, status: int = 0) -> tuple[list[str], str]:
        assert main(list(words)) == status
        said = capsys.readouterr()
        return said.out.splitlines(), said.err

    address = receiver.url("/ok")
    (secret,), warning = headway("webhooks", "create", "billing", address, "--event", "end")
    assert "not shown again" in warning
    before = len(receiver.at("/ok"))
    job_id = finish(web)
    until(lambda: len(receiver.at("/ok")) == before + 1, what="the delivery")
    assert verifies(secret, receiver.at("/ok")[-1]) == 1
    until(lambda: _log(web, "billing", 1), what="the log")
    line = f"billing  {address}  state,end"
    (shown,), _ = headway("webhooks", "create", "billing", address, "--event", "state", "--event", "end")
    assert shown.startswith(line), "without a secret: it is the one before"
    until(lambda: headway("webhooks", "list")[0] == [line], 10, lambda: str(headway("webhooks", "list")))
    (tried,), _ = headway("webhooks", "deliveries", "billing")
    event_id, *_ = tried.split("  ")
    assert job_id in tried
    assert tried.endswith("attempt 1  delivered (204)")
    (new,), until_when = headway("webhooks", "rotate", "billing")
    assert (new.startswith("whsec_"), "signs beside it until" in until_when) == (True, True)
    assert headway("webhooks", "redeliver", "billing", event_id) == ([], "")
    again = until(lambda: receiver.at("/ok")[before + 1 :], what="it once more")
    assert again[0].headers["webhook-id"] == event_id
    assert (verifies(new, again[0]), verifies(secret, again[0])) == (1, 2)
    assert headway("webhooks", "delete", "billing") == ([], "")
    assert headway("webhooks", "list", "--json") == ([], "")
    assert "no webhook" in headway("webhooks", "deliveries", "billing", status=2)[1]
    assert "needs --webhook" in headway("submit", "t", "--event", "end", status=2)[1]


def test_the_command_submits_with_a_webhook(
    web: Stack, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HEADWAY_URL", web.url)
    web.call("PUT", "/types/by-command", {})
    words = ["submit", "by-command", "--webhook", "http://127.0.0.1:9/x", "--event", "state", "--json"]
    assert main(words) == 0
    job = json.loads(capsys.readouterr().out)
    stored = web.store.redis.hmget(web.store.keys.job(job["id"]), "_hook_url", "_hook_events")
    assert stored == [b"http://127.0.0.1:9/x", b"state"]

"""Workers without a library: types, claims, reports, artifacts and ends, by HTTP alone."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.support import credentials
from tests.support.sse import Reader
from tests.support.stack import Stack
from tests.support.wait import until

PARAMS = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    directory = tmp_path_factory.mktemp("http-workers")
    limits = {"EVENTS_PER_JOB": "100", "MAX_OUTPUT_BYTES": "10000"}
    with Stack(directory, HEARTBEAT_S="1", DRAIN_S="0", LEASE_S="4", **limits) as stack:
        stack.start_web()
        yield stack


@pytest.fixture
def kind(web: Stack, request: pytest.FixtureRequest) -> str:
    """A type of the test's own."""
    name = f"t.{abs(hash(request.node.name)):x}"
    assert call(web, "PUT", f"/types/{name}", {"title": "Count", "params": PARAMS})[0] == 200
    return name


def call(web: Stack, method: str, path: str, body: Any = None, token: str = "") -> tuple[int, Any]:
    headers = {"Content-Type": "application/json"}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    data = body if isinstance(body, bytes) else json.dumps({} if body is None else body).encode()
    status, _, text = web.call(method, path, data, {**headers, "Content-Length": str(len(data))})
    return status, json.loads(text) if text else None


def claim(web: Stack, kind: str, **more: Any) -> dict[str, Any]:
    status, claimed = call(web, "POST", "/claims", {"types": [kind], "worker": "w", **more})
    assert status == 200, claimed
    return dict(claimed)


def nested(levels: int) -> list[Any]:
    """A list in a list in a list…"""
    value: list[Any] = []
    for _ in range(levels - 1):
        value = [value]
    return value


class Holder:
    """A worker that has claimed a job."""

    def __init__(self, web: Stack, claimed: dict[str, Any]) -> None:
        self.web = web
        self.token = claimed["token"]
        self.id = claimed["job"]["id"] if "job" in claimed else claimed["id"]
        self.batch = 0

    def report(self, *events: dict[str, Any], batch: int | None = None) -> tuple[int, Any]:
        self.batch += batch is None
        body = {"batch": batch or self.batch, "events": events}
        return call(self.web, "POST", f"/jobs/{self.id}/reports", body, self.token)

    def end(self, **how: Any) -> tuple[int, Any]:
        return call(self.web, "POST", f"/jobs/{self.id}/end", how, self.token)


def events(web: Stack, job_id: str) -> list[tuple[str, Any]]:
    page = web.get(f"/jobs/{job_id}/events", headers={"Accept": "application/json"})[1]
    return [(event["event"], event["data"]) for event in page["events"]]


def test_a_job_is_claimed_reported_on_and_ended(web: Stack, kind: str) -> None:
    job = web.submit(kind, {"n": 3})
    assert job["state"] == "queued"
    claimed = claim(web, kind)
    assert (claimed["job"]["id"], claimed["attempt"], claimed["lease_s"]) == (job["id"], 1, 4)
    assert claimed["checkpoint"] is None
    held = Holder(web, claimed)
    status, answer = held.report(
        {"type": "log", "message": "begun"},
        {
            "type": "progress",
            "current": 1,
            "total": 4,
            "unit": "rows",
            "message": "row 1",
            "data": {"a": 1},
        },
    )
    assert (status, answer) == (200, {"cancel_requested": False, "lease_s": 4, "messages": []})
    progress = web.get(f"/jobs/{job['id']}")[1]["progress"]
    assert (progress["fraction"], progress["current"], progress["data"]) == (0.25, 1, {"a": 1})
    status, artifact = call(web, "PUT", f"/jobs/{job['id']}/artifacts/rows.csv", b"a,b\n1,2\n", held.token)
    assert (status, artifact["size"], artifact["name"]) == (201, 8, "rows.csv")
    status, ended = held.end(state="succeeded", result={"rows": 4})
    assert (status, ended["state"], ended["result"]) == (200, "succeeded", {"rows": 4})
    assert ended["progress"]["fraction"] == 1
    assert web.call("GET", f"/jobs/{job['id']}/artifacts/rows.csv")[2] == b"a,b\n1,2\n"
    kinds = [kind for kind, _ in events(web, job["id"])]
    assert kinds == ["state", "state", "log", "progress", "artifact", "end"]
    assert held.end(state="succeeded", result={"rows": 4})[0] == 200, "its answer may have been lost"
    assert held.end(state="failed")[0] == 409
    assert held.report()[0] == 409
    assert call(web, "PUT", f"/jobs/{job['id']}/artifacts/rows.csv", b"x", held.token)[0] == 409
    assert web.call("GET", f"/jobs/{job['id']}/artifacts/rows.csv")[2] == b"a,b\n1,2\n"


@pytest.mark.parametrize(
    ("how", "at"),
    [
        ({"state": "succeeded", "error": {"message": "no"}}, "/error"),
        ({"state": "failed", "result": 1}, "/result"),
        ({"state": "retry", "result": 1, "error": {"message": "later"}}, "/result"),
        ({"state": "failed", "delay_s": 1}, "/delay_s"),
    ],
)
def test_an_end_that_says_what_its_state_has_no_place_for_is_refused(
    web: Stack, kind: str, how: dict[str, Any], at: str
) -> None:
    web.submit(kind, {"n": 1})
    held = Holder(web, claim(web, kind))
    status, problem = held.end(**how)
    assert (status, [error["pointer"] for error in problem["errors"]]) == (422, [at])
    assert held.end(state="succeeded", error=None)[0] == 200, "the attempt goes on"


def test_a_claim_waits_for_a_job_and_is_woken_by_it(web: Stack, kind: str) -> None:
    assert call(web, "POST", "/claims", {"types": [kind], "worker": "w"}) == (204, None)
    found: list[dict[str, Any]] = []
    waiting = threading.Thread(target=lambda: found.append(claim(web, kind, wait=30)))
    waiting.start()
    until(lambda: web.metric("headway_streams_open") == 1, what="the claim to wait")
    job = web.submit(kind, {"n": 1})
    waiting.join(20)
    assert [one["job"]["id"] for one in found] == [job["id"]]


def test_a_batch_counts_once_however_often_it_is_sent(web: Stack, kind: str) -> None:
    job = web.submit(kind, {"n": 1})
    held = Holder(web, claim(web, kind))
    for _ in range(3):
        assert held.report({"type": "log", "message": "once"}, batch=1)[0] == 200
    assert held.report({"type": "log", "message": "then"}, batch=2)[0] == 200
    assert [data["message"] for kind, data in events(web, job["id"]) if kind == "log"] == ["once", "then"]


def test_an_attempt_that_falls_silent_is_replaced_and_can_write_no_more(web: Stack, kind: str) -> None:
    call(web, "PUT", f"/types/{kind}", {"params": PARAMS, "lease_s": 1, "max_attempts": 2})
    job = web.submit(kind, {"n": 1})
    first = Holder(web, claim(web, kind))
    first.report({"type": "checkpoint", "value": {"row": 7}})
    second = claim(web, kind, wait=30)
    assert (second["job"]["id"], second["attempt"]) == (job["id"], 2)
    assert second["checkpoint"] == {"row": 7}
    assert first.report({"type": "log", "message": "late"})[0] == 409
    assert first.end(state="succeeded")[0] == 409
    assert Holder(web, second).end(state="succeeded")[1]["attempt"] == 2
    # And one whose last attempt falls silent has failed.
    lost = web.submit(kind, {"n": 1}, max_attempts=1)
    claim(web, kind)
    until(lambda: web.get(f"/jobs/{lost['id']}")[1]["state"] == "failed", 30, "the lost job to fail")
    assert web.get(f"/jobs/{lost['id']}")[1]["error"]["code"] == "worker_lost"


def test_a_retry_comes_after_its_delay_and_without_an_attempt_left_the_job_fails(
    web: Stack, kind: str
) -> None:
    web.submit(kind, {"n": 1}, max_attempts=2)
    held = Holder(web, claim(web, kind))
    status, job = held.end(state="retry", delay_s=0.5, error={"message": "the feed was away"})
    assert (status, job["state"]) == (200, "retrying")
    again = claim(web, kind, wait=30)
    assert again["attempt"] == 2
    status, job = Holder(web, again).end(state="retry", error={"message": "still away"})
    assert (job["state"], job["error"]) == ("failed", {"code": "error", "message": "still away"})


def test_a_worker_is_given_messages_until_it_has_read_them(web: Stack, kind: str) -> None:
    job = web.submit(kind, {"n": 1})
    held = Holder(web, claim(web, kind))
    for word in ("red", "no, blue"):
        assert call(web, "POST", f"/jobs/{job['id']}/messages", {"name": "answer", "data": word})[0] == 201
    unread = held.report()[1]["messages"]
    assert [(one["name"], one["data"]) for one in unread] == [("answer", "red"), ("answer", "no, blue")]
    assert held.report({"type": "read", "id": unread[0]["id"]})[1]["messages"] == unread[1:]
    assert held.report({"type": "read", "id": unread[1]["id"]})[1]["messages"] == []
    # An id beyond all that there can be is none that Redis knows.
    assert held.report({"type": "read", "id": f"{'9' * 20}-{'9' * 20}"})[0] == 200
    held.end(state="succeeded")


def test_a_cancellation_is_in_the_answer_and_the_job_ends_as_canceled(web: Stack, kind: str) -> None:
    job = web.submit(kind, {"n": 1})
    held = Holder(web, claim(web, kind))
    assert call(web, "POST", f"/jobs/{job['id']}/cancel")[0] == 202
    assert held.report()[1]["cancel_requested"] is True
    assert held.end(state="failed", error={"message": "stopped"})[1]["state"] == "canceled"


def test_a_job_that_its_caller_runs_is_running_at_once(web: Stack) -> None:
    body = {"type": "backup", "run": "here", "lease_s": 60, "params": {"host": "db1"}}
    status, job = call(web, "POST", "/jobs", body)
    assert (status, job["state"], job["attempt"], job["lease_s"]) == (202, "running", 1, 60)
    held = Holder(web, job)
    with Reader(web.url, f"/jobs/{job['id']}/events") as reader:
        held.report({"type": "progress", "fraction": 0.4})
        held.end(state="succeeded")
        names = [event.event for event in reader.until_end()]
    assert names[0] == "snapshot"
    assert names[-1] == "end"


def test_a_job_that_its_caller_did_is_submitted_again_only_where_somebody_would_do_it(web: Stack) -> None:
    kind = "own.backup"
    job = call(web, "POST", "/jobs", {"type": kind, "run": "here", "group": "own"})[1]
    Holder(web, job).end(state="failed", error={"message": "no space"})
    status, problem = call(web, "POST", f"/jobs/{job['id']}/retry")
    assert (status, "its own program" in problem["detail"]) == (409, True)
    assert call(web, "POST", "/groups/own/retry")[0] == 200, "there is nothing that could be retried"
    assert call(web, "PUT", f"/types/{kind}")[0] == 200
    status, again = call(web, "POST", f"/jobs/{job['id']}/retry")
    assert (status, again["retry_of"]) == (202, job["id"])
    claimed = claim(web, kind)
    assert claimed["job"]["id"] == again["id"]
    Holder(web, claimed).end(state="succeeded")


def test_a_beginning_whose_answer_was_lost_gives_the_same_job_and_a_token_that_works(web: Stack) -> None:
    body = json.dumps({"type": "backup", "run": "here"}).encode()
    headers = {"Content-Type": "application/json", "Idempotency-Key": "k1"}
    answers = [json.loads(web.call("POST", "/jobs", body, headers)[2]) for _ in range(2)]
    assert answers[0]["id"] == answers[1]["id"]
    assert Holder(web, answers[1]).report({"type": "log", "message": "x"})[0] == 200
    assert answers[1]["attempt"] == 1


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "pointer"),
    [
        ("PUT", "/types/a%20b", {}, 422, "/type_name"),
        ("PUT", "/types/t", {"params": {"type": "nothing"}}, 422, "/params/type"),
        ("PUT", "/types/t", {"params": {"type": ["string", "null"]}}, 422, "/params/type"),
        ("PUT", "/types/t", {"params": {"properties": {"a": {"pattern": "(a+)+"}}}}, 422, None),
        ("PUT", "/types/t", {"params": {"$ref": "http://127.0.0.1:1/"}}, 422, "/params/$ref"),
        ("PUT", "/types/t", {"lease_s": 0}, 422, "/lease_s"),
        ("POST", "/claims", {"types": ["nobody"], "worker": "w"}, 422, "/types/0"),
        ("POST", "/claims", {"types": [], "worker": "w"}, 422, "/types"),
        ("POST", "/claims", {"types": ["t"], "worker": "w", "wait": 61}, 422, "/wait"),
        ("POST", "/jobs", {"type": "x", "lease_s": 5}, 422, None),
        ("POST", "/jobs", {"type": "x", "run": "there"}, 422, "/run"),
        ("POST", "/jobs", {"type": "x", "run": "here", "max_attempts": 2}, 422, None),
    ],
)
def test_what_cannot_be_is_refused(
    web: Stack, method: str, path: str, body: Any, status: int, pointer: str | None
) -> None:
    found, problem = call(web, method, path, body)
    assert found == status, problem
    assert problem["title"]
    if pointer is not None:
        assert problem["errors"][0]["pointer"] == pointer


@pytest.mark.parametrize(
    ("event", "pointer"),
    [
        ({"type": "progress", "fraction": 1.5}, "/events/0/fraction"),
        ({"type": "progress", "current": -1}, "/events/0/current"),
        ({"type": "progress", "data": {"x": "y" * 20_000}}, "/events/0/data"),
        ({"type": "end"}, "/events/0"),
        ({"type": "checkpoint", "value": "x" * 70_000}, "/events/0/value"),
        ({"type": "checkpoint", "value": nested(101)}, "/events/0/value"),
        ({"type": "message", "name": "x", "data": nested(101)}, "/events/0/data"),
        ({"type": "progress", "data": {"x": nested(100)}}, "/events/0/data"),
    ],
)
def test_a_report_that_does_not_fit_changes_nothing(
    web: Stack, kind: str, event: dict[str, Any], pointer: str
) -> None:
    job = web.submit(kind, {"n": 1})
    held = Holder(web, claim(web, kind))
    status, problem = held.report(event)
    assert (status, problem["errors"][0]["pointer"]) == (422, pointer)
    assert [name for name, _ in events(web, job["id"])] == ["state", "state"]
    held.end(state="succeeded")


def test_what_is_nested_as_deeply_as_it_may_be_is_read_everywhere_and_deeper_is_refused(web: Stack) -> None:
    assert call(web, "PUT", "/types/deep", {})[0] == 200
    job = web.submit("deep", {"x": nested(99)})
    held = Holder(web, claim(web, "deep"))
    assert held.report({"type": "progress", "data": {"x": nested(99)}})[0] == 200
    assert held.end(state="succeeded", result=nested(101))[0] == 422
    assert held.end(state="succeeded", result=nested(100))[0] == 200
    status, _, again = web.call("POST", f"/jobs/{job['id']}/retry")
    assert (status, json.loads(again)["params"]) == (202, {"x": nested(99)})
    Holder(web, claim(web, "deep")).end(state="succeeded")
    for path, body in (
        ("/jobs", {"type": "deep", "params": {"x": nested(100)}}),
        ("/jobs:batch", {"jobs": [{"type": "deep", "params": {"x": nested(100)}}]}),
        (f"/jobs/{job['id']}/messages", {"name": "x", "data": nested(101)}),
    ):
        status, problem = call(web, "POST", path, body)
        assert status == 422
        assert "nested more than 100 levels" in problem["errors"][0]["detail"]


def test_progress_never_falls_and_is_never_whole_before_the_end(web: Stack, kind: str) -> None:
    job = web.submit(kind, {"n": 1})
    held = Holder(web, claim(web, kind))
    seen = []
    for current in (5, 3, 12):
        held.report({"type": "progress", "current": current, "total": 10})
        seen.append(web.get(f"/jobs/{job['id']}")[1]["progress"])
    assert [one["fraction"] for one in seen] == [0.5, 0.5, 0.999]
    assert seen[2]["current"] == 10
    held.end(state="succeeded")


def test_the_files_of_an_attempt_have_a_limit_together(web: Stack, kind: str) -> None:
    job = web.submit(kind, {"n": 1})
    held = Holder(web, claim(web, kind))

    def put(name: str, size: int) -> int:
        return call(web, "PUT", f"/jobs/{job['id']}/artifacts/{name}", b"x" * size, held.token)[0]

    assert [put("a", 6000), put("b", 4001), put("b", 4000), put("c", 1)] == [201, 413, 201, 413]
    # One that takes another's place counts instead of it.
    assert [put("a", 6001), put("a", 5999), put("c", 1)] == [413, 201, 201]
    path = f"/jobs/{job['id']}/artifacts/d"
    chunked = {"Authorization": f"Bearer {held.token}", "Transfer-Encoding": "chunked"}
    assert web.call("PUT", path, b"1\r\na\r\n0\r\n\r\n", chunked)[0] == 413
    shown = web.get(f"/jobs/{job['id']}")[1]["artifacts"]
    assert {artifact["name"]: artifact["size"] for artifact in shown} == {"a": 5999, "b": 4000, "c": 1}
    held.end(state="succeeded")


def test_files_that_end_at_the_same_moment_have_that_limit_together_too(web: Stack, kind: str) -> None:
    job = web.submit(kind, {"n": 1})
    held = Holder(web, claim(web, kind))
    socks = []
    for n in range(20):
        head = (
            f"PUT /jobs/{job['id']}/artifacts/f{n} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4000\r\n"
        )
        socks.append(socket.create_connection(("127.0.0.1", web.port), timeout=60))
        socks[-1].sendall(f"{head}Authorization: Bearer {held.token}\r\n\r\n".encode() + b"x" * 3999)
    for sock in socks:
        sock.sendall(b"x")
    statuses = [sock.recv(12)[9:] for sock in socks]
    for sock in socks:
        sock.close()
    assert sorted(statuses) == [b"201"] * 2 + [b"413"] * 18
    assert len(web.get(f"/jobs/{job['id']}")[1]["artifacts"]) == 2
    held.end(state="succeeded")


@pytest.mark.long
def test_a_job_has_a_bounded_number_of_artifacts(web: Stack, kind: str) -> None:
    job = web.submit(kind, {"n": 1})
    held = Holder(web, claim(web, kind))

    def put(name: str) -> int:
        return call(web, "PUT", f"/jobs/{job['id']}/artifacts/{name}", b"x", held.token)[0]

    assert {put(f"part-{n}") for n in range(500)} == {201}
    assert [put("one-more"), put("part-7")] == [422, 201]
    held.end(state="succeeded")


def test_two_files_that_come_at_once_are_both_shown(web: Stack, kind: str) -> None:
    job = web.submit(kind, {"n": 1})
    held = Holder(web, claim(web, kind))
    names = [f"part-{n}.bin" for n in range(8)]

    def put(name: str) -> None:
        assert call(web, "PUT", f"/jobs/{job['id']}/artifacts/{name}", name.encode(), held.token)[0] == 201

    threads = [threading.Thread(target=put, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    shown = web.get(f"/jobs/{job['id']}")[1]["artifacts"]
    assert sorted(artifact["name"] for artifact in shown) == names
    assert sum(name == "artifact" for name, _ in events(web, job["id"])) == len(names)
    held.end(state="succeeded")


def test_the_token_is_for_its_own_job_and_for_nothing_else(web: Stack, kind: str) -> None:
    one, other = web.submit(kind, {"n": 1}), web.submit(kind, {"n": 1})
    held = Holder(web, claim(web, kind))
    assert held.id == one["id"]
    absent = call(web, "POST", f"/jobs/{other['id']}/reports", {"batch": 1}, held.token)
    assert absent[0] == 404
    assert call(web, "GET", f"/jobs/{one['id']}", token=held.token)[0] == 403
    assert call(web, "POST", "/claims", {"types": [kind], "worker": "w"}, held.token)[0] == 403
    assert call(web, "POST", f"/jobs/{one['id']}/reports", {"batch": 1})[0] == 401
    assert call(web, "POST", f"/jobs/{one['id']}/reports", {"batch": 1}, held.token + "x")[0] == 401
    for job_id in (one["id"], other["id"]):
        call(web, "POST", f"/jobs/{job_id}/cancel")


def test_a_client_that_hung_up_while_it_waited_is_given_no_job(web: Stack, kind: str) -> None:
    body = json.dumps({"types": [kind], "worker": "w", "wait": 30}).encode()
    head = f"POST /claims HTTP/1.1\r\nHost: {web.url.removeprefix('http://')}\r\n"
    head += f"{credentials.LINE}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", urlsplit(web.url).port)) as sock:
        sock.sendall(head.encode() + body)
        until(lambda: web.metric("headway_streams_open") == 1, what="the claim to wait")
    job = web.submit(kind, {"n": 1})
    until(lambda: web.metric("headway_streams_open") == 0, what="the claim to end")
    claimed = claim(web, kind, wait=10)
    assert (claimed["job"]["id"], claimed["attempt"]) == (job["id"], 1)
    Holder(web, claimed).end(state="succeeded")


def test_a_job_that_nobody_claims_says_so(web: Stack) -> None:
    call(web, "PUT", "/types/lonely", {"params": PARAMS})
    job = web.submit("lonely", {"n": 1})
    reason = web.get(f"/jobs/{job['id']}")[1]["waiting_reason"]
    assert reason == "no worker asks for jobs of the type lonely (POST /claims)"
    (described,) = [one for one in web.get("/types")[1]["items"] if one["name"] == "lonely"]
    assert described["alive"] is False
    claim(web, "lonely")
    (described,) = [one for one in web.get("/types")[1]["items"] if one["name"] == "lonely"]
    assert described["alive"] is True

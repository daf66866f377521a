"""The HTTP interface over the real web process: what is asked for, and every kind of mistake."""

from __future__ import annotations

import contextlib
import gzip
import http.client
import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from headway.contract.encoding import dumps
from headway.contract.records import Artifact, artifacts_json
from headway.contract.store import Report
from service.api.static import MEDIA_TYPES, WEB
from tests.support import credentials
from tests.support.programs import missing
from tests.support.stack import Stack
from tests.support.wait import until

TYPE = {
    "name": "t",
    "title": "A type",
    "queue": "nobody",
    "max_attempts": None,
    "params": {
        "type": "object",
        "additionalProperties": False,
        "required": ["input"],
        "properties": {
            "input": {"type": "string"},
            "width": {"anyOf": [{"type": "integer", "minimum": 16}, {"type": "null"}]},
            "preset": {"enum": ["a", "b"]},
        },
    },
}
GOOD = {"type": "t", "params": {"input": "x"}}


def about(concurrency: int, queue: str) -> dict[str, Any]:
    return {
        "host": "here", "pid": 7, "concurrency": concurrency, "queues": [queue],
        "started_at": "2026-11-24T20:00:00.000Z",
        "sandbox": {"mode": "auto", "missing": ["landlock"]}, "dropped_messages": 3,
    }  # fmt: skip


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Valkey and a web process, and a job type that nobody works on."""
    with Stack(tmp_path_factory.mktemp("http"), DRAIN_S="0", MAX_UPLOAD_BYTES="3000000") as stack:
        stack.start_web()
        stack.store.registry.register("worker", {"t": json.dumps(TYPE)}, 3600, about(9, "nobody"))
        yield stack


def problem(
    web: Stack, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
) -> dict[str, Any]:
    status, got, answer = web.call(method, path, body, headers)
    assert got["content-type"] == "application/problem+json", answer
    document = json.loads(answer)
    assert document["status"] == status
    assert {"type", "title", "status", "detail"} <= document.keys()
    return document


def test_a_submitted_job_is_answered_with_its_place_and_its_document(web: Stack) -> None:
    body = {**GOOD, "group": "g", "labels": {"a": "b"}, "max_attempts": 5, "timeout_s": 60}
    status, headers, answer = web.call("POST", "/jobs", body)
    job = json.loads(answer)
    assert (status, headers["location"]) == (202, f"/jobs/{job['id']}")
    assert {key: job[key] for key in body} == body
    assert (job["state"], job["attempt"], job["owner"]) == ("queued", 0, "local")
    assert job["links"] == {"self": f"/jobs/{job['id']}", "events": f"/jobs/{job['id']}/events"}
    assert web.get(f"/jobs/{job['id']}") == (200, {**job, "waiting_reason": None, "children": None})


@pytest.mark.parametrize(
    ("body", "status", "pointers"),
    [
        ({"type": "nope", "params": {}}, 422, ["/type"]),
        ({"params": {}}, 422, ["/type"]),
        ({"type": "t"}, 422, ["/params/input"]),
        ({"type": "t", "params": {"input": 1}}, 422, ["/params/input"]),
        (
            {"type": "t", "params": {"input": "x", "what": 1, "width": 1}},
            422,
            ["/params/what", "/params/width"],
        ),
        ({"type": "t", "params": {"input": "x", "preset": "z"}}, 422, ["/params/preset"]),
        ({"type": "t", "params": []}, 422, ["/params"]),
        ({**GOOD, "colour": "red"}, 422, ["/colour"]),
        ({**GOOD, "max_attempts": 0}, 422, ["/max_attempts"]),
        ({**GOOD, "timeout_s": -1}, 422, ["/timeout_s"]),
        ({**GOOD, "group": ""}, 422, ["/group"]),
        ({**GOOD, "group": "a\nb"}, 422, ["/group"]),
        ({**GOOD, "labels": {"a": 1}}, 422, ["/labels/a"]),
        ({**GOOD, "labels": {"": "a", "[key]": 1}}, 422, ["/labels/", "/labels/[key]"]),
        ([], 422, [""]),
        ("text", 422, [""]),
        (None, 400, None),
        (b"", 400, None),
        (b"{", 400, None),
        (b"\xff\xfe", 400, None),
        (b'{"type": "t", "params": {"input": "x", "width": NaN}}', 400, None),
        (b"[" * 100_000, 400, None),
    ],
)  # fmt: skip
def test_a_bad_submission_is_refused_with_pointers_and_makes_no_job(
    web: Stack, body: Any, status: int, pointers: list[str] | None
) -> None:
    before = len(web.get("/jobs?limit=500")[1]["items"])
    found = problem(web, "POST", "/jobs", body, {"Content-Type": "application/json"})
    assert found["status"] == status
    if pointers is not None:
        assert sorted(e["pointer"] for e in found["errors"]) == pointers
        assert all(e["detail"] for e in found["errors"])
    if status == 422:
        assert found["known_types"] == ["t"]
    assert len(web.get("/jobs?limit=500")[1]["items"]) == before


def test_what_is_said_of_a_bad_submission_needs_no_python_to_be_understood(web: Stack) -> None:
    for body in ([], {**GOOD, "params": []}, {**GOOD, "unique": "u"}):
        assert "should be an object" in problem(web, "POST", "/jobs", body)["detail"]
    for text, words in {
        b'{"type": ' + b"9" * 5000 + b"}": "an integer of more than 4300 digits",
        b'{"type": "\xff"}': "not JSON: it is not in UTF-8",
        # There a quotation mark is part of other characters, too: what is in a string could not be told.
        json.dumps(GOOD).encode("utf-16"): "not JSON: it is not in UTF-8",
        json.dumps(GOOD).encode("utf-16-le"): "not JSON",
        b'{"type": "t",}': "not JSON: Expecting property name enclosed in double quotes: line 1 column 14",
        b"": "not JSON",
        b'{"type": -Infinity}': "not JSON: -Infinity is no number of it",
    }.items():
        found = problem(web, "POST", "/jobs", text, {"Content-Type": "application/json"})
        assert (found["status"], words in found["detail"]) == (400, True), found
    assert "[^" not in problem(web, "POST", "/jobs", {**GOOD, "group": "a\nb"})["detail"]


def test_what_is_said_of_a_bad_submission_is_short_however_much_is_wrong_with_it(web: Stack) -> None:
    many = {f"unknown{n}": n for n in range(3000)}
    for params in ({**many, "input": "x"}, {"input": "x", "preset": "y" * 60_000}):
        found = problem(web, "POST", "/jobs", {"type": "t", "params": params})
        assert found["status"] == 422
        assert 1 <= len(found["errors"]) <= 20
        assert len(json.dumps(found)) < 10_000


def test_a_body_that_is_no_json_by_its_type_is_refused(web: Stack) -> None:
    for media_type in ("text/plain", "application/x-www-form-urlencoded"):
        found = problem(web, "POST", "/jobs", json.dumps(GOOD).encode(), {"Content-Type": media_type})
        assert found["status"] == 415


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_of_100_mb_is_refused_and_the_client_hears_it(web: Stack, chunked: bool) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", web.port, timeout=60)
    piece = b'{"type":"t"' + b" " * (1 << 20)
    try:
        connection.request(
            "POST",
            "/jobs",
            (piece for _ in range(100)),
            credentials.BEARER
            | {"Content-Type": "application/json"}
            | ({"Transfer-Encoding": "chunked"} if chunked else {"Content-Length": str(100 * len(piece))}),
            encode_chunked=chunked,
        )
        response = connection.getresponse()
        answer = response.read()
        assert response.status == 413, answer
        assert response.getheader("content-type") == "application/problem+json"
    finally:
        connection.close()
    assert web.get("/healthz")[0] == 200


def test_every_file_of_the_page_has_the_type_that_a_browser_wants(web: Stack) -> None:
    for path in (found for found in WEB.rglob("*") if found.is_file()):
        _, headers, _ = web.call("GET", f"/web/{path.relative_to(WEB)}")
        assert headers["content-type"].partition(";")[0] == MEDIA_TYPES[path.suffix], path.name


def test_unknown_ids_paths_and_methods_are_problems(web: Stack) -> None:
    for job_id in ("0-" + "x" * 22, "rubbish", "0-%E2%98%83", "1-" + "x" * 22, "x" * 5000):
        assert problem(web, "GET", f"/jobs/{job_id}")["status"] == 404
        assert problem(web, "POST", f"/jobs/{job_id}/cancel")["status"] == 404
        assert problem(web, "POST", f"/jobs/{job_id}/retry")["status"] == 404
        assert problem(web, "GET", f"/jobs/{job_id}/artifacts/a")["status"] == 404
    assert problem(web, "GET", "/nowhere")["status"] == 404
    assert problem(web, "GET", "/web/../requirements.txt")["status"] == 404
    assert problem(web, "GET", "/web/%2e%2e/requirements.txt")["status"] == 404
    for method, path in (("DELETE", "/jobs"), ("PUT", "/jobs"), ("POST", "/events"), ("PATCH", "/types")):
        status, headers, _ = web.call(method, path)
        assert status == 405
        assert "GET" in headers["allow"]


def test_files_of_the_pages_are_compressed_for_those_who_take_that(web: Stack) -> None:
    path, gzipped = "/web/job-progress.js", {"Accept-Encoding": "br;q=1.0, gzip;q=0.8"}
    _, plain_headers, plain = web.call("GET", path)
    assert "content-encoding" not in plain_headers
    assert web.call("GET", path, headers={"Accept-Encoding": "gzip;q=0"})[2] == plain
    status, headers, body = web.call("GET", path, headers=gzipped)
    assert status == 200
    assert gzip.decompress(body) == plain
    assert len(body) < len(plain) / 2
    assert headers["content-encoding"] == "gzip"
    assert headers["content-type"] == "text/javascript; charset=utf-8"
    assert headers["vary"] == plain_headers["vary"] == "Accept-Encoding"
    assert headers["etag"] != plain_headers["etag"], "a tag names bytes, not a file"
    for has, tag in ((gzipped, headers["etag"]), ({}, plain_headers["etag"])):
        status, again, body = web.call("GET", path, headers={**has, "If-None-Match": tag})
        assert (status, body, again["etag"]) == (304, b"", tag)
    assert web.call("GET", path, headers={"If-None-Match": headers["etag"]})[0] == 200
    assert problem(web, "GET", "/web/" + "x" * 5000)["status"] == 404
    assert problem(web, "GET", "/web/")["status"] == 404


def test_streams_are_never_compressed(web: Stack) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", web.port, timeout=60)
    try:
        connection.request("GET", "/events", headers={"Accept-Encoding": "gzip", **credentials.BEARER})
        response = connection.getresponse()
        assert response.getheader("content-encoding") is None
        assert response.read(1).isascii()
    finally:
        connection.close()


def test_50_concurrent_posts_with_one_idempotency_key_make_one_job(web: Stack) -> None:
    body = {**GOOD, "group": "idempotent"}
    headers = {"Idempotency-Key": "the key ☃".encode().decode("latin-1")}
    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(lambda _: web.call("POST", "/jobs", body, headers), range(50)))
    assert sorted(status for status, _, _ in answers) == [200] * 49 + [202]
    assert len({json.loads(answer)["id"] for _, _, answer in answers}) == 1
    assert len(web.get("/jobs?group=idempotent")[1]["items"]) == 1
    spaced = json.dumps(dict(reversed(body.items())), indent=3).encode()
    same = web.call("POST", "/jobs", spaced, {**headers, "Content-Type": "application/json"})
    assert same[0] == 200, "the request's meaning counts, not its bytes"
    assert problem(web, "POST", "/jobs", {**body, "group": "other"}, headers)["status"] == 422
    assert problem(web, "POST", "/jobs", body, {"Idempotency-Key": "x" * 256})["status"] == 400


def test_a_repeated_submission_is_answered_with_its_job_though_its_type_has_changed(web: Stack) -> None:
    def declare(*names: str) -> None:
        params = {"properties": {name: {} for name in names}, "additionalProperties": False}
        assert web.call("PUT", "/types/changes", {"params": params})[0] == 200

    body, key = {"type": "changes", "params": {"a": 1}}, {"Idempotency-Key": "before the change"}
    declare("a")
    job = json.loads(web.call("POST", "/jobs", body, key)[2])
    batch = json.loads(web.call("POST", "/jobs:batch", {"jobs": [body, body]}, key)[2])
    declare("b")
    assert problem(web, "POST", "/jobs", body)["status"] == 422
    status, _, same = web.call("POST", "/jobs:batch", {"jobs": [body, body]}, key)
    assert (status, json.loads(same)) == (200, batch)
    assert problem(web, "POST", "/jobs:batch", {"jobs": [body]}, key)["status"] == 422
    status, headers, again = web.call("POST", "/jobs", body, key)
    assert (status, headers["location"]) == (200, f"/jobs/{job['id']}")
    assert json.loads(again) == job
    other = {**body, "params": {"a": 2}}
    assert problem(web, "POST", "/jobs", other, key)["status"] == 422


def test_jobs_are_listed_newest_first_with_filters_and_pages(web: Stack) -> None:
    ids = [web.submit("t", {"input": str(n)}, group="listed")["id"] for n in range(5)]
    web.call("POST", f"/jobs/{ids[0]}/cancel")
    got: list[str] = []
    cursor = ""
    while cursor is not None:
        page = web.get(f"/jobs?group=listed&limit=2{cursor and f'&cursor={cursor}'}")[1]
        got += [item["id"] for item in page["items"]]
        cursor = page["next"]
    assert got == ids[::-1]
    assert [j["id"] for j in web.get("/jobs?group=listed&state=canceled")[1]["items"]] == [ids[0]]
    assert web.get("/jobs?group=listed&type=other")[1] == {"items": [], "next": None}
    for bad in ("state=asleep", "limit=0", "limit=x", "cursor=x", "limit=501", "colour=red"):
        assert problem(web, "GET", f"/jobs?{bad}")["status"] == 422


def test_cancel_is_202_then_200_and_retry_makes_a_new_job_that_names_the_old(web: Stack) -> None:
    job = web.submit("t", {"input": "x"}, labels={"k": "v"}, group="again", timeout_s=5)
    assert problem(web, "POST", f"/jobs/{job['id']}/retry")["status"] == 409
    status, _, answer = web.call("POST", f"/jobs/{job['id']}/cancel")
    canceled = json.loads(answer)
    assert (status, canceled["state"], canceled["error"]["code"]) == (202, "canceled", "canceled")
    assert web.call("POST", f"/jobs/{job['id']}/cancel")[0] == 200
    status, headers, answer = web.call("POST", f"/jobs/{job['id']}/retry")
    again = json.loads(answer)
    assert (status, headers["location"]) == (202, f"/jobs/{again['id']}")
    assert again["retry_of"] == job["id"] != again["id"]
    for same in ("type", "params", "labels", "group", "timeout_s", "max_attempts"):
        assert again[same] == job[same]


def test_a_retry_by_hand_with_an_idempotency_key_makes_one_job(web: Stack) -> None:
    old = web.submit("t", {"input": "x"})["id"]
    other = web.submit("t", {"input": "x"})["id"]
    for job_id in (old, other):
        web.call("POST", f"/jobs/{job_id}/cancel")
    headers = {"Idempotency-Key": "again"}
    first, second = (web.call("POST", f"/jobs/{old}/retry", headers=headers) for _ in range(2))
    assert (first[0], second[0]) == (202, 200)
    assert json.loads(first[2])["id"] == json.loads(second[2])["id"]
    assert problem(web, "POST", f"/jobs/{other}/retry", headers=headers)["status"] == 422


def test_types_tell_their_schema_and_whether_a_worker_is_alive(web: Stack) -> None:
    old = {**TYPE, "name": "old", "title": "Old"}
    web.store.registry.register("gone", {"old": json.dumps(old)}, 3600)
    web.store.registry.forget("gone", ["old"])
    items = {item["name"]: item for item in web.get("/types")[1]["items"]}
    assert items["t"] == {
        "name": "t", "title": "A type", "queue": "nobody", "params": TYPE["params"], "alive": True,
    }  # fmt: skip
    assert items["old"]["alive"] is False
    web.store.redis.hdel(web.store.keys.types, "old")


@contextlib.contextmanager
def registered(web: Stack, worker: str, name: str, concurrency: int) -> Iterator[None]:
    """A worker that says it is there, serves one type, and does nothing."""
    described = json.dumps({**TYPE, "name": name, "queue": f"q-{name}"})
    web.store.registry.register(worker, {name: described}, 3600, about(concurrency, f"q-{name}"))
    yield
    web.store.registry.forget(worker, [name])
    web.store.redis.hdel(web.store.keys.types, name)


def test_workers_tell_what_they_do_and_queues_how_many_wait(web: Stack) -> None:
    with registered(web, "one", "w", 2):
        jobs = [web.submit("w", {"input": "x"})["id"] for _ in range(3)]
        ref = web.store.ref(jobs[0])
        assert ref is not None
        held = web.store.claim(ref, token="w", lease_s=60, worker="one:4711")
        assert held is not None
        status, found = web.get("/workers")
        assert status == 200
        worker, other = found["items"]
        assert (other["name"], other["jobs"]) == ("worker", [])
        assert worker.pop("seen_at") >= held.job.created_at[:10]
        assert worker == {
            "name": "one", "host": "here", "pid": 7, "concurrency": 2, "types": ["w"], "queues": ["q-w"],
            "started_at": "2026-11-24T20:00:00.000Z", "sandbox": {"mode": "auto", "missing": ["landlock"]},
            "dropped_messages": 3, "disk_full": False,
            "jobs": [{"id": jobs[0], "type": "w", "attempt": 1, "since": held.job.started_at}],
        }  # fmt: skip
        text = web.call("GET", "/metrics")[2].decode()
        assert 'headway_messages_dropped_total{worker="one"} 3.0' in text
        queues = {queue["name"]: queue for queue in found["queues"]}
        assert queues["q-w"] == {"name": "q-w", "waiting": 2, "workers": 1}
        web.store.retry(held, delay_s=0, reason="again")
        assert web.get("/workers")[1]["items"][0]["jobs"] == []
        for job_id in jobs:
            web.call("POST", f"/jobs/{job_id}/cancel")
        queues = {queue["name"]: queue for queue in web.get("/workers")[1]["queues"]}
        assert queues["q-w"]["waiting"] == 0
    assert [w["name"] for w in web.get("/workers")[1]["items"]] == ["worker"], "only the living"


def test_a_job_that_waits_says_why(web: Stack) -> None:
    def reason(job_id: str) -> str | None:
        """What one job and the list say, once they agree: they may be a second old."""

        def said() -> list[str | None] | None:
            listed = [j for j in web.get("/jobs?type=why")[1]["items"] if j["id"] == job_id]
            shown = web.get(f"/jobs/{job_id}")[1]
            return [shown["waiting_reason"]] if listed == [shown] else None

        return until(said, what="one job and the list to agree")[0]

    with registered(web, "one", "why", 1):
        first, second = (web.submit("why", {"input": "x"})["id"] for _ in range(2))
        until(lambda: reason(first) is None, what="the worker to be seen")
        ref = web.store.ref(first)
        assert ref is not None
        held = web.store.claim(ref, token="w", lease_s=60, worker="one:4711")
        assert held is not None
        until(lambda: reason(second) == "all workers that serve why are busy", what="the reason to change")
        assert reason(first) is None, "it runs"
        web.store.retry(held, delay_s=60, reason="later")
        assert str(reason(first)).startswith("the next attempt is due at 20")
        until(lambda: reason(second) is None, what="the reason to go")
        web.store.registry.forget("one", ["why"])
        until(lambda: reason(second) == "no living worker serves why", what="the reason to change")
        for job_id in (first, second):
            web.call("POST", f"/jobs/{job_id}/cancel")
            assert reason(job_id) is None


def test_an_upload_is_kept_as_it_was_sent(web: Stack) -> None:
    data = bytes(range(256)) * 5000
    for method, path, name in (
        ("POST", "/uploads?name=clip.mp4", "clip.mp4"),
        ("PUT", "/uploads/clip%20%E2%98%83.mp4", "clip ☃.mp4"),
        ("PUT", "/uploads/..%2F..%2Fetc%2Fpasswd", "passwd"),
        ("POST", "/uploads", "upload"),
    ):
        status, _, answer = web.call(method, path, data)
        made = json.loads(answer)
        assert (status, made["name"], made["size"]) == (201, name, len(data))
        kept = web.directory / "uploads" / made["id"]
        assert (kept / "data").read_bytes() == data
        assert json.loads((kept / "meta.json").read_text()) == {**made, "owner": "local"}
    assert web.call("POST", "/uploads", b"", {"Content-Type": "video/mp4"})[0] == 201


@pytest.mark.parametrize("chunked", [False, True])
def test_an_upload_may_be_as_large_as_the_limit_and_not_a_byte_larger(web: Stack, chunked: bool) -> None:
    def upload(size: int) -> tuple[int, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", web.port, timeout=60)
        length = {"Transfer-Encoding": "chunked"} if chunked else {"Content-Length": str(size)}
        with contextlib.closing(connection):
            headers = {**credentials.BEARER, **length}
            connection.request("POST", "/uploads", iter([b"x" * size]), headers, encode_chunked=chunked)
            response = connection.getresponse()
            return response.status, json.load(response)

    status, kept = upload(3_000_000)
    assert (status, kept.get("size")) == (201, 3_000_000)
    assert web.call("DELETE", f"/uploads/{kept['id']}")[0] == 204
    assert upload(3_000_001)[0] == 413


@pytest.mark.parametrize("path", ["/uploads", "/uploads/clip.mp4"])
def test_a_form_with_a_file_in_it_is_not_taken_for_the_file(web: Stack, path: str) -> None:
    before = web.uploads()
    form = {"Content-Type": "Multipart/Form-Data; boundary=x"}
    body = b'--x\r\nContent-Disposition: form-data; name="file"; filename="x.mp4"\r\n\r\nclip\r\n--x--\r\n'
    status, _, answer = web.call("PUT" if "clip" in path else "POST", path, body, form)
    assert status == 415
    assert "send the file itself" in json.loads(answer)["detail"]
    assert web.uploads() == before


@pytest.mark.parametrize("chunked", [False, True])
def test_an_upload_that_is_too_large_leaves_nothing(web: Stack, chunked: bool) -> None:
    before = web.uploads()
    connection = http.client.HTTPConnection("127.0.0.1", web.port, timeout=60)
    try:
        connection.request(
            "POST",
            "/uploads",
            (b"x" * 100_000 for _ in range(40)),
            credentials.BEARER
            | ({"Transfer-Encoding": "chunked"} if chunked else {"Content-Length": "4000000"}),
            encode_chunked=chunked,
        )
        response = connection.getresponse()
        assert (response.status, response.getheader("content-type")) == (413, "application/problem+json")
        response.read()
    finally:
        connection.close()
    assert web.uploads() == before


def test_an_upload_that_fills_the_disk_is_a_507_and_leaves_nothing(tmp_path: Path) -> None:
    if subprocess.run(["unshare", "--user", "--map-root-user", "--mount", "true"], check=False).returncode:
        missing("the right to mount a small disk")
    disk = tmp_path / "disk"
    disk.mkdir()
    stack = Stack(tmp_path, DATA_DIR=str(disk), DRAIN_S="0", MIN_FREE_BYTES="0")
    mount = 'mount -t tmpfs -o size=2m small "$DATA_DIR" && exec "$0" -m service web'
    enter = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mount, sys.executable]
    try:
        process = stack.start("web", "-c", f"import os; os.execvp('unshare', {enter!r})")
        # Nobody else sees the disk.
        seen = Path(f"/proc/{process.pid}/root") / disk.relative_to("/")

        def ready() -> bool:
            assert process.poll() is None, stack.log("web")
            with contextlib.suppress(OSError):
                return bool(stack.get("/readyz")[0] == 200)
            return False

        until(ready, what="the web process to be ready")
        for size in (1000, 3_000_000, 1000):
            # Of no length that is known before, so that only the disk can say no.
            connection = http.client.HTTPConnection("127.0.0.1", stack.port, timeout=60)
            pieces = (b"x" * 1000 for _ in range(size // 1000))
            chunked = {"Transfer-Encoding": "chunked", **credentials.BEARER}
            with contextlib.closing(connection), contextlib.suppress(BrokenPipeError):
                connection.request("POST", "/uploads", pieces, chunked, encode_chunked=True)
                response = connection.getresponse()
                answer = response.read()
                assert response.status == (201 if size == 1000 else 507), answer
                assert size == 1000 or "disk is full" in json.loads(answer)["detail"]
        assert len(list((seen / "uploads").glob("*"))) == 2
        assert not list((seen / "uploads").glob(".*"))
    finally:
        stack.close()


@pytest.mark.parametrize("head", ["Content-Length: 3000000", "Transfer-Encoding: chunked"])
def test_an_upload_whose_sender_vanishes_leaves_nothing(web: Stack, head: str) -> None:
    before = web.uploads()
    with socket.create_connection(("127.0.0.1", web.port)) as sender:
        # More than a piece of an upload: what is less is not written before it is whole.
        data = b"x" * 0x180000
        piece = data if "Length" in head else b"180000\r\n" + data + b"\r\n"
        lines = ["POST /uploads HTTP/1.1", "Host: localhost", credentials.LINE, head, "", ""]
        sender.sendall("\r\n".join(lines).encode() + piece)
        until(lambda: len(web.uploads()) > len(before), what="the upload to begin")
    until(lambda: web.uploads() == before, what="the partial upload to be gone")


@pytest.mark.parametrize("name", ["", "x" * 300, ".."])
def test_an_uploads_name_has_bounds(web: Stack, name: str) -> None:
    assert problem(web, "POST", f"/uploads?name={name}", b"x")["status"] == 422


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("Screen Recording at 4.42.48\u202fPM.mov", None),
        ("no\u00a0break \u3000 wide.mp4", None),
        ("\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645.mp4", None),
        ("family \U0001f468\u200d\U0001f469\u200d\U0001f467 \u200e.mp4", None),
        ("-i '50%d' \"q\" #?&;$(x).mp4", None),
        ("two\nlines\x1b[31m\x00.mp4", "two\ufffdlines\ufffd[31m\ufffd.mp4"),
        ("harmless\u202e4pm.exe", "harmless\ufffd4pm.exe"),
        ("u\u2028v\u2066w.mp4", "u\ufffdv\ufffdw.mp4"),
    ],
)
def test_any_name_that_a_file_may_have_is_accepted(web: Stack, name: str, shown: str | None) -> None:
    for method, path in (("POST", f"/uploads?name={quote(name)}"), ("PUT", f"/uploads/{quote(name)}")):
        status, _, body = web.call(method, path, b"x")
        assert (status, json.loads(body)["name"]) == (201, shown or name)


@pytest.fixture
def artifact(web: Stack) -> tuple[str, bytes]:
    """A running job whose second attempt made an artifact that the first had made too."""
    job_id = web.submit("t", {"input": "x"})["id"]
    ref = web.store.ref(job_id)
    assert ref is not None
    held = web.store.claim(ref, token="a", lease_s=60, worker="w")
    assert held is not None
    data = bytes(range(256)) * 40
    for attempt, content in ((1, b"old"), (2, data)):
        place = web.directory / "artifacts" / job_id / str(attempt)
        (place / "hls").mkdir(parents=True)
        for name in ("video.mp4", "evil.html", "hls/master.m3u8", "hls/0.ts", "secret"):
            (place / name).write_bytes(content)
    (web.directory / "outside").write_bytes(b"secret")
    kinds = {
        "video.mp4": "video/mp4",
        "evil.html": "text/html",
        "hls/master.m3u8": "application/vnd.apple.mpegurl",
    }
    url = f"/jobs/{job_id}/artifacts/"
    made = [
        Artifact(name=name, media_type=kind, size=len(data), url=url + name, attempt=2)
        for name, kind in kinds.items()
    ]
    web.store.append(
        held,
        1,
        [Report("artifact", dumps(m.model_dump()), "artifacts", artifacts_json(made)) for m in made],
    )
    return job_id, data


def test_an_artifact_is_served_whole_in_parts_and_not_again(
    web: Stack, artifact: tuple[str, bytes]
) -> None:
    job_id, data = artifact
    url = web.get(f"/jobs/{job_id}")[1]["artifacts"][0]["url"]
    status, headers, body = web.call("GET", url)
    assert (status, body, headers["content-type"]) == (200, data, "video/mp4")
    assert headers["content-disposition"].startswith("attachment")
    assert headers["accept-ranges"] == "bytes"
    status, part_headers, body = web.call("GET", url, headers={"Range": "bytes=100-199"})
    assert (status, body) == (206, data[100:200])
    assert part_headers["content-range"] == f"bytes 100-199/{len(data)}"
    assert web.call("GET", url, headers={"Range": "bytes=-5"})[2] == data[-5:]
    assert web.call("GET", url, headers={"Range": "bytes=999999-"})[0] == 416
    for ignored in ("bytes=0-1,4-5", "items=0-1", "bytes=5-2", "bytes=abc"):
        assert web.call("GET", url, headers={"Range": ignored})[::2] == (200, data), ignored
    assert web.call("GET", url, headers={"If-None-Match": headers["etag"]})[0] == 304
    assert web.call("GET", url + "?play=1")[1]["content-disposition"].startswith("inline")
    assert web.call("HEAD", url)[1]["content-length"] == str(len(data))


def test_what_a_client_has_of_an_artifact_counts_before_the_part_that_it_wants(
    web: Stack, artifact: tuple[str, bytes]
) -> None:
    job_id, data = artifact
    url = web.get(f"/jobs/{job_id}")[1]["artifacts"][0]["url"]
    tag, part = web.call("HEAD", url)[1]["etag"], {"Range": "bytes=0-9"}
    assert web.call("GET", url, headers={**part, "If-None-Match": tag})[::2] == (304, b"")
    assert web.call("GET", url, headers={**part, "If-Match": tag})[::2] == (206, data[:10])
    for headers in (part, {}):
        assert problem(web, "GET", url, headers={**headers, "If-Match": '"another"'})["status"] == 412


MANY = ",".join(["0-0"] * 1500)


@pytest.mark.parametrize(
    "wanted", ["items=0-1", "bytes=0-1,4-5", "rubbish", f"bytes={MANY}"], ids=lambda wanted: wanted[:20]
)
def test_a_range_that_is_not_understood_gets_the_whole_artifact(
    web: Stack, artifact: tuple[str, bytes], wanted: str
) -> None:
    url = web.get(f"/jobs/{artifact[0]}")[1]["artifacts"][0]["url"]
    status, headers, body = web.call("GET", url, headers={"Range": wanted})
    assert (status, body, headers["accept-ranges"]) == (200, artifact[1], "bytes")


def test_a_range_of_1500_parts_that_is_longer_than_a_header_may_be_is_refused(
    web: Stack, artifact: tuple[str, bytes]
) -> None:
    parts = ",".join(f"{n}-{n}" for n in range(1500))
    assert (
        web.call("GET", f"/jobs/{artifact[0]}/artifacts/video.mp4", headers={"Range": f"bytes={parts}"})[0]
        == 431
    )


def test_an_artifact_that_is_a_page_cannot_act_as_one_of_ours(
    web: Stack, artifact: tuple[str, bytes]
) -> None:
    _, headers, _ = web.call("GET", f"/jobs/{artifact[0]}/artifacts/evil.html?play=1")
    assert "sandbox" in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"


def test_only_artifacts_and_what_lies_beside_a_playlist_are_served(
    web: Stack, artifact: tuple[str, bytes]
) -> None:
    job_id, data = artifact
    assert web.call("GET", f"/jobs/{job_id}/artifacts/hls/0.ts")[2] == data
    for name in (
        "secret",
        "hls/../secret",
        "hls/%2e%2e/secret",
        "hls/..%2f..%2f..%2f..%2foutside",
        "hls/%00",
        "hls",
    ):
        assert web.call("GET", f"/jobs/{job_id}/artifacts/{name}")[0] == 404


def test_the_pages_name_nothing_outside_this_origin(web: Stack) -> None:
    for path in ("/docs", "/"):
        status, headers, body = web.call("GET", path)
        assert (status, headers["content-type"].split(";")[0]) == (200, "text/html")
        assert b'src="http' not in body
        assert b'href="http' not in body
    for path in ("swagger-ui.css", "swagger-ui-bundle.js", "swagger-ui-standalone-preset.js"):
        assert web.call("GET", f"/docs/{path}")[0] == 200


def test_a_store_that_is_away_is_a_503_and_readiness_says_so(own_stack: Stack) -> None:
    own_stack.start_web()
    own_stack.store.registry.register("worker", {"t": json.dumps(TYPE)}, 3600)
    assert own_stack.get("/readyz")[0] == 200
    own_stack.valkey.stop()
    for method, path, body in (("POST", "/jobs", GOOD), ("GET", "/jobs", None), ("GET", "/readyz", None)):
        assert problem(own_stack, method, path, body)["status"] == 503
    assert own_stack.get("/healthz")[0] == 200


def test_a_store_that_is_nearly_full_takes_no_new_job_and_lets_the_living_write(own_stack: Stack) -> None:
    own_stack.start_web()
    own_stack.store.registry.register("worker", {"t": json.dumps(TYPE)}, 3600)
    job_id = own_stack.submit("t", {"input": "x"})["id"]
    used = own_stack.store.redis.info("memory")["used_memory"]
    own_stack.store.redis.config_set("maxmemory", int(used * 1.2))
    unknown = {"type": "unknown", "params": {}}  # which takes no memory until then
    until(lambda: own_stack.call("POST", "/jobs", unknown)[0] == 503, 5, "the service to know of it")
    assert own_stack.call("POST", "/jobs", GOOD)[1]["retry-after"] == "30"
    by_tus = {"Tus-Resumable": "1.0.0", "Upload-Length": "1"}
    assert own_stack.call("POST", "/uploads", headers=by_tus)[0] == 503
    assert own_stack.call("POST", "/uploads", b"kept among the files")[0] == 201
    ref = own_stack.store.ref(job_id)
    assert ref is not None
    assert own_stack.store.claim(ref, token="t", lease_s=9, worker="w") is not None

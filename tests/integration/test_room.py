"""Limits of what is kept, and how room is made: sizes, removal, a disk that fills."""

from __future__ import annotations

import contextlib
import http.client
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from headway.contract.events import ZERO
from headway.contract.records import MAX_PARAMS_BYTES
from headway.contract.states import State
from tests.support.fake_worker import claim, create
from tests.support.small_disk import small_disk
from tests.support.stack import Stack
from tests.support.wait import until

TYPE: dict[str, Any] = {"name": "t", "title": "T", "queue": "one", "params": {"type": "object"}}


def register(stack: Stack, **more: Any) -> None:
    described = json.dumps({**TYPE, "max_attempts": None, **more})
    stack.store.registry.register("worker", {"t": described}, 3600)


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with Stack(tmp_path_factory.mktemp("room"), DRAIN_S="0") as stack:
        stack.start_web()
        register(stack)
        yield stack


def test_params_have_a_limit_and_the_answer_says_which(web: Stack) -> None:
    fits = {"x": "y" * (MAX_PARAMS_BYTES - 8)}
    web.submit("t", fits)
    status, _, body = web.call("POST", "/jobs", {"type": "t", "params": {"x": fits["x"] + "y"}})
    problem = json.loads(body)
    assert status == 422
    assert [error["pointer"] for error in problem["errors"]] == ["/params"]
    assert str(MAX_PARAMS_BYTES) in problem["detail"]


def test_a_retry_goes_to_the_queue_that_the_type_has_now(web: Stack) -> None:
    job = web.submit("t", {})
    web.store.cancel(job["id"])
    try:
        register(web, queue="two")
        until(lambda: web.get("/types")[1]["items"][0]["queue"] == "two")
        status, _, body = web.call("POST", f"/jobs/{job['id']}/retry")
        assert status == 202, body
        again = web.store.ref(json.loads(body)["id"])
        assert again is not None
        assert again.queue == "two"
    finally:
        register(web)
        until(lambda: web.get("/types")[1]["items"][0]["queue"] == "one")


def test_an_ended_job_is_removed_with_all_that_belongs_to_it(web: Stack) -> None:
    job = json.loads(web.call("POST", "/jobs", {"type": "t"}, {"Idempotency-Key": "a key"})[2])
    path = f"/jobs/{job['id']}"
    status, _, body = web.call("DELETE", path)
    assert status == 409, body
    assert web.get(path)[0] == 200
    web.store.cancel(job["id"])
    made = web.directory / "artifacts" / job["id"] / "1"
    made.mkdir(parents=True)
    assert web.call("DELETE", path)[0] == 204
    assert not made.parent.exists()
    assert web.get(path)[0] == web.get(f"{path}/events")[0] == web.call("DELETE", path)[0] == 404
    assert job["id"] not in {found["id"] for found in web.get("/jobs")[1]["items"]}
    left = [key for key in web.store.redis.scan_iter("headway:*") if job["id"].encode() in key]
    assert left == []
    status, _, body = web.call("POST", "/jobs", {"type": "t"}, {"Idempotency-Key": "a key"})
    assert status == 202
    assert json.loads(body)["id"] != job["id"]


def test_an_upload_is_removed(web: Stack) -> None:
    upload = json.loads(web.call("PUT", "/uploads/x.bin", b"x")[2])
    directory = web.directory / "uploads" / upload["id"]
    assert directory.is_dir()
    assert web.call("DELETE", f"/uploads/{upload['id']}")[0] == 204
    assert not directory.exists()
    for unknown in (upload["id"], "..", ".", "%2e%2e", "x" * 22):
        assert web.call("DELETE", f"/uploads/{unknown}")[0] in (404, 405), unknown
    assert directory.parent.is_dir()


def test_on_a_disk_that_is_nearly_full_nothing_new_is_taken_and_live_work_goes_on(tmp_path: Path) -> None:
    with Stack(tmp_path, DRAIN_S="0", MIN_FREE_BYTES=str(1 << 60)) as stack:
        stack.start_web()
        register(stack)
        status, _, body = stack.call("PUT", "/uploads/x.bin", b"x")
        assert status == 507
        assert "disk is nearly full" in json.loads(body)["detail"]
        assert not list((tmp_path / "uploads").glob("*"))
        status, headers, body = stack.call("POST", "/jobs", {"type": "t"})
        assert (status, headers["retry-after"]) == (503, "30")
        assert "disk is nearly full" in json.loads(body)["detail"]
        job_id = create(stack.store)
        stack.store.end(claim(stack.store, job_id), State.SUCCEEDED)
        assert stack.get(f"/jobs/{job_id}")[1]["state"] == "succeeded"


def test_what_is_coming_in_ends_before_it_has_filled_the_disk(tmp_path: Path) -> None:
    """The store's own files may be on it, too."""
    with small_disk(tmp_path / ".files", "size=48m") as disk:
        environ = {"FILES_URL": disk.as_uri(), "MIN_FREE_BYTES": str(24 << 20)}
        with Stack(tmp_path, DRAIN_S="0", **environ) as stack:
            stack.start_web()
            least = [48 << 20]

            def pieces() -> Iterator[bytes]:
                for _ in range(40):
                    least.append(shutil.disk_usage(disk).free)
                    yield b"x" * (1 << 20)

            connection = http.client.HTTPConnection("127.0.0.1", stack.port, timeout=60)
            with contextlib.closing(connection), contextlib.suppress(ConnectionError):
                connection.request("POST", "/uploads", pieces(), stack.headers, encode_chunked=True)
            assert min(least) > 12 << 20
            until(lambda: not list((disk / "uploads").iterdir()), what="all of it to be removed")
            assert stack.call("POST", "/uploads", b"x")[0] == 201


def test_what_was_submitted_before_the_disk_filled_is_still_the_answer_to_its_key(own_stack: Stack) -> None:
    def submit() -> tuple[int, str]:
        status, _, body = own_stack.call("POST", "/jobs", {"type": "t"}, {"Idempotency-Key": "submit"})
        return status, json.loads(body).get("id")

    def retry(job_id: str) -> tuple[int, str]:
        headers = {"Idempotency-Key": "retry"}
        status, _, body = own_stack.call("POST", f"/jobs/{job_id}/retry", headers=headers)
        return status, json.loads(body).get("id")

    own_stack.start_web()
    register(own_stack)
    status, job_id = submit()
    assert status == 202
    own_stack.store.cancel(job_id)
    status, again = retry(job_id)
    assert status == 202
    own_stack.stop("web")
    own_stack.environ["MIN_FREE_BYTES"] = str(1 << 60)
    own_stack.start_web()
    assert own_stack.call("POST", "/jobs", {"type": "t"})[0] == 503
    assert submit() == (200, job_id)
    assert retry(job_id) == (200, again)


def test_a_store_that_cannot_write_its_disk_refuses_submissions_and_goes_on_by_itself(
    tmp_path: Path,
) -> None:
    with Stack(tmp_path, DRAIN_S="0") as stack:
        stack.start_web()
        register(stack)
        waiting = create(stack.store)
        # A server that could not save its data refuses writes (MISCONF).
        directory = stack.store.redis.config_get("dir")["dir"]
        stack.store.redis.config_set("save", "1 1")
        stack.store.redis.config_set("stop-writes-on-bgsave-error", "yes")
        Path(directory, "dump.rdb").unlink(missing_ok=True)
        Path(directory, "dump.rdb").mkdir()
        stack.store.redis.set("changed", "1")
        with contextlib.suppress(redis.ResponseError):  # one may have begun by itself
            stack.store.redis.execute_command("BGSAVE")

        def refuses() -> bool:
            try:
                stack.store.redis.set("changed", "2")
            except redis.ResponseError as error:
                return "MISCONF" in str(error)
            return False

        until(refuses, what="MISCONF")
        status, headers, _ = stack.call("POST", "/jobs", {"type": "t"})
        assert (status, headers["retry-after"]) == (503, "2")
        assert stack.get(f"/jobs/{waiting}")[1]["state"] == "queued"
        Path(directory, "dump.rdb").rmdir()
        until(lambda: not refuses(), what="the store to write again")
        until(lambda: stack.call("POST", "/jobs", {"type": "t"})[0] == 202)
        stack.store.cancel(waiting)
        page = stack.store.read(waiting, ZERO, 10)
        assert page is not None
        assert page.ended

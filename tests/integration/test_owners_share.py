"""Owners share a service: each has its turn at the workers, and a limit to what it submits."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from headway.contract.encoding import dumps
from headway.contract.files import upload_key
from headway.contract.limits import Limits, TooManyJobs
from headway.contract.local_files import LocalFiles
from headway.contract.new_job import NewJob
from headway.contract.states import State
from headway.contract.store import JobStore
from headway.contract.uploads import DATA, complete_upload
from tests.support import credentials
from tests.support.clocked_store import ClockedStore
from tests.support.fake_worker import claim, create
from tests.support.stack import Stack
from tests.support.wait import until
from tests.support.worker_stack import WorkerStack

QUEUE = "nobody"


def take(store: JobStore) -> str:
    """Claim the job that is next. Returns its owner."""
    found = store.next(0, QUEUE)
    assert found is not None
    held = claim(store, found[0].id)
    assert held.job.type == found[1]
    return held.job.owner


def new(owner: str) -> NewJob:
    return NewJob(owner=owner, type="simulate", params={}, queue=QUEUE, max_attempts=3)


def test_the_first_job_of_an_owner_does_not_wait_behind_all_those_of_another(store: JobStore) -> None:
    for _ in range(20):
        create(store, owner="many")
    assert [take(store) for _ in range(3)] == ["many"] * 3
    create(store, owner="one")
    assert take(store) == "one"
    assert take(store) == "many"


def test_owners_take_turns_and_each_has_its_jobs_in_their_order(store: JobStore) -> None:
    made = {owner: [create(store, owner=owner) for _ in range(4)] for owner in ("c", "a", "b")}
    order = []
    while found := store.next(0, QUEUE):
        claim(store, found[0].id)
        order.append(found[0])
    assert [ref.owner for ref in order] == ["c", "a", "b"] * 4
    for owner, jobs in made.items():
        assert [ref.id for ref in order if ref.owner == owner] == jobs
    assert not store.redis.exists(store.keys.waiting(0, QUEUE), store.keys.turns(0, QUEUE))


def test_owners_that_come_later_do_not_go_before_one_that_waits(store: JobStore) -> None:
    create(store, owner="z")
    create(store, owner="y")
    assert take(store) == "z"
    for n in range(5):
        create(store, owner=f"a{n}")
    assert [take(store) for _ in range(6)] == ["y", *(f"a{n}" for n in range(5))]


def test_an_owner_that_was_idle_has_saved_up_no_turns(store: JobStore) -> None:
    for _ in range(30):
        create(store, owner="busy")
    create(store, owner="idle")
    for _ in range(12):
        take(store)
    for _ in range(10):
        create(store, owner="idle")
    assert [take(store) for _ in range(6)].count("idle") in (3, 4)


def test_a_job_whose_delay_is_not_over_has_no_turn_and_is_the_first_afterwards(
    clocked: ClockedStore,
) -> None:
    job_id = create(clocked)
    clocked.retry(claim(clocked, job_id), delay_s=5, reason="once more")
    assert clocked.next(0, QUEUE) is None
    others = [create(clocked) for _ in range(3)]
    assert clocked.next(0, QUEUE)[0].id == others[0]  # type: ignore[index]
    claim(clocked, others[0])
    clocked.advance(5)
    assert clocked.alarms.answer(job_id) is not None
    assert clocked.next(0, QUEUE)[0].id == job_id  # type: ignore[index]


def test_whoever_submits_too_fast_is_told_when_to_try_again(clocked: ClockedStore) -> None:
    limits = Limits(rate=2, burst=3)
    for _ in range(3):
        clocked.create(new("fast"), limits=limits)
    with pytest.raises(TooManyJobs) as refused:
        clocked.create(new("fast"), limits=limits)
    assert refused.value.retry_after_s == 0.5
    clocked.create(new("other"), limits=limits)
    clocked.advance(0.5)
    clocked.create(new("fast"), limits=limits)
    with pytest.raises(TooManyJobs):
        clocked.create(new("fast"), limits=limits)
    clocked.advance(60)
    for _ in range(3):
        clocked.create(new("fast"), limits=limits)
    with pytest.raises(TooManyJobs):
        clocked.create(new("fast"), limits=limits)


def test_a_repeated_submission_is_no_new_one(clocked: ClockedStore) -> None:
    limits = Limits(rate=1, burst=1, live=1)
    first, _, _ = clocked.create(new("owner"), once=("key", "hash"), limits=limits)
    again, _, is_new = clocked.create(new("owner"), once=("key", "hash"), limits=limits)
    assert (again, is_new) == (first, False)


def test_an_owner_with_too_many_live_jobs_may_submit_when_one_has_ended(store: JobStore) -> None:
    limits = Limits(live=2)
    first, _, _ = store.create(new("owner"), limits=limits)
    store.create(new("owner"), limits=limits)
    with pytest.raises(TooManyJobs, match="2 jobs have not ended"):
        store.create(new("owner"), limits=limits)
    store.create(new("other"), limits=limits)
    store.end(claim(store, first), State.SUCCEEDED)
    store.create(new("owner"), limits=limits)


def test_over_the_limit_a_submission_is_a_429_that_says_when(tmp_path: Path) -> None:
    with Stack(tmp_path, SUBMIT_RATE="0.1", MAX_LIVE_JOBS="50", JOB_TIMEOUT_S="77") as stack:
        stack.start_web()
        described = dumps({"name": "simulate", "title": "t", "queue": QUEUE, "params": {"type": "object"}})
        stack.store.registry.register("worker", {"simulate": described}, 3600)
        job = stack.submit("simulate", {})
        assert job["timeout_s"] == 77
        status, headers, body = stack.call("POST", "/jobs", {"type": "simulate", "params": {}})
        assert status == 429
        assert headers["content-type"] == "application/problem+json"
        assert 1 <= int(headers["retry-after"]) <= 10
        assert b"nothing was submitted" in body
        assert len(stack.get("/jobs")[1]["items"]) == 1


def test_a_worker_gives_each_owner_its_turn(new_worker_stack: Callable[..., WorkerStack]) -> None:
    stack = new_worker_stack(WORKER_CONCURRENCY="1")
    many = [stack.enqueue("simulate", owner="many", duration_s=0.2) for _ in range(6)]
    one = stack.enqueue("simulate", owner="one", duration_s=0.2)
    for job_id in [*many, one]:
        assert stack.ended(job_id).state is State.SUCCEEDED
        assert stack.job(job_id).attempt == 1
    started = sorted((stack.job(job_id).started_at or "", job_id) for job_id in [*many, one])
    assert [job_id for _, job_id in started].index(one) <= 2


def test_an_owner_whose_uploads_fill_its_quota_gets_507_until_one_is_gone(tmp_path: Path) -> None:
    with Stack(tmp_path, UPLOAD_QUOTA_BYTES="4000000") as stack:
        stack.start_web()

        def upload(size: int) -> tuple[int, dict[str, str]]:
            status, _, body = stack.call("POST", "/uploads", b"a" * size)
            return status, json.loads(body)

        def kept() -> int:
            return len(list((tmp_path / "uploads").iterdir()))

        status, first = upload(2_400_000)
        assert status == 201
        status, refused = upload(2_000_000)
        assert status == 507
        assert "4000000 bytes together" in refused["detail"]
        assert upload(1_600_000)[0] == 201
        assert upload(1)[0] == 507
        assert stack.call("DELETE", f"/uploads/{first['id']}")[0] == 204
        assert chunked(stack, 2_800_000) == 507, "whose length was not known before"
        assert chunked(stack, 400_000) == 201
        assert kept() == 2, "what was refused leaves nothing"
        with closing(http.client.HTTPConnection("127.0.0.1", stack.port, timeout=20)) as connection:
            connection.putrequest("POST", "/uploads")
            for name, value in (*credentials.BEARER.items(), ("Content-Length", "2000000")):
                connection.putheader(name, value)
            connection.endheaders(b"a" * 1_500_000)
            until(lambda: kept() == 3, what="its first piece to be written")
            taken_elsewhere(tmp_path, 1)
            connection.send(b"a" * 500_000)
            assert connection.getresponse().status == 507, "as another process took one meanwhile"
        assert kept() == 3


def taken_elsewhere(directory: Path, size: int) -> None:
    """An upload that this web process knows nothing of until it looks."""
    files, upload_id = LocalFiles(directory), "u" * 22
    piece = files.add(upload_key(upload_id, DATA), 0, b"a" * size, "0")
    complete_upload(files, {"id": upload_id, "name": "x", "size": size}, credentials.OWNER, [piece])


def chunked(stack: Stack, size: int) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", stack.port, timeout=20)
    with closing(connection):
        pieces = iter([b"a" * 100_000] * (size // 100_000))
        connection.request("POST", "/uploads", pieces, credentials.BEARER, encode_chunked=True)
        return connection.getresponse().status

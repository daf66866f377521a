"""POST /jobs:batch: many jobs in one step, all or none."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path
from typing import Any

import pytest

from headway.client import Client, Invalid
from headway.contract.encoding import dumps
from headway.contract.limits import Limits, TooManyJobs
from headway.contract.new_job import NewJob
from headway.contract.records import Unique
from headway.contract.store import IdempotencyConflict, JobStore
from service.api.operation import MAX_VALUES
from service.api.submissions import MAX_BATCH_BYTES
from tests.support import credentials
from tests.support.clocked_store import ClockedStore
from tests.support.fake_worker import claim, stored
from tests.support.processes import descendants
from tests.support.stack import Stack
from tests.support.wait import until

SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "additionalProperties": False}
TYPES = {
    name: dumps({"name": name, "title": name, "queue": f"q{name}", "params": SCHEMA}) for name in ("a", "b")
}


FREE = {"name": "t", "title": "t", "queue": "q", "params": {"type": "object"}}


def new(**more: Any) -> NewJob:
    return NewJob(**{"owner": "local", "type": "t", "params": {}, "queue": "q", "max_attempts": 1, **more})


# -- in the store --------------------------------------------------------------------------------------


def test_each_job_of_a_batch_is_like_one_that_was_made_alone(store: JobStore) -> None:
    jobs = [
        new(queue="q", priority=1),
        new(queue="r", group="g", params={"n": 2}, labels={"k": "v"}),
        new(queue="q", priority=9, expires_s=60),
        new(queue="r", group="h"),
    ]
    made, is_new = store.create_many(jobs)
    assert is_new
    assert all(created for _, created in made)
    alone = [store.create(job)[0] for job in jobs]
    for (job_id, _), other in zip(made, alone, strict=True):
        one, two = store.get(job_id), store.get(other)
        assert one is not None
        assert two is not None
        own = {"id", "created_at", "updated_at", "last_event_id", "links", "expires_at"}
        assert one.model_dump(exclude=own) == two.model_dump(exclude=own)
        assert (one.expires_at is None) == (two.expires_at is None)
        assert [kind for _, kind in stored(store, job_id)] == ["state"]
        assert store.redis.zscore(store.keys.alarms(0), job_id)
    group = json.loads(store.groups.get("local", "g") or b"")
    assert group["counts"]["queued"] == 2
    assert [r.id for r, _ in iter(lambda: _take(store, "q"), None)] == [
        made[2][0],
        alone[2],
        made[0][0],
        alone[0],
    ]
    assert _take(store, "r")[0].id == made[1][0]  # type: ignore[index]


def _take(store: JobStore, queue: str) -> Any:
    found = store.next(0, queue)
    if found is not None:
        claim(store, found[0].id)
    return found


def test_ids_are_in_the_order_of_the_submissions_and_follow_each_other(store: JobStore) -> None:
    made, _ = store.create_many([new() for _ in range(1000)])
    listed = [page.id for page in store.listings.page("local", limit=500)[0]]
    assert listed == [job_id for job_id, _ in reversed(made)][:500]


def test_the_same_batch_again_makes_nothing_and_another_is_refused(store: JobStore) -> None:
    jobs = [new() for _ in range(3)]
    first = store.create_many(jobs, once=("key", "hash"))
    again = store.create_many(jobs, once=("key", "hash"))
    assert (again[0], again[1]) == (first[0], False)
    with pytest.raises(IdempotencyConflict):
        store.create_many(jobs, once=("key", "other"))
    assert len(store.listings.page("local")[0]) == 3


def test_jobs_of_one_batch_with_one_unique_key_are_one(store: JobStore) -> None:
    made, _ = store.create_many([new(unique=Unique(key="k")) for _ in range(3)])
    assert [created for _, created in made] == [True, False, False]
    assert len({job_id for job_id, _ in made}) == 1


def test_a_batch_is_within_the_owners_limits_or_nothing_is_made(clocked: ClockedStore) -> None:
    with pytest.raises(TooManyJobs, match="more than 5"):
        clocked.create_many([new() for _ in range(6)], limits=Limits(live=5))
    limits = Limits(rate=10, burst=20)
    clocked.create_many([new() for _ in range(15)], limits=limits)
    with pytest.raises(TooManyJobs) as refused:
        clocked.create_many([new() for _ in range(15)], limits=limits)
    assert refused.value.retry_after_s == 1
    assert len(clocked.listings.page("local")[0]) == 15
    clocked.advance(2)
    # More than may ever be made at once goes on credit, and the rate stays what it is.
    clocked.advance(10)
    clocked.create_many([new() for _ in range(100)], limits=limits)
    with pytest.raises(TooManyJobs) as refused:
        clocked.create(new(), limits=limits)
    assert refused.value.retry_after_s == pytest.approx(8.1)


# -- over HTTP -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    limits = {"SUBMIT_RATE": "0", "MAX_LIVE_JOBS": "0"}
    with Stack(tmp_path_factory.mktemp("batch"), DRAIN_S="0", fsync="always", **limits) as stack:
        stack.start_web()
        stack.store.registry.register("w", TYPES, 3600)
        yield stack


def post(web: Stack, jobs: Any, key: str = "") -> tuple[int, Any]:
    headers = {"Idempotency-Key": key} if key else {}
    status, _, body = web.call("POST", "/jobs:batch", {"jobs": jobs}, headers)
    return status, json.loads(body)


def count(web: Stack) -> int:
    return int(web.store.redis.zcard(web.store.keys.jobs(credentials.OWNER)))


def test_one_bad_job_refuses_all_with_pointers_to_each_fault(web: Stack) -> None:
    before = count(web)
    jobs: list[Any] = [{"type": "a", "params": {"n": n}} for n in range(50)]
    jobs[7] = {"type": "nope"}
    jobs[9] = {"type": "a", "params": {"n": "x", "y/z": 1}}
    jobs[11] = {"type": "b", "run": "here"}
    status, problem = post(web, jobs)
    assert status == 422
    assert {fault["pointer"] for fault in problem["errors"]} == {
        "/jobs/7/type",
        "/jobs/9/params/n",
        "/jobs/9/params/y~1z",
        "/jobs/11/run",
    }
    assert problem["known_types"] == ["a", "b"]
    assert post(web, [])[0] == 422
    assert post(web, [{"type": "a"}] * 1001)[0] == 422
    assert post(web, [{"type": "a", "priority": 10}])[1]["errors"][0]["pointer"] == "/jobs/0/priority"
    assert count(web) == before


def peak_mib(web: Stack) -> float:
    """The most memory that each of the web's processes ever had, together."""
    pids = [web.pid("web"), *(process.pid for process in descendants(web.pid("web")))]
    status = [Path(f"/proc/{pid}/status").read_text() for pid in set(pids)]
    return sum(int(text.partition("VmHWM:")[2].split()[0]) for text in status) / 1024


@pytest.mark.parametrize("many", [b"{}", b"[]", b"1", b'""', b'{"a":1}'])
def test_a_body_of_very_many_values_is_refused_before_it_is_read(web: Stack, many: bytes) -> None:
    headers = {"Content-Type": "application/json"}
    before = peak_mib(web)
    for around in (b'{"jobs":[%s]}', b'{"jobs":[{"type":"a","params":{"n":[%s]}}]}'):
        body = around % b",".join([many] * (MAX_BATCH_BYTES // (len(many) + 1) - 20))
        status, _, answer = web.call("POST", "/jobs:batch", body, headers)
        assert (status, json.loads(answer)["detail"]) == (
            413,
            f"the body has more than {MAX_VALUES} values",
        )
    assert peak_mib(web) - before < 50
    # What looks like them in a string is none.
    text = json.dumps(json.dumps("[{,\\" * 200_000))
    status, _, answer = web.call("POST", "/jobs:batch", b'{"jobs":[{"type":%s}]}' % text.encode(), headers)
    assert (status, json.loads(answer)["errors"][0]["pointer"]) == (422, "/jobs/0/type")


def test_the_largest_batch_takes_little_memory_whatever_is_in_it(own_stack: Stack) -> None:
    own_stack.start_web()
    own_stack.store.registry.register("worker", {"t": dumps(FREE)}, 3600)
    before = peak_mib(own_stack)
    # A character beyond the first 65,536 makes each of its text take four bytes.
    text = "\U0001f600".encode().ljust(MAX_BATCH_BYTES // 1000 - 50, b"x")
    body = b'{"jobs":[%s]}' % b",".join([b'{"type":"t","params":{"x":"%s"}}' % text] * 1000)
    headers = {"Content-Type": "application/json", "Idempotency-Key": "k"}
    assert own_stack.call("POST", "/jobs:batch", body, headers)[0] == 202
    assert peak_mib(own_stack) - before < 50


def test_a_batch_with_thousands_of_faults_is_told_how_many_they_are(web: Stack) -> None:
    """To list them takes a second, for which nobody else is served."""
    status, problem = post(web, [{str(n): 1 for n in range(80)}] * 1000)
    assert (status, problem["detail"]) == (422, "there are 81000 faults, too many to list them")


def test_a_batch_of_a_thousand_is_made_once_and_has_its_messages(web: Stack) -> None:
    before = count(web)
    jobs = [{"type": "ab"[n % 2], "params": {"n": n}, "group": f"g{n % 3}"} for n in range(1000)]
    status, made = post(web, jobs, "once")
    assert status == 202
    assert post(web, jobs, "once") == (200, made)
    assert post(web, jobs[1:], "once")[0] == 422
    assert count(web) == before + 1000
    job = web.get(made["items"][501]["links"]["self"])[1]
    assert (job["type"], job["params"], job["group"]) == ("b", {"n": 501}, "g0")
    until(lambda: web.store.redis.llen("headway:qb") >= 500, 20)


def test_whatever_kills_the_service_in_a_batch_there_are_all_jobs_or_none(web: Stack) -> None:
    for n in range(3):
        _kill_in_a_batch(web, f"killed-{n}")


def _kill_in_a_batch(web: Stack, key: str) -> None:
    jobs = [{"type": "a", "params": {"n": n}} for n in range(1000)]
    before, answers = count(web), list[int]()

    def submit() -> None:
        with suppress(OSError, HTTPException):
            answers.append(post(web, jobs, key)[0])

    thread = threading.Thread(target=submit)
    thread.start()
    # The worst moment: the store has made them, and the answer is on its way.
    until(lambda: count(web) > before or answers, 20)
    os.killpg(web.pid("web"), signal.SIGKILL)
    thread.join()
    web.restart_web()
    assert count(web) in (before, before + 1000)
    assert post(web, jobs, key)[0] in (200, 202)
    assert count(web) == before + 1000


def test_the_python_client_splits_what_is_more_than_one_batch(web: Stack) -> None:
    client = Client(web.url, token=credentials.KEY)
    jobs = ({"type": "a", "params": {"n": n}} for n in range(1500))
    made = list(client.submit_many(jobs))
    assert len({item["id"] for item in made}) == 1500
    assert client.job(made[1499]["id"])["params"] == {"n": 1499}
    large = {"type": "b", "labels": {f"label {n}": "x" * 250 for n in range(32)}}
    assert len({item["id"] for item in client.submit_many([large] * 300)}) == 300
    with pytest.raises(Invalid, match="/jobs/1/params/n"):
        list(client.submit_many([{"type": "a"}, {"type": "a", "params": {"n": "x"}}]))

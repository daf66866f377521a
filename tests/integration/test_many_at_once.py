"""Many jobs at once: found by label and age, counted, and canceled, retried or deleted by filter."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from headway.client import Client
from headway.contract.encoding import dumps
from headway.contract.new_job import NewJob
from headway.contract.states import State
from headway.contract.store import JobStore
from tests.support import credentials
from tests.support.clocked_store import ClockedStore
from tests.support.fake_worker import claim, create
from tests.support.stack import Stack
from tests.support.wait import until

# -- labels, age, counts -------------------------------------------------------------------------------


def ids(store: JobStore, **filters: Any) -> list[str]:
    return [page.id for page in store.listings.page("local", **filters)[0]]


def test_jobs_are_found_by_all_labels_that_are_asked_for(store: JobStore) -> None:
    both = create(store, labels={"customer": "acme", "kind": "a:b"})
    one = create(store, labels={"customer": "acme"})
    create(store, labels={"customer": "other"})
    create(store)
    assert ids(store, labels={"customer": "acme"}) == [one, both]
    assert ids(store, labels={"customer": "acme", "kind": "a:b"}) == [both]
    assert ids(store, labels={"customer": "acme"}, state=State.RUNNING) == []


def test_jobs_are_found_by_their_age(clocked: ClockedStore) -> None:
    old = create(clocked)
    clocked.advance(60)
    new = create(clocked)
    assert ids(clocked, older_s=60) == [old]
    assert ids(clocked, older_s=0) == [new, old]
    assert ids(clocked, older_s=61) == []
    assert ids(clocked, older_s=1e9) == []


def test_counts_follow_every_change_and_forget_what_is_removed(clocked: ClockedStore) -> None:
    def counts() -> dict[str, dict[State, int]]:
        return clocked.listings.counts("local")

    a, b = create(clocked, type="a", max_attempts=2), create(clocked, type="b c")
    assert counts() == {"a": {State.QUEUED: 1}, "b c": {State.QUEUED: 1}}
    clocked.retry(claim(clocked, a), delay_s=0, reason="once more")
    assert counts()["a"] == {State.RETRYING: 1}
    clocked.end(claim(clocked, a), State.SUCCEEDED)
    clocked.cancel(b)
    clocked.create_many([clocked_new(), clocked_new()])
    assert counts() == {"a": {State.SUCCEEDED: 1, State.QUEUED: 2}, "b c": {State.CANCELED: 1}}
    for job_id in (a, b):
        assert clocked.remove(job_id)
    assert counts() == {"a": {State.QUEUED: 2}}
    assert clocked.listings.counts("another") == {}


def clocked_new(group: str | None = None) -> NewJob:
    return NewJob("local", "a", {}, "q", 1, group)


# -- over HTTP -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    limits = {"SUBMIT_RATE": "0", "MAX_LIVE_JOBS": "0", "LEASE_S": "2"}
    with Stack(tmp_path_factory.mktemp("many"), DRAIN_S="0", **limits) as stack:
        stack.start_web()
        described = {
            name: dumps({"name": name, "title": name, "queue": "q", "params": {"type": "object"}})
            for name in ("a", "b")
        }
        stack.store.registry.register("w", described, 3600)
        yield stack


def test_labels_and_counts_over_http(web: Stack) -> None:
    job_id = web.submit("a", {}, labels={"customer": "acme:x", "n": "1"})["id"]
    web.submit("b", {}, labels={"customer": "acme:x"})
    assert [j["id"] for j in web.get("/jobs?label=customer:acme:x&label=n:1")[1]["items"]] == [job_id]
    assert web.get("/jobs?label=customer")[0] == 422
    assert web.get("/jobs?label=n:1&label=n:2")[0] == 422, "no job has both"
    assert web.get("/jobs?label=customer:acme:x%0A")[1]["items"] == []
    odd = {"a:b": "c", "ü\\:": "", "back\\s": "x: y"}
    job_id = web.submit("a", {}, labels=odd)["id"]
    for one in (odd, *({name: value} for name, value in odd.items())):
        assert [job["id"] for job in Client(web.url).list(labels=one)] == [job_id]
    assert not [*Client(web.url).list(labels={"a": "b:c"})]
    assert [j["id"] for j in web.get(r"/jobs?label=back\s:x:%20y&label=a\:b:c")[1]["items"]] == [job_id]
    assert many(web, "cancel", labels=odd)["result"] == result(1, 1)
    assert web.get("/jobs?label=customer:acme:x&older_s=3600")[1]["items"] == []
    found = web.get("/jobs:counts")[1]
    assert found["states"]["queued"] == sum(t["queued"] for t in found["types"].values()) >= 2
    assert web.get("/jobs:counts?owner=another")[0] == 403


# -- all that match a filter ---------------------------------------------------------------------------


def post(web: Stack, path: str, body: Any, key: str = "") -> tuple[int, Any]:
    headers = {"Idempotency-Key": key} if key else {}
    status, _, text = web.call("POST", path, body, headers)
    return status, json.loads(text)


def many(web: Stack, action: str, **selection: Any) -> dict[str, Any]:
    """Do it, and return the job that did it."""
    status, job = post(web, f"/jobs:{action}", selection)
    assert (status, job["type"]) == (202, f"jobs.{action}"), job
    return web.wait_ended(job["id"])


def result(matched: int, done: int, skipped: int = 0, *, dry_run: bool = False) -> dict[str, Any]:
    return {"matched": matched, "done": done, "skipped": skipped, "dry_run": dry_run}


def make(web: Stack, count: int, **more: Any) -> list[str]:
    made = [web.submit("a", {}, **more) for _ in range(count)]
    return [job["id"] for job in made]


def states(web: Stack, job_ids: list[str]) -> list[str]:
    return [web.get(f"/jobs/{job_id}")[1].get("state", "gone") for job_id in job_ids]


def test_all_that_match_are_canceled_retried_once_and_deleted_and_no_others(web: Stack) -> None:
    ours = make(web, 3, labels={"w": "1"})
    others = make(web, 2, labels={"w": "2"})
    labels = {"w": "1"}
    assert many(web, "cancel", labels=labels, dry_run=True)["result"] == result(3, 0, dry_run=True)
    assert states(web, ours) == ["queued"] * 3
    canceled = many(web, "cancel", labels=labels)
    assert canceled["result"] == result(3, 3)
    assert canceled["progress"]["fraction"] == 1
    assert states(web, ours) == ["canceled"] * 3
    assert many(web, "retry", labels=labels)["result"] == result(3, 3)
    again = [j["id"] for j in web.get("/jobs?label=w:1&state=queued")[1]["items"]]
    assert {web.get(f"/jobs/{job_id}")[1]["retry_of"] for job_id in again} == set(ours)
    assert many(web, "retry", labels=labels)["result"] == result(3, 0, 3), "each is retried once"
    assert many(web, "delete", labels=labels)["result"] == result(3, 3)
    assert states(web, ours) == ["gone"] * 3
    assert states(web, again) == ["queued"] * 3, "what lives is not deleted"
    assert states(web, others) == ["queued"] * 2


def test_only_what_was_there_before_and_is_old_enough_counts(web: Stack) -> None:
    make(web, 2, group="young")
    assert many(web, "cancel", group="young", older_s=3600)["result"] == result(0, 0)
    assert many(web, "cancel", group="young", older_s=0)["result"] == result(2, 2)
    assert many(web, "delete", group="young", state="failed")["result"] == result(0, 0)


@pytest.mark.parametrize("body", [{}, {"dry_run": True}, {"state": "ended"}, {"labels": 1}, {"x": 1}])
def test_a_filter_that_says_nothing_is_refused(web: Stack, body: dict[str, Any]) -> None:
    assert post(web, "/jobs:delete", body)[0] == 422


def test_a_repeated_request_is_one_job(web: Stack) -> None:
    body = {"group": "none of these"}
    first, second = (post(web, "/jobs:cancel", body, "k") for _ in range(2))
    assert (first[0], second[0], second[1]["id"]) == (202, 200, first[1]["id"])
    assert post(web, "/jobs:cancel", {"group": "others"}, "k")[0] == 422


@pytest.mark.long
def test_a_killed_service_goes_on_where_it_was(web: Stack) -> None:
    count = 3000
    for _ in range(count // 1000):
        jobs = [{"type": "a", "group": "large"}] * 1000
        assert post(web, "/jobs:batch", {"jobs": jobs})[0] == 202
    job_id = post(web, "/jobs:cancel", {"group": "large"})[1]["id"]

    def left() -> int:
        return int(web.store.redis.zcard(web.store.keys.jobs(credentials.OWNER, State.QUEUED)))

    before = left()
    until(lambda: left() < before - 100, 30)
    os.killpg(web.pid("web"), signal.SIGKILL)
    assert left() > 0
    web.restart_web()
    job = web.wait_ended(job_id, 150)
    assert (job["state"], job["attempt"]) == ("succeeded", 2)
    assert (job["result"]["matched"], job["result"]["dry_run"]) == (count, False)
    found = web.get("/groups/large")[1]["counts"]
    assert (found["canceled"], found["queued"]) == (count, 0)


def test_it_can_be_canceled_itself(web: Stack) -> None:
    jobs = [{"type": "a", "group": "more"}] * 1000
    for _ in range(3):
        assert post(web, "/jobs:batch", {"jobs": jobs})[0] == 202
    job_id = post(web, "/jobs:cancel", {"group": "more"})[1]["id"]
    until(lambda: web.get(f"/jobs/{job_id}")[1]["state"] != "queued", 30)
    assert post(web, f"/jobs/{job_id}/cancel", {})[0] in (200, 202)
    assert web.wait_ended(job_id)["state"] in ("canceled", "succeeded")
    assert web.get("/groups/more")[1]["counts"]["running"] == 0


def test_a_retry_of_an_ended_one_begins_anew(web: Stack) -> None:
    make(web, 3, group="anew")
    first = many(web, "cancel", group="anew")
    assert first["result"] == result(3, 3)
    make(web, 2, group="anew")
    again = json.loads(web.call("POST", f"/jobs/{first['id']}/retry")[2])["id"]
    assert web.wait_ended(again)["result"] == result(2, 2)


def test_a_job_whose_unique_key_another_held_can_be_retried_later(web: Stack) -> None:
    unique = {"key": "held"}
    (lost,) = make(web, 1, group="held", unique=unique)
    post(web, f"/jobs/{lost}/cancel", {})
    (holder,) = make(web, 1, unique=unique)
    assert web.call("POST", "/groups/held/retry", b"")[0] == 200, "nothing was made"
    assert many(web, "retry", group="held")["result"] == result(1, 0, 1)
    post(web, f"/jobs/{holder}/cancel", {})
    assert many(web, "retry", group="held")["result"] == result(1, 1)


def test_what_the_service_does_to_many_is_no_workers_also_if_one_declares_its_name(web: Stack) -> None:
    first = many(web, "cancel", labels={"nobody": "has"})
    assert web.call("PUT", "/types/jobs.cancel", {})[0] == 200
    again = json.loads(web.call("POST", f"/jobs/{first['id']}/retry")[2])["id"]
    assert web.wait_ended(again)["result"] == result(0, 0)


def test_a_retry_waits_for_a_time_that_is_still_to_come_and_expires_as_asked(web: Stack) -> None:
    at = "2027-01-01T00:00:00.000Z"
    (scheduled,) = make(web, 1, group="times", run_at=at, expires_s=60)
    post(web, f"/jobs/{scheduled}/cancel", {})
    again = json.loads(web.call("POST", f"/jobs/{scheduled}/retry")[2])
    assert (again["run_at"], again["expires_at"]) == (at, "2027-01-01T00:01:00.000Z")


@pytest.mark.long
def test_one_that_an_owners_limits_hold_up_lets_others_be_done_and_goes_on_where_it_was(
    tmp_path: Path,
) -> None:
    with Stack(tmp_path, MAX_LIVE_JOBS="3", DRAIN_S="0") as full:
        full.start_web()
        other = credentials.admit(full.store, "other", "othertst")
        ids = [full.store.create(clocked_new(group="g"))[0] for _ in range(4)]
        full.store.cancel_many([ref for job_id in ids if (ref := full.store.ref(job_id))])
        retry = post(full, "/jobs:retry", {"group": "g"})[1]["id"]
        until(lambda: full.get("/groups/g")[1]["counts"]["queued"] == 2, what="as many as may live")
        theirs = json.loads(full.call("POST", "/jobs:delete", {"older_s": 0}, other)[2])["id"]
        until(lambda: full.get(f"/jobs/{theirs}", headers=other)[1]["state"] == "succeeded")
        assert many(full, "cancel", group="g")["result"] == result(2, 2)
        assert full.wait_ended(retry)["result"] == result(4, 4)
        assert full.get("/groups/g")[1]["counts"]["queued"] == 2


def test_a_parent_hears_of_its_children_that_are_canceled_with_others(web: Stack) -> None:
    store, owner = web.store, credentials.OWNER
    parent = claim(store, create(store, owner=owner))
    more = {"group": "not theirs", "parent": parent.ref.id, "parent_fence": parent.fence}
    create(store, owner=owner, **more)
    assert many(web, "cancel", group="not theirs")["result"] == result(1, 1)
    counts = web.get(f"/jobs/{parent.ref.id}")[1]["children"]["counts"]
    assert (counts["queued"], counts["canceled"]) == (0, 1)


def test_what_makes_room_is_not_refused_for_lack_of_it(tmp_path: Path) -> None:
    with Stack(tmp_path, MAX_LIVE_JOBS="2", DRAIN_S="0") as full:
        full.start_web()
        ids = [full.store.create(clocked_new(group="full"))[0] for _ in range(2)]
        assert post(full, "/jobs:cancel", {"group": "full"})[0] == 202
        until(lambda: states(full, ids) == ["canceled"] * 2)

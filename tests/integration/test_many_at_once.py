"""Many jobs at once: found by label and age, counted, and canceled, retried or deleted by filter."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from headway.contract.encoding import dumps
from headway.contract.states import State
from headway.contract.store import JobStore
from tests.support.clocked_store import ClockedStore
from tests.support.fake_worker import claim, create
from tests.support.stack import Stack

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


def clocked_new() -> Any:
    from headway.contract.new_job import NewJob

    return NewJob("local", "a", {}, "q", 1)


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
    assert web.get("/jobs?label=customer:acme:x&older_s=3600")[1]["items"] == []
    found = web.get("/jobs:counts")[1]
    assert found["states"]["queued"] == sum(t["queued"] for t in found["types"].values()) >= 2
    assert web.get("/jobs:counts?owner=another")[0] == 403

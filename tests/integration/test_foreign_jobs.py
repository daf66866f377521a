"""Of a job of another owner's no more is read than of one that does not exist, or the time would tell."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from headway.contract.events import ZERO
from headway.contract.new_job import NewJob
from tests.support.stack import Stack
from tests.support.wait import until

READS = ("xrange", "xrevrange", "hgetall", "hmget", "hget", "eval", "evalsha", "fcall", "fcall_ro")
JSON = {"Accept": "application/json"}
REQUESTS: list[tuple[str, str, Any, dict[str, str]]] = [
    ("GET", "/jobs/ID", None, {}),
    ("GET", "/jobs/ID/events?after=0&limit=500", None, JSON),
    ("GET", "/jobs/ID/events?after=0&limit=500&wait=1", None, JSON),
    ("GET", "/jobs/ID/events", None, {}),
    ("GET", "/jobs/ID/events", None, {"Last-Event-ID": "0"}),
    ("GET", "/jobs/ID/events?heartbeat=event", None, {"Last-Event-ID": "0"}),
    ("GET", "/events?job=ID", None, {}),
    ("GET", "/events?job=ID", None, {"Last-Event-ID": "0"}),
    ("GET", "/jobs/ID/artifacts/x", None, {}),
    ("POST", "/tickets", {"jobs": ["ID"]}, {}),
    ("POST", "/jobs/ID/messages", {"name": "n"}, {}),
    ("POST", "/jobs/ID/cancel", b"", {}),
    ("POST", "/jobs/ID/retry", b"", {}),
    ("DELETE", "/jobs/ID", None, {}),
]


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with Stack(tmp_path_factory.mktemp("foreign"), DRAIN_S="0") as stack:
        stack.start_web()
        yield stack


@pytest.fixture(scope="module")
def jobs(web: Stack) -> dict[str, str]:
    """The tests' own job, one of another owner's, and one that does not exist."""
    made = {
        owner: web.store.create(NewJob(owner, "t", {"x": "x" * 9000}, "q", 1))[0]
        for owner in ("local", "ann")
    }
    return {"ours": made["local"], "theirs": made["ann"], "none": "0-" + "x" * 22}


def reads(
    web: Stack, method: str, path: str, body: Any, headers: dict[str, str], job_id: str
) -> tuple[Any, ...]:
    """The status, and what Redis has read for it. What reads in the background meanwhile may add to it."""

    def counts() -> dict[str, int]:
        found: Any = web.store.redis.info("commandstats")
        return {name: found.get(f"cmdstat_{name}", {}).get("calls", 0) for name in READS}

    if isinstance(body, dict):
        body = {name: [job_id] if value == ["ID"] else value for name, value in body.items()}
    before = counts()
    status = web.call(method, path.replace("ID", job_id), body, headers)[0]
    return status, *(counts()[name] - before[name] for name in READS)


@pytest.mark.parametrize(
    "request_", REQUESTS, ids=lambda r: " ".join([r[0], r[1], *map(str, r[3].values())])
)
def test_a_foreign_job_costs_what_an_absent_one_costs(
    web: Stack, jobs: dict[str, str], request_: tuple[str, str, Any, dict[str, str]]
) -> None:
    seen: dict[str, list[tuple[Any, ...]]] = {"theirs": [], "none": []}

    def least() -> list[tuple[Any, ...]]:
        for which, counts in seen.items():
            counts.append(reads(web, *request_, jobs[which]))
        return [min(counts) for counts in seen.values()]

    until(lambda: (found := least())[0] == found[1], 20, lambda: f"equal reads: {seen}")
    assert min(seen["none"])[0] == 404


def test_only_an_owners_jobs_are_read_if_one_says_so(web: Stack, jobs: dict[str, str]) -> None:
    for cursor in (None, ZERO):
        assert web.store.read(jobs["theirs"], cursor, 10) is not None
        assert web.store.read(jobs["theirs"], cursor, 10, "ann") is not None
        assert web.store.read(jobs["theirs"], cursor, 10, "local") is None
        wanted = [(jobs["theirs"], cursor, "local"), (jobs["ours"], cursor, "local")]
        assert [page is None for page in web.store.read_each(wanted, 10)] == [True, False]

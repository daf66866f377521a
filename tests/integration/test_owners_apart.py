"""Owners apart in what is not a job: pauses, metrics, unique keys."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from headway.contract.access import ROLES
from headway.contract.encoding import dumps
from headway.contract.new_job import NewJob
from headway.contract.pauses import Subject
from headway.contract.states import State
from service.metrics import OTHER
from tests.support.credentials import bearer, jwt_header, keys_and_jwts
from tests.support.fake_worker import claim
from tests.support.stack import Stack
from tests.support.wait import until


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    directory = tmp_path_factory.mktemp("apart")
    with Stack(directory, **keys_and_jwts(directory), DRAIN_S="0") as stack:
        stack.start_web()
        stack.headers = {}
        yield stack


@pytest.fixture(scope="module")
def ann(web: Stack) -> dict[str, str]:
    return key(web, "ann")


@pytest.fixture(scope="module")
def bob(web: Stack) -> dict[str, str]:
    return key(web, "bob")


@pytest.fixture(scope="module")
def everybody(web: Stack) -> dict[str, str]:
    return key(web, "eve", *ROLES)


def key(web: Stack, owner: str, *roles: str) -> dict[str, str]:
    return bearer(web.store.access.create(owner, roles or ROLES[:-1])[1])


def restricted(owner: str, *groups: str) -> dict[str, str]:
    """The header with a token that opens these groups alone."""
    return jwt_header(owner, ROLES[:-1], groups=groups)


def call(
    web: Stack, method: str, path: str, headers: dict[str, str], body: Any = None
) -> tuple[int, dict[str, Any]]:
    status, _, text = web.call(method, path, body, headers=headers)
    return status, json.loads(text) if text else {}


def paused(web: Stack, headers: dict[str, str]) -> list[tuple[str, str, str]]:
    found = call(web, "GET", "/workers", headers)[1]["paused"]
    return [(one["kind"], one["name"], one["by"]) for one in found]


def test_what_is_one_owners_is_paused_for_that_owner_alone(
    web: Stack, ann: dict[str, str], bob: dict[str, str], everybody: dict[str, str]
) -> None:
    asking = {"types": ["private"], "worker": "host-17"}
    for headers in (ann, bob):
        assert call(web, "PUT", "/types/private", headers, {})[0] == 200
        assert call(web, "POST", "/claims", headers, asking)[0] == 204
        assert call(web, "POST", "/jobs", headers, {"type": "private"})[0] == 202
    for path in ("/types/private/pause", "/workers/host-17/drain"):
        assert call(web, "POST", path, ann)[0] == 200
    assert [one[:2] for one in paused(web, ann)] == [("type", "private"), ("worker", "host-17")]
    assert paused(web, bob) == []
    assert len(paused(web, everybody)) == 2
    for path in ("/types/private/resume", "/workers/host-17/resume", "/workers/ann/host-17/resume"):
        assert call(web, "POST", path, bob)[0] == 404
    assert call(web, "POST", "/claims", bob, asking)[1]["job"]["type"] == "private"
    assert call(web, "POST", "/claims", ann, asking)[0] == 204
    for path in ("/types/private/resume", "/workers/host-17/resume"):
        assert call(web, "POST", path, ann) == (
            200,
            {"paused": call(web, "GET", "/workers", ann)[1]["paused"]},
        )
    assert paused(web, everybody) == []
    assert call(web, "POST", "/claims", ann, asking)[1]["job"]["type"] == "private"


def test_a_pause_of_what_all_share_does_not_say_which_owners_key_made_it(
    web: Stack, ann: dict[str, str], bob: dict[str, str]
) -> None:
    web.store.pauses.add(Subject("queue", "shared"), by="key of ann", by_owner="ann")
    assert paused(web, ann) == [("queue", "shared", "key of ann")]
    assert paused(web, bob) == [("queue", "shared", "another owner")]
    assert call(web, "POST", "/queues/shared/resume", restricted("bob", "g"))[0] == 403
    assert call(web, "POST", "/queues/shared/resume", bob) == (200, {"paused": []})


def test_the_figures_of_workers_and_queues_and_why_a_job_waits_tell_of_no_other_owners_jobs(
    web: Stack, ann: dict[str, str], bob: dict[str, str], everybody: dict[str, str]
) -> None:
    described = dumps({"name": "film", "title": "", "queue": "films", "params": {}, "max_attempts": None})
    about = {
        "host": "h", "pid": 1, "concurrency": 1, "queues": ["films"], "started_at": "", "sandbox": {},
        "dropped_messages": 0, "disk_full": False,
    }  # fmt: skip
    web.store.registry.register("all-share", {"film": described}, 3600, about)
    running, anns, bobs = (
        call(web, "POST", "/jobs", headers, {"type": "film"})[1]["id"] for headers in (ann, ann, bob)
    )
    ref = web.store.ref(running)
    assert ref is not None
    assert web.store.claim(ref, token="t", lease_s=3600, worker="all-share:7") is not None

    def seen(headers: dict[str, str]) -> tuple[list[str], int]:
        found = call(web, "GET", "/workers", headers)[1]
        (worker,) = [one for one in found["items"] if one["name"] == "all-share"]
        (queue,) = [one for one in found["queues"] if one["name"] == "films"]
        return [job["id"] for job in worker["jobs"]], queue["waiting"]

    def reason(headers: dict[str, str], job_id: str) -> str | None:
        found: str | None = call(web, "GET", f"/jobs/{job_id}", headers)[1]["waiting_reason"]
        return found

    assert (seen(ann), seen(bob)) == (([running], 1), ([], 1))
    assert seen(everybody)[1] == 2
    until(lambda: reason(ann, anns) == "all workers that serve film are busy", what="the worker to be busy")
    assert reason(bob, bobs) is None


def test_metrics_name_no_type_that_is_another_owners(
    web: Stack, ann: dict[str, str], bob: dict[str, str], everybody: dict[str, str]
) -> None:
    for name in ("customer.one", "customer.two"):
        job_id = call(web, "POST", "/jobs", ann, {"type": name, "run": "here"})[1]["id"]
        assert call(web, "POST", f"/jobs/{job_id}/cancel", ann)[0] in (200, 202)
    job_id = web.store.create(NewJob("ann", "customer.three", {}, "q", 1))[0]
    web.store.end(claim(web.store, job_id), State.SUCCEEDED)

    def shown(headers: dict[str, str]) -> str:
        return web.call("GET", "/metrics", headers=headers)[2].decode()

    for line in (
        f'headway_jobs_submitted_total{{type="{OTHER}"}} ',
        f'headway_job_attempts_total{{type="{OTHER}"}} ',
    ):
        (found,) = [text for text in shown(bob).splitlines() if text.startswith(line)]
        assert float(found.removeprefix(line)) >= 2
    assert "customer" not in shown(bob)
    assert "customer.three" in shown(everybody)


def test_a_unique_key_opens_no_job_outside_of_ones_groups(web: Stack, ann: dict[str, str]) -> None:
    call(web, "PUT", "/types/nightly", ann, {})
    body = {"type": "nightly", "unique": {"key": "n"}}
    outside = call(web, "POST", "/jobs", ann, body)[1]["id"]
    status, problem = call(web, "POST", "/jobs", restricted("ann", "g"), {**body, "group": "g"})
    assert (status, "unique key" in problem["detail"]) == (409, True)
    assert outside not in json.dumps(problem)
    assert call(web, "POST", "/jobs:cancel", restricted("ann", "g"), {"group": "g"})[0] == 403
    inside = {**body, "group": "g", "unique": {"key": "of g"}}
    made = call(web, "POST", "/jobs", restricted("ann", "g"), inside)[1]["id"]
    assert call(web, "POST", "/jobs", restricted("ann", "g"), inside)[1]["id"] == made


def test_an_upload_and_an_artifact_are_closed_to_a_credential_of_other_groups(
    web: Stack, ann: dict[str, str], bob: dict[str, str]
) -> None:
    tus = {"Tus-Resumable": "1.0.0", "Upload-Length": "9"}

    def uploads(headers: dict[str, str]) -> list[str]:
        """One that is complete, and one that is coming in."""
        made = call(web, "POST", "/uploads", headers, b"x")[1]["id"]
        begun = web.call("POST", "/uploads", b"", {**headers, **tus})[1]["location"]
        return [made, begun.rpartition("/")[2]]

    call(web, "PUT", "/types/reader", ann, {})
    job = call(web, "POST", "/jobs", ann, {"type": "reader", "run": "here", "group": "a"})[1]
    attempt = bearer(job["token"])
    assert call(web, "PUT", f"/jobs/{job['id']}/artifacts/x", attempt, b"x")[0] == 201
    ticket = bearer(call(web, "POST", "/tickets", ann, {"group": "a", "artifacts": True})[1]["ticket"])
    in_a, in_b, in_both = restricted("ann", "a"), restricted("ann", "b"), restricted("ann", "a", "b")
    one_job = jwt_header("ann", ROLES[:-1], jobs=[job["id"]])

    def refusals(headers: dict[str, str], upload_id: str) -> set[int]:
        part = {**headers, "Tus-Resumable": "1.0.0", "Upload-Offset": "0"}
        part["Content-Type"] = "application/offset+octet-stream"
        override = {**part, "X-HTTP-Method-Override": "DELETE"}
        path = f"/uploads/{upload_id}"
        asked = [(method, headers) for method in ("GET", "HEAD", "DELETE")]
        asked += [("PATCH", part), ("POST", part | {"X-HTTP-Method-Override": "PATCH"}), ("POST", override)]
        return {web.call(method, path, b"" if "P" in method else None, given)[0] for method, given in asked}

    def submitted(headers: dict[str, str], group: str, reference: str) -> int:
        body = {"type": "reader", "group": group, "params": {"of": [{"input": reference}]}}
        return call(web, "POST", "/jobs", headers, body)[0]

    for complete, coming in (uploads(ann), uploads(in_a)):
        for upload_id in (complete, coming):
            for headers in (in_b, one_job, restricted("bob", "a"), bob):
                assert refusals(headers, upload_id) == {404}
            assert refusals(attempt, upload_id) == {403}
            assert refusals(ticket, upload_id) <= {403, 401}
        for reference in (f"upload:{complete}", f"upload:{'x' * 22}"):
            assert submitted(in_b, "b", reference) == 422
        assert submitted(ann, "a", f"upload:{complete}") == 202
        assert call(web, "GET", f"/uploads/{complete}", ann)[0] == 200
        assert call(web, "GET", f"/uploads/{coming}", ann)[0] == 200
    # The last two are of a credential that opens `a` alone.
    for headers in (in_a, in_both):
        assert call(web, "GET", f"/uploads/{complete}", headers)[0] == 200
        assert call(web, "GET", f"/uploads/{coming}", headers)[0] == 200
        assert submitted(headers, "a", f"upload:{complete}") == 202
    for reference, status in ((f"artifact:{job['id']}/x", 422), (f"artifact:{'x' * 22}/x", 422)):
        assert submitted(in_b, "b", reference) == status
        batch = {"jobs": [{"type": "reader", "group": "b", "params": {"input": reference}}]}
        assert call(web, "POST", "/jobs:batch", in_b, batch)[0] == status
    assert submitted(in_a, "a", f"artifact:{job['id']}/x") == 202
    # What is no reference is nobody's business.
    assert submitted(in_b, "b", "upload: a film") == 202


def test_an_idempotency_key_of_another_group_gives_neither_its_jobs_nor_a_token(
    web: Stack, ann: dict[str, str]
) -> None:
    call(web, "PUT", "/types/order", ann, {})
    here = {"type": "order", "run": "here", "group": "a"}
    job = {"type": "order", "group": "a"}
    asked = {"one": ("/jobs", job), "here": ("/jobs", here), "many": ("/jobs:batch", {"jobs": [job] * 2})}
    for name, (path, body) in asked.items():
        key = {"Idempotency-Key": f"order {name}"}
        assert call(web, "POST", path, ann | key, body)[0] == 202
        for headers in (restricted("ann", "b"), jwt_header("ann", ROLES[:-1], jobs=["0-" + "x" * 22])):
            status, problem = call(web, "POST", path, headers | key, body)
            assert (status, "restricted" in problem["detail"]) == (403, True), name
        assert call(web, "POST", path, restricted("ann", "a") | key, body)[0] == 200

"""Who may do what, over both ways in: every route, with every credential that is not enough."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from headway.contract.access import ROLES
from headway.contract.new_job import NewJob
from headway.contract.settings import load
from service.api.app import create_app
from service.api.auth.roles import ANY, ATTEMPT, PUBLIC, READ_OR_WORK, ROUTES, TICKET_ROUTES
from service.api.openapi import document
from tests.support.credentials import bearer, jwt_header, keys_and_jwts
from tests.support.routes import refusal, requests
from tests.support.sse import Reader
from tests.support.stack import Stack
from tests.support.wait import until

APP = create_app(load({"REDIS_URL": "redis://127.0.0.1:1"}))


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    directory = tmp_path_factory.mktemp("access")
    with Stack(
        directory,
        **keys_and_jwts(directory),
        DRAIN_S="0",
        HEARTBEAT_S="1",
        EVENTS_PER_JOB="50",
    ) as stack:
        stack.start_web()
        stack.headers = {}
        yield stack


ALSO_READS = {"PUT /webhooks/<webhook_name>"}
"""Routes that need `read` beside their role."""


class Keys:
    """Makes keys, and knows when the web process does."""

    def __init__(self, web: Stack) -> None:
        self.access = web.store.access

    def __call__(self, owner: str, *roles: str, expires_s: float | None = None) -> dict[str, str]:
        """The header with a new key."""
        return bearer(self.access.create(owner, roles or ROLES[:-1], expires_s=expires_s)[1])


@pytest.fixture(scope="module")
def keys(web: Stack) -> dict[str, dict[str, str]]:
    key = Keys(web)
    return {
        "ann": key("ann"),
        "bob": key("bob"),
        "all": key("eve", *ROLES),
        "expired": key("ann", expires_s=0.001),
        **{role: key("ann", role) for role in ROLES},
    }


def refused(web: Stack, headers: dict[str, str]) -> None:
    """Wait until the web process refuses a credential: it looks for changes of the keys every REFRESH_S."""
    until(lambda: web.call("GET", "/jobs", headers=headers)[0] == 401, what="the key to be refused")


def job_of(web: Stack, owner: str, group: str | None = None) -> str:
    return web.store.create(NewJob(owner, "t", {}, "q", 1, group))[0]


def end(web: Stack, job_id: str) -> None:
    web.store.cancel(job_id)


def upload_of(web: Stack, headers: dict[str, str]) -> str:
    return str(json.loads(web.call("POST", "/uploads", b"x", headers)[2])["id"])


def test_every_route_has_a_role_and_no_role_has_no_route() -> None:
    routes = {
        f"{method} {rule.rule}"
        for rule in APP.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    assert routes == set(ROUTES)
    assert set(TICKET_ROUTES) < routes
    assert set(ROUTES.values()) <= {PUBLIC, ANY, ATTEMPT, READ_OR_WORK, *ROLES}


def test_the_document_says_which_credential_opens_what() -> None:
    spec = document(APP)
    assert {"bearer": []} in spec["paths"]["/jobs"]["get"]["security"]
    assert {"ticket": []} not in spec["paths"]["/jobs"]["post"]["security"]
    assert "`submit`" in spec["paths"]["/jobs"]["post"]["description"]
    assert {"401", "403"} <= set(spec["paths"]["/jobs"]["get"]["responses"])
    assert "security" not in spec["paths"]["/healthz"]["get"]
    assert set(spec["components"]["securitySchemes"]) == {"bearer", "session", "ticket"}


BAD = {
    "none": {},
    "unknown": bearer("hw_abcdefgh_" + "x" * 43),
    "not a key": bearer("x"),
    "basic": {"Authorization": "Basic YTpi"},
    "empty": {"Authorization": "Bearer "},
    "a cookie that is none": {"Cookie": "headway-8000=hws1.x.y.z"},
}


@pytest.mark.parametrize("name", [*BAD, "expired"])
def test_without_a_good_credential_nothing_is_open(
    web: Stack, keys: dict[str, dict[str, str]], name: str
) -> None:
    headers = BAD.get(name) or keys.get(name) or {}
    job_id = job_of(web, "ann")
    for route, path, body in requests(job_id):
        method = route.partition(" ")[0]
        for more in ({}, {"Accept": "application/json"}):
            with_more = {**headers, **more}
            assert refusal(web, method, path, body, with_more) == 401, (route, more)
        if method == "GET":
            assert web.call("HEAD", path, headers=headers)[0] == 401, route
            assert web.call(method, f"{path}/", headers=headers)[0] in (401, 404, 405), route
            assert web.call(method, f"/{path}", headers=headers)[0] in (401, 404), route
    answered = web.call("GET", "/jobs", headers=headers)
    assert answered[1]["www-authenticate"].startswith("Bearer")
    assert answered[1]["content-type"] == "application/problem+json"
    assert refusal(web, "GET", f"/jobs/{job_id}/events?wait=1", None, {"Accept": "application/json"}) == 401
    assert web.store.get(job_id).state == "queued"  # type: ignore[union-attr]


def test_the_pages_and_probes_are_public(web: Stack) -> None:
    for route, role in ROUTES.items():
        method, _, path = route.partition(" ")
        if role == PUBLIC and method == "GET":
            assert web.call("GET", path.replace("<path:name>", "jobs.js"), headers=bearer("x"))[0] in (
                200,
                404,
            )


@pytest.mark.parametrize("role", ROLES)
def test_a_role_opens_its_routes_and_no_others(
    web: Stack, keys: dict[str, dict[str, str]], role: str
) -> None:
    job_id = job_of(web, "ann")
    for route, path, body in requests(job_id):
        status = refusal(web, route.partition(" ")[0], path, body, keys[role])
        if ROUTES[route] == ATTEMPT:
            assert status == 401, route
        else:
            opens = ROUTES[route] == ANY or role in ROUTES[route].split(" or ")
            refused = not opens or route in ALSO_READS
            assert (status == 403) == refused, (route, status)


@pytest.mark.parametrize(
    ("action", "role"), [(action, role) for action in ("cancel", "delete", "retry") for role in ROLES]
)
def test_what_is_done_to_many_jobs_is_repeated_by_who_may_do_it_alone(
    web: Stack, keys: dict[str, dict[str, str]], action: str, role: str
) -> None:
    body = {"labels": {"nobody": "has"}}
    made = json.loads(web.call("POST", f"/jobs:{action}", body, keys["ann"])[2])["id"]
    until(lambda: web.get(f"/jobs/{made}", headers=keys["ann"])[1]["finished_at"], what="it to be done")
    # To repeat a job takes `submit`; to cancel or delete many takes `cancel`.
    opens = action == "retry" and role == "submit"
    assert web.call("POST", f"/jobs/{made}/retry", headers=keys[role])[0] == (202 if opens else 403)
    assert web.call("POST", f"/jobs/{made}/retry", headers=keys["ann"])[0] == 202


def test_a_webhook_of_an_owner_is_that_of_one_owner(web: Stack, keys: dict[str, dict[str, str]]) -> None:
    target = {"url": "https://hooks.example/"}
    both = Keys(web)("ann", "submit", "read")
    assert web.call("PUT", "/webhooks/hers", target, both)[0] == 201
    assert web.get("/webhooks/hers", headers=keys["ann"])[0] == 200
    for bob in (keys["bob"], keys["all"]):
        assert web.get("/webhooks", headers=bob)[1]["items"] == []
        absent = web.call("GET", "/webhooks/none", headers=bob)[2].replace(b"none", b"hers")
        assert web.call("GET", "/webhooks/hers", headers=bob)[2] == absent
        assert web.call("DELETE", "/webhooks/hers", headers=bob)[0] == 404
        assert web.call("POST", "/webhooks/hers/secret", headers=bob)[0] == 404
    assert web.call("DELETE", "/webhooks/hers", headers=keys["ann"])[0] == 204


def test_who_is_restricted_to_some_jobs_has_no_webhooks(web: Stack) -> None:
    narrow = jwt_header("ann", ["read", "submit"], groups=["g"])
    target = {"url": "https://hooks.example/"}
    assert web.call("PUT", "/webhooks/x", target, narrow)[0] == 403
    for path in ("/webhooks", "/webhooks/x", "/webhooks/x/deliveries"):
        assert web.call("GET", path, headers=narrow)[0] == 403
    assert web.call("POST", "/webhooks/x/secret", headers=narrow)[0] == 403


def test_what_is_another_owners_looks_absent(web: Stack, keys: dict[str, dict[str, str]]) -> None:
    theirs, absent = job_of(web, "ann", "g"), "0-" + "x" * 22
    uploads = upload_of(web, keys["ann"]), "x" * 22
    for route, path, body in requests(theirs, uploads[0]):
        if "{" not in route.replace("<", "{"):
            continue
        method = route.partition(" ")[0]
        if route.startswith(("PUT", "POST /uploads")) or ROUTES[route] == ATTEMPT:
            continue
        nowhere = path.replace(theirs, absent).replace(uploads[0], uploads[1])
        for more in ({}, {"Accept": "application/json"}):
            got = web.call(method, path, body, {**keys["bob"], **more})
            expected = web.call(method, nowhere, body, {**keys["bob"], **more})
            assert got[0] == expected[0] == 404, route
            assert got[2].decode().replace(theirs, absent).replace(*uploads) == expected[2].decode(), route
        if method == "GET":
            assert web.call("HEAD", path, headers=keys["bob"])[0] == 404
    assert web.call("GET", f"/events?job={theirs}", headers=keys["bob"])[0] == 404
    assert web.get(f"/jobs/{theirs}", headers=keys["ann"])[1]["state"] == "queued"
    assert web.get("/jobs", headers=keys["bob"])[1]["items"] == []
    assert web.get("/jobs?group=g", headers=keys["bob"])[1]["items"] == []
    queued = {"Accept": "application/json"}
    assert web.get(f"/jobs/{theirs}/events?after=0&wait=1", headers={**keys["bob"], **queued})[0] == 404


def test_feeds_and_groups_are_of_one_owner(web: Stack, keys: dict[str, dict[str, str]]) -> None:
    mine, theirs = job_of(web, "bob", "shared"), job_of(web, "ann", "shared")
    for path in ("/events", "/events?group=shared"):
        with Reader(web.url, path, "0", timeout=10, **keys["bob"]) as reader:
            seen = next(event for event in reader if event.event == "state")
            assert seen.data["job"] == mine != theirs


def test_with_ops_all_one_sees_every_owners_jobs(web: Stack, keys: dict[str, dict[str, str]]) -> None:
    theirs = job_of(web, "ann")
    assert web.get(f"/jobs/{theirs}", headers=keys["all"])[1]["owner"] == "ann"
    with Reader(web.url, f"/jobs/{theirs}/events", timeout=10, **keys["all"]) as reader:
        assert reader.status == 200
    for path in ("/jobs", "/jobs?owner=eve"):
        assert web.get(path, headers=keys["all"])[1]["items"] == [], "its own"
    listed = web.get("/jobs?owner=ann&limit=500", headers=keys["all"])[1]["items"]
    assert theirs in [job["id"] for job in listed]
    with Reader(web.url, "/events?owner=ann&last_event_id=0", timeout=10, **keys["all"]) as reader:
        assert next(event for event in reader if event.data.get("job") == theirs).event == "state"
    assert web.get("/jobs?owner=ann", headers=keys["ann"])[0] == 200
    for path in ("/jobs?owner=ann", "/events?owner=ann", "/events?owner=ann&group=g"):
        assert web.call("GET", path, headers=keys["bob"])[0] == 403
    queues = {"ann": keys["ops"], "all": keys["all"]}
    assert web.call("GET", "/workers", headers=queues["ann"])[0] == 200
    assert web.call("POST", f"/jobs/{theirs}/cancel", headers=keys["all"])[0] == 202


def test_idempotency_keys_are_of_one_owner(web: Stack, keys: dict[str, dict[str, str]]) -> None:
    old = {owner: job_of(web, owner) for owner in ("ann", "bob")}
    for job_id in old.values():
        end(web, job_id)
    made = {
        web.call("POST", f"/jobs/{old[owner]}/retry", b"", {**keys[owner], "Idempotency-Key": "same"})[:1][
            0
        ]
        for owner in old
    }
    assert made == {202}


def test_a_revoked_key_is_refused_and_its_streams_end(web: Stack) -> None:
    made, text = web.store.access.create("ann", ["read"])
    with Reader(web.url, "/events", timeout=60, **bearer(text)) as reader:
        assert reader.status == 200
        web.store.access.revoke(made.id)
        refused(web, bearer(text))
        events = [event.event for event in reader]
    assert events[-1] == "shutdown"


def test_a_session_lasts_until_it_is_ended(web: Stack, keys: dict[str, dict[str, str]]) -> None:
    status, headers, _ = web.call("POST", "/session", b"", keys["read"])
    assert status == 200
    value, *attributes = headers["set-cookie"].split("; ")
    assert value.startswith(f"headway-{web.port}=hws1.")
    assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= set(attributes)
    assert "Secure" not in attributes
    cookie = {"Cookie": value}
    who = web.get("/session", headers=cookie)[1]
    assert (who["owner"], who["roles"], who["kind"]) == ("ann", ["read"], "session")
    assert web.call("POST", "/uploads", b"x", cookie)[0] == 403
    # A page of another site cannot use it.
    assert web.call("GET", "/jobs", headers={**cookie, "Sec-Fetch-Site": "cross-site"})[0] == 403
    assert web.call("DELETE", "/session", headers=cookie)[0] == 204
    assert web.call("GET", "/jobs", headers=cookie)[0] == 401
    assert web.call("DELETE", "/session", headers=cookie)[0] == 204
    assert web.call("GET", "/jobs", headers={**cookie, **keys["read"]})[0] == 200, (
        "an old cookie is no harm"
    )


def test_behind_https_the_cookie_is_bound_to_the_host(web: Stack, keys: dict[str, dict[str, str]]) -> None:
    proxied = {**keys["read"], "X-Forwarded-Proto": "https"}
    cookie = web.call("POST", "/session", b"", proxied)[1]["set-cookie"]
    assert cookie.startswith("__Host-headway=")
    assert "Secure" in cookie.split("; ")


def test_a_session_ends_with_its_key(web: Stack) -> None:
    made, text = web.store.access.create("ann", ["read"])
    cookie = web.call("POST", "/session", b"", bearer(text))[1]["set-cookie"].partition(";")[0]
    assert web.call("GET", "/jobs", headers={"Cookie": cookie})[0] == 200
    web.store.access.revoke(made.id)
    refused(web, {"Cookie": cookie})


def test_requests_cost_no_look_at_the_keys_in_redis(web: Stack, keys: dict[str, dict[str, str]]) -> None:
    before = web.store.redis.info("commandstats")["cmdstat_hgetall"]["calls"]  # type: ignore[index]
    for _ in range(50):
        assert web.call("GET", "/session", headers=keys["ann"])[0] == 200
    assert web.store.redis.info("commandstats")["cmdstat_hgetall"]["calls"] == before  # type: ignore[index]


def test_another_owners_upload_is_no_input(tmp_path: Path) -> None:
    from headway.contract.local_files import LocalFiles
    from headway.contract.uploads import find_upload

    files = LocalFiles(tmp_path)
    directory = tmp_path / "uploads" / ("u" * 22)
    directory.mkdir(parents=True)
    (directory / "data").write_bytes(b"x")
    (directory / "meta.json").write_text(json.dumps({"name": "x", "owner": "ann"}))
    found = find_upload(files, "u" * 22)
    assert found is not None
    assert found.owner == "ann"
    (directory / "meta.json").write_text(json.dumps({"name": "x"}))
    old = find_upload(files, "u" * 22)
    assert old is not None
    assert old.owner == "local"
    assert find_upload(files, "../" + "u" * 22) is None


def audit_of(web: Stack) -> list[dict[str, Any]]:
    lines = [line for line in web.log("web").splitlines() if '"logger":"headway.audit"' in line]
    return [json.loads(line) for line in lines]


def test_the_audit_log_says_who_did_what_and_no_credential(
    web: Stack, keys: dict[str, dict[str, str]]
) -> None:
    job_id = job_of(web, "ann")
    before = len(audit_of(web))
    token = ticket(web, keys["read"], jobs=[job_id])["ticket"]
    proxied = {"X-Request-ID": "r-1", "X-Forwarded-For": "198.51.100.7"}
    web.call("POST", f"/jobs/{job_id}/cancel", b"", {**keys["cancel"], **proxied})
    web.call("POST", f"/jobs/{job_id}/retry", b"", keys["read"])
    web.call("GET", f"/jobs/{job_id}/artifacts/x?ticket={token}")
    web.call("GET", "/jobs", headers=bearer("hw_abcdefgh_" + "y" * 43))
    web.call("GET", "/jobs", headers={**keys["read"], "Sec-Fetch-Site": "cross-site"})
    cookie = web.call("POST", "/session", b"", keys["read"])[1]["set-cookie"]
    seen = {(line["action"], line["status"]): line for line in audit_of(web)[before:]}
    canceled = seen["cancel_job", 202]
    key_id = keys["cancel"]["Authorization"].split("_")[1]
    assert canceled["who"] == f"key:{key_id}"
    assert (canceled["owner"], canceled["object"], canceled["outcome"]) == ("ann", job_id, "done")
    assert (canceled["request"], canceled["ip"], canceled["reason"]) == ("r-1", "198.51.100.7", None)
    assert seen["retry_job", 403]["outcome"] == "refused"
    assert "submit" in seen["retry_job", 403]["reason"]
    assert seen["get_artifact", 403]["object"] == f"{job_id}/x"
    assert seen["list_jobs", 401]["who"] is None
    assert "another origin" in seen["GET", 403]["reason"]
    assert ("create_ticket", 201) in seen
    assert ("sign_in", 200) in seen
    log = web.log("web")
    secrets = [token, cookie.partition("=")[2].partition(";")[0], "y" * 43]
    for secret in (*secrets, *(headers["Authorization"].split("_", 2)[2] for headers in keys.values())):
        assert secret not in log
    assert "ticket=" not in log


def test_changes_of_keys_are_recorded_once(web: Stack) -> None:
    access = web.store.access
    made, text = access.create("ann", ["read", "submit"], by="root@ops")
    rotated, new = access.rotate(made.id, grace_s=60, by="root@ops")
    access.revoke(made.id, by="root@ops")

    def recorded() -> list[tuple[str, str]]:
        lines = [line for line in audit_of(web) if line["who"] == "root@ops"]
        assert all((line["owner"], line["reason"]) == ("ann", "roles read,submit") for line in lines)
        return [(line["action"], line["object"]) for line in lines]

    until(lambda: len(recorded()) >= 4, what="the changes to be recorded")
    assert recorded() == [
        ("create_key", made.id),
        ("create_key", rotated.id),
        ("rotate_key", made.id),
        ("revoke_key", made.id),
    ]
    assert text.split("_", 2)[2] not in web.log("web")
    assert new.split("_", 2)[2] not in web.log("web")
    assert access.take_changes() == []


def test_a_flood_of_refusals_is_counted_and_not_logged(web: Stack, keys: dict[str, dict[str, str]]) -> None:
    def refused() -> float:
        text = web.call("GET", "/metrics", headers=keys["ops"])[2].decode()
        return float(text.partition('headway_requests_refused_total{reason="credential"} ')[2].split()[0])

    web.call("GET", "/jobs", headers=bearer("x"))  # the counter is not there before the first
    before, lines = refused(), len(audit_of(web))
    for _ in range(200):
        assert web.call("GET", "/jobs")[0] == 401
    assert refused() - before == 200
    assert len(audit_of(web)) - lines < 200


def ticket(web: Stack, headers: dict[str, str], **body: Any) -> dict[str, Any]:
    status, _, answer = web.call("POST", "/tickets", body, headers)
    assert status == 201, answer
    made: dict[str, Any] = json.loads(answer)
    return made


def status_of(web: Stack, path: str, token: str, method: str = "GET") -> int:
    joined = f"{path}{'&' if '?' in path else '?'}ticket={token}"
    return refusal(web, method, joined, None, {})


def test_a_ticket_opens_exactly_its_jobs(web: Stack, keys: dict[str, dict[str, str]]) -> None:
    mine, other, theirs = job_of(web, "ann"), job_of(web, "ann"), job_of(web, "bob")
    made = ticket(web, keys["read"], jobs=[mine])
    token = made["ticket"]
    assert made["events_url"] == f"/jobs/{mine}/events?ticket={token}"
    for route, path, _ in requests(mine):
        method = route.partition(" ")[0]
        if route not in TICKET_ROUTES:
            # Of what is no GET a ticket is no credential at all.
            assert status_of(web, path, token, method) == (403 if method == "GET" else 401), route
    for path in ("", "/events", "/events?wait=0", "/events?last_event_id=0"):
        assert status_of(web, f"/jobs/{mine}{path}", token) == 200
        assert status_of(web, f"/jobs/{other}{path}", token) == 404
        assert status_of(web, f"/jobs/{theirs}{path}", token) == 404
    assert status_of(web, f"/jobs/{mine}/artifacts/x", token) == 403
    assert web.call("HEAD", f"/jobs/{mine}?ticket={token}")[0] == 200
    assert status_of(web, "/jobs", token) == 403
    assert status_of(web, "/events?group=g", token) == 403
    assert status_of(web, f"/events?job={other}", token) == 404
    assert status_of(web, "/events", token) == 200
    assert web.call("GET", f"/jobs/{mine}", headers=bearer(token))[0] == 200
    with_artifacts = ticket(web, keys["read"], jobs=[mine], artifacts=True)["ticket"]
    assert status_of(web, f"/jobs/{mine}/artifacts/x", with_artifacts) == 404
    for jobs in ([theirs], [mine, theirs], ["x"], ["0-" + "x" * 22]):
        assert web.call("POST", "/tickets", {"jobs": jobs}, keys["read"])[0] == 404


def test_a_ticket_of_a_group_and_of_the_feed(web: Stack, keys: dict[str, dict[str, str]]) -> None:
    inside, outside = job_of(web, "ann", "film"), job_of(web, "ann", "other")
    token = ticket(web, keys["read"], group="film")["ticket"]
    assert status_of(web, f"/jobs/{inside}", token) == 200
    assert status_of(web, f"/jobs/{outside}", token) == 404
    assert status_of(web, f"/jobs/{outside}/events", token) == 404
    assert status_of(web, "/jobs?group=film", token) == 200
    assert status_of(web, "/jobs?group=other", token) == 403
    with Reader(web.url, f"/events?ticket={token}", timeout=10) as reader:
        assert reader.take(1)[0].data["id"] == inside
    feed = ticket(web, keys["read"], feed=True)["ticket"]
    assert status_of(web, f"/jobs/{outside}/events", feed) == 200
    assert status_of(web, "/jobs", feed) == 200
    assert status_of(web, "/types", feed) == 403


def test_a_ticket_of_1000_jobs_is_a_short_address(web: Stack, keys: dict[str, dict[str, str]]) -> None:
    jobs = [job_of(web, "ann") for _ in range(1000)]
    made = ticket(web, keys["read"], jobs=jobs)
    assert len(made["events_url"]) < 1000
    with Reader(web.url, made["events_url"], timeout=30) as reader:
        assert {event.data["id"] for event in reader.take(1000)} == set(jobs)
    assert status_of(web, f"/jobs/{jobs[999]}", made["ticket"]) == 200


@pytest.mark.parametrize(
    "body",
    [{}, {"feed": False}, {"jobs": []}, {"jobs": ["x"], "group": "g"}, {"feed": True, "ttl_s": 3601}],
)
def test_a_ticket_for_nothing_is_refused(
    web: Stack, keys: dict[str, dict[str, str]], body: dict[str, Any]
) -> None:
    assert web.call("POST", "/tickets", body, keys["read"])[0] == 422


def test_an_expired_ticket_is_refused_and_its_stream_ends(
    web: Stack, keys: dict[str, dict[str, str]]
) -> None:
    job_id = job_of(web, "ann")
    made = ticket(web, keys["read"], jobs=[job_id], ttl_s=2)
    with Reader(web.url, made["events_url"], timeout=60) as reader:
        assert reader.status == 200
        events = [event.event for event in reader]
    assert events[-1] == "shutdown"
    assert web.call("GET", made["events_url"])[0] == 401


def test_an_expired_ticket_opens_no_address_by_either_way_in(
    web: Stack, keys: dict[str, dict[str, str]]
) -> None:
    job_id = job_of(web, "ann", "film")
    for scope in ({"jobs": [job_id], "artifacts": True}, {"group": "film"}, {"feed": True}):
        token = ticket(web, keys["read"], ttl_s=1, **scope)["ticket"]
        until(lambda token=token: status_of(web, "/jobs", token) == 401, what="the ticket to expire")
        for route, path, body in requests(job_id):
            method = route.partition(" ")[0]
            for accept in ("text/event-stream", "application/json"):
                headers = {"Accept": accept}
                assert refusal(web, method, f"{path}?ticket={token}", body, headers) == 401, (route, accept)
                assert refusal(web, method, path, body, {**headers, **bearer(token)}) == 401, (
                    route,
                    accept,
                )
            if method == "GET":
                assert web.call("HEAD", f"{path}?ticket={token}")[0] == 401, route
    assert web.store.get(job_id).state == "queued"  # type: ignore[union-attr]


def test_a_ticket_that_was_touched_is_refused(web: Stack, keys: dict[str, dict[str, str]]) -> None:
    job_id = job_of(web, "ann")
    token = ticket(web, keys["read"], jobs=[job_id])["ticket"]
    head, kid, payload, tag = token.split(".")
    for forged in (
        f"{head}.{kid}.{payload[:-2]}AA.{tag}",
        f"{head}.{kid}.{payload}.{tag[:-2]}AA",
        f"{head}.{kid}.{payload}.",
        f"hws1.{kid}.{payload}.{tag}",
        f"{head}.00000000.{payload}.{tag}",
        f"{head}..{payload}.{tag}",
        f"{token}.x",
        "hwt1.é.x.y",
    ):
        assert web.call("GET", f"/jobs/{job_id}?ticket={forged.replace('é', '%C3%A9')}")[0] == 401, forged
    assert web.call("GET", f"/jobs/{job_id}?ticket={token}&ticket={token}")[0] == 400
    # Neither is a ticket a session, nor a session a bearer credential, not even when it is known.
    assert web.call("GET", f"/jobs/{job_id}?ticket={token}")[0] == 200
    assert web.call("GET", f"/jobs/{job_id}", headers={"Cookie": f"headway-{web.port}={token}"})[0] == 401
    cookie = web.call("POST", "/session", b"", keys["read"])[1]["set-cookie"].partition(";")[0]
    assert web.call("GET", "/jobs", headers={"Cookie": cookie})[0] == 200
    assert web.call("GET", "/jobs", headers=bearer(cookie.partition("=")[2]))[0] == 401


def test_a_jwt_opens_what_it_says(web: Stack, keys: dict[str, dict[str, str]]) -> None:
    mine, other, theirs = job_of(web, "ann", "jwt"), job_of(web, "ann"), job_of(web, "bob")
    reader = jwt_header("ann", ["read"])
    assert web.get(f"/jobs/{mine}", headers=reader)[0] == 200
    assert web.get(f"/jobs/{theirs}", headers=reader)[0] == 404
    assert web.call("POST", f"/jobs/{mine}/cancel", headers=reader)[0] == 403
    assert web.get("/jobs", headers=jwt_header("ann", ["read"], expires_s=-60))[0] == 401
    who = web.get("/session", headers=reader)[1]
    assert (who["owner"], who["kind"]) == ("ann", "jwt")
    for scope in ({"jobs": [mine]}, {"groups": ["jwt"]}):
        narrow = jwt_header("ann", ["read", "submit", "cancel"], **scope)
        assert web.get(f"/jobs/{mine}", headers=narrow)[0] == 200
        assert web.get(f"/jobs/{other}", headers=narrow)[0] == 404
        assert web.call("POST", f"/jobs/{other}/cancel", headers=narrow)[0] == 404
        assert web.get("/jobs", headers=narrow)[0] == 403
        assert web.get("/jobs?group=other", headers=narrow)[0] == 403
        assert web.call("POST", "/jobs", {"type": "t"}, narrow)[0] == 403
        assert web.call("POST", "/tickets", {"feed": True}, narrow)[0] == 403
        assert web.call("POST", "/tickets", {"jobs": [other]}, narrow)[0] == 404
        assert web.call("POST", "/tickets", {"jobs": [mine]}, narrow)[0] == 201
        cookie = web.call("POST", "/session", b"", narrow)[1]["set-cookie"].partition(";")[0]
        assert web.get(f"/jobs/{other}", headers={"Cookie": cookie})[0] == 404
        with Reader(web.url, "/events", timeout=10, **narrow) as stream:
            assert stream.take(1)[0].data["id"] == mine

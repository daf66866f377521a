"""What is owed to webhooks: leases, order, backoff, giving up. The clock stands still; nothing is sent."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from typing import Any, cast

import pytest

from headway.contract.states import State
from headway.contract.store import JobStore
from headway.contract.webhooks import (
    DISABLE_AFTER_S,
    FAILING,
    KEPT_DELIVERIES,
    MAX_WEBHOOKS,
    Target,
    TooManyWebhooks,
)
from service.scheduling import webhooks
from service.scheduling.keeper import Keeper
from service.scheduling.webhook_post import Answer, Poster
from service.scheduling.webhooks import BATCH, DELAYS_S, LEASE_S, WebhookLoop
from tests.support.clocked_store import ClockedStore
from tests.support.fake_worker import claim, create

URL = "https://a.example/x"
OK = Answer(204)
BAD = Answer(500, "oh", "it answered 500")
HOST = Target("a.example:443", "https://a.example/job", ("state", "end"))


class Posts:
    """Answers in place of a receiver: what is set for a part of the body, else OK."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, dict[str, Any], dict[str, str]]] = []
        self.answers: dict[str, Answer] = {}

    def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        self.sent.append((url, json.loads(body), dict(headers)))
        return next((a for part, a in self.answers.items() if part in body.decode()), OK)

    @property
    def types(self) -> list[str]:
        return [body["type"] for _, body, _ in self.sent]


@pytest.fixture
def posts() -> Posts:
    return Posts()


def look(store: JobStore, posts: Posts) -> int:
    """One look of the loop, to its end. Returns how many webhooks were sent to."""
    threads = WebhookLoop(store, Keeper(store), poster=cast(Poster, posts)).look()
    for thread in threads:
        thread.join(30)
    return len(threads)


def drain(store: JobStore, posts: Posts) -> None:
    while look(store, posts):
        pass


def run(store: JobStore, job_id: str) -> None:
    store.end(claim(store, job_id), State.SUCCEEDED, result={"n": 1})


def test_a_job_without_a_webhook_owes_nothing(clocked: ClockedStore, posts: Posts) -> None:
    job_id = create(clocked)
    run(clocked, job_id)
    assert clocked.redis.hget(clocked.keys.job(job_id), "_hooks") is None
    clocked.webhooks.put("ann", "done", URL, ["end"])
    run(clocked, create(clocked, owner="bob"))
    drain(clocked, posts)
    assert not posts.sent


def test_an_owners_webhook_is_told_of_the_jobs_submitted_after_it(
    clocked: ClockedStore, posts: Posts
) -> None:
    before = create(clocked)
    secret = clocked.webhooks.put("local", "done", URL, ["state", "end"])
    assert secret is not None
    assert secret.startswith("whsec_")
    assert clocked.webhooks.put("local", "done", URL, ["state", "end"]) is None, "it is shown once"
    job_id = create(clocked)
    run(clocked, job_id)
    run(clocked, before)
    drain(clocked, posts)
    assert posts.types == ["job.state", "job.state", "job.end"]
    url, body, headers = posts.sent[-1]
    job = clocked.get(job_id)
    assert job is not None
    assert url == URL
    assert body["data"] == json.loads(job.model_dump_json())
    assert body["timestamp"] == job.finished_at
    assert headers["webhook-id"].startswith(f"evt_{job.last_event_id}_")


def test_a_submissions_webhook_is_told_of_that_job_alone(clocked: ClockedStore, posts: Posts) -> None:
    clocked.webhooks.ensure_host("local", HOST.host)
    mine, other = create(clocked, webhook=HOST), create(clocked)
    run(clocked, other)
    run(clocked, mine)
    drain(clocked, posts)
    assert [(url, body["data"].get("job", mine)) for url, body, _ in posts.sent] == [(HOST.url, mine)] * 3


def test_the_events_of_a_job_arrive_in_order_and_hold_up_no_other_job(
    clocked: ClockedStore, posts: Posts
) -> None:
    clocked.webhooks.put("local", "done", URL, ["state", "end"])
    stuck, other = create(clocked), create(clocked)
    posts.answers = {stuck: BAD}
    run(clocked, stuck)
    run(clocked, other)
    drain(clocked, posts)
    of = [body["data"] for _, body, _ in posts.sent]
    assert [d["state"] for d in of if stuck in str(d)] == ["queued"], "the first, once, and none after it"
    assert [d["state"] for d in of if other in str(d)] == ["queued", "running", "succeeded"]
    posts.answers, posts.sent = {}, []
    clocked.advance(DELAYS_S[0] * 1.2)
    drain(clocked, posts)
    assert [body["data"]["state"] for _, body, _ in posts.sent] == ["queued", "running", "succeeded"]


def test_what_is_owed_of_a_job_outlives_the_job(clocked: ClockedStore, posts: Posts) -> None:
    clocked.webhooks.put("local", "done", URL, ["end"])
    job_id = create(clocked)
    run(clocked, job_id)
    assert clocked.remove(job_id)
    drain(clocked, posts)
    assert [body["data"]["id"] for _, body, _ in posts.sent] == [job_id]


def test_jobs_of_one_webhook_are_sent_side_by_side_within_bounds(clocked: ClockedStore) -> None:
    clocked.webhooks.put("local", "done", URL, ["state", "end"])
    jobs = {create(clocked) for _ in range(6)}
    taken = clocked.webhooks.take(0, lease_s=LEASE_S, limit=BATCH, pass_failing=False)
    assert taken is not None
    assert len(taken.deliveries) == BATCH == len({one.job for one in taken.deliveries} & jobs)


def test_a_repeat_has_the_id_of_the_first_try(clocked: ClockedStore, posts: Posts) -> None:
    clocked.webhooks.put("local", "done", URL, ["end"])
    clocked.webhooks.put("local", "too", URL, ["end"])
    run(clocked, create(clocked))
    posts.answers = {"job.end": BAD}
    drain(clocked, posts)
    clocked.advance(60)
    drain(clocked, posts)
    ids = [headers["webhook-id"] for *_, headers in posts.sent]
    assert (len(ids), len(set(ids))) == (4, 2), "one for each webhook"


def test_what_was_taken_is_not_given_to_another_until_the_lease_is_over(clocked: ClockedStore) -> None:
    clocked.webhooks.put("local", "done", URL, ["state", "end"])
    run(clocked, create(clocked))

    def take() -> Any:
        return clocked.webhooks.take(0, lease_s=LEASE_S, limit=4, pass_failing=False)

    first = take()
    assert first is not None
    clocked.advance(0.01)
    create(clocked)
    assert take() is None, "also when more is owed meanwhile"
    clocked.advance(LEASE_S)
    second = take()
    assert second is not None
    assert second.deliveries[0] == first.deliveries[0]
    results = [webhooks.Settled(first.deliveries[0], "delivered", 0, {})]
    clocked.webhooks.settle(first, results, quiet_s=0)
    assert take() is None, "the other still holds it"
    clocked.webhooks.settle(second, results, quiet_s=0)
    third = take()
    assert third is not None
    assert {one.event for one in third.deliveries} == {"state"}, "what was settled twice counted once"
    assert first.deliveries[0] not in third.deliveries


def test_a_delivery_is_tried_for_a_day_and_given_up_and_the_next_is_its_turn(
    clocked: ClockedStore, posts: Posts
) -> None:
    clocked.webhooks.put("local", "done", URL, ["state", "end"])
    posts.answers = {"queued": BAD}
    run(clocked, create(clocked))
    for delay in DELAYS_S:
        drain(clocked, posts)
        clocked.advance(delay * 1.2)
    drain(clocked, posts)
    # A webhook that has failed so often in a row is left alone for a while.
    clocked.advance(600)
    drain(clocked, posts)
    log = clocked.webhooks.log("local", "done")
    assert [(r["event"], r["outcome"]) for r in log[:3]] == [
        ("end", "delivered"),
        ("state", "delivered"),
        ("state", "given_up"),
    ]
    assert [r["attempt"] for r in log] == [1, 1, *range(len(DELAYS_S) + 1, 0, -1)]
    assert (log[2]["status"], log[2]["error"], log[2]["answer"]) == (500, "it answered 500", "oh")
    assert log[2]["next_at"] is None
    assert log[3]["next_at"] is not None


def test_a_receiver_that_is_away_is_asked_rarely_and_gets_all_when_it_is_back(
    clocked: ClockedStore, posts: Posts
) -> None:
    clocked.webhooks.put("local", "done", URL, ["end"])
    for _ in range(40):
        run(clocked, create(clocked))
    posts.answers = {"job": BAD}
    drain(clocked, posts)
    for _ in range(60):
        clocked.advance(60)
        drain(clocked, posts)
    assert len(posts.sent) < 30, "and not 40 jobs' tries in an hour"
    assert clocked.webhooks.get("local", "done").failing_since is not None  # type: ignore[union-attr]
    posts.answers, posts.sent = {}, []
    clocked.advance(600)
    drain(clocked, posts)
    assert len(posts.sent) == 40, "also those whose next try was later"
    webhook = clocked.webhooks.get("local", "done")
    assert webhook is not None
    assert (webhook.pending, webhook.failing_since) == (0, None)


def test_when_a_receiver_is_back_nothing_waits_for_its_next_try(
    clocked: ClockedStore, posts: Posts
) -> None:
    clocked.webhooks.put("local", "done", URL, ["end"])
    run(clocked, create(clocked))
    posts.answers = {"job": BAD}
    for delay in DELAYS_S[:FAILING]:
        drain(clocked, posts)
        clocked.advance(min(delay, DELAYS_S[FAILING - 2]) * 1.2)
    assert len(posts.sent) == FAILING
    posts.answers = {}
    drain(clocked, posts)
    assert len(posts.sent) == FAILING, "the next try is in an hour"
    run(clocked, create(clocked))
    drain(clocked, posts)
    assert len(posts.sent) == FAILING + 2


def test_after_days_of_failure_it_is_disabled_with_a_word_to_the_operator(
    clocked: ClockedStore, posts: Posts, caplog: pytest.LogCaptureFixture
) -> None:
    clocked.webhooks.put("local", "done", URL, ["end"])
    posts.answers = {"job": BAD}
    for _ in range(FAILING + 1):
        run(clocked, create(clocked))
    drain(clocked, posts)
    clocked.advance(DISABLE_AFTER_S - 60)
    drain(clocked, posts)
    assert clocked.webhooks.get("local", "done").disabled is None  # type: ignore[union-attr]
    clocked.advance(3600)
    with caplog.at_level(logging.ERROR):
        drain(clocked, posts)
    assert "webhook done of local is disabled" in caplog.text
    clocked.advance(3600)
    count = len(posts.sent)
    drain(clocked, posts)
    run(clocked, create(clocked))
    drain(clocked, posts)
    assert len(posts.sent) == count
    webhook = clocked.webhooks.get("local", "done")
    assert webhook is not None
    assert (webhook.disabled, webhook.pending) == ("failing", 0)
    posts.answers = {}
    clocked.webhooks.put("local", "done", URL, ["end"])
    run(clocked, create(clocked))
    drain(clocked, posts)
    assert len(posts.sent) == count + 1


def test_a_410_disables_at_once(clocked: ClockedStore, posts: Posts) -> None:
    clocked.webhooks.put("local", "done", URL, ["state", "end"])
    run(clocked, create(clocked))
    posts.answers = {"job": Answer(410)}
    drain(clocked, posts)
    assert len(posts.sent) == 1
    assert clocked.webhooks.get("local", "done").disabled == "gone"  # type: ignore[union-attr]
    assert not clocked.redis.keys(f"{clocked.keys.prefix}*lane*"), "what was owed is dropped"


def test_retry_after_leaves_the_whole_receiver_alone(clocked: ClockedStore, posts: Posts) -> None:
    clocked.webhooks.put("local", "done", URL, ["end"])
    run(clocked, create(clocked))
    posts.answers = {"job": Answer(429, retry_after_s=900)}
    drain(clocked, posts)
    posts.answers = {}
    run(clocked, create(clocked))
    clocked.advance(890)
    drain(clocked, posts)
    assert len(posts.sent) == 1
    clocked.advance(11)
    drain(clocked, posts)
    assert len(posts.sent) == 3


def test_webhooks_that_keep_failing_leave_room_for_the_others(clocked: ClockedStore) -> None:
    clocked.webhooks.put("ann", "bad", URL, ["end"])
    clocked.webhooks.put("bob", "good", URL, ["end"])
    run(clocked, create(clocked, owner="ann"))
    clocked.redis.hset(clocked.keys.webhook("ann", "bad"), "fails", FAILING)
    clocked.advance(1)
    run(clocked, create(clocked, owner="bob"))
    taken = clocked.webhooks.take(0, lease_s=LEASE_S, limit=4, pass_failing=True)
    assert taken is not None
    assert taken.owner == "bob"
    clocked.advance(2)
    taken = clocked.webhooks.take(0, lease_s=LEASE_S, limit=4, pass_failing=False)
    assert taken is not None
    assert (taken.owner, taken.failing) == ("ann", True)


def test_what_is_owed_to_one_webhook_is_bounded(clocked: ClockedStore, posts: Posts) -> None:
    clocked.webhooks.put("local", "done", URL, ["end"])
    run(clocked, create(clocked))
    key = clocked.keys.webhook("local", "done")
    owed = int(clocked.redis.hget(key, "bytes") or 0)
    assert owed > 500
    clocked.redis.hset(key, "bytes", 16 * 1024**2 - 100)
    run(clocked, create(clocked))
    clocked.redis.hset(key, "bytes", owed)
    drain(clocked, posts)
    webhook = clocked.webhooks.get("local", "done")
    assert webhook is not None
    assert (len(posts.sent), webhook.missed) == (1, 1)
    assert int(clocked.redis.hget(key, "bytes") or 0) == 0, "what is delivered is counted off again"


def test_the_log_is_bounded_and_goes_with_the_webhook(clocked: ClockedStore, posts: Posts) -> None:
    clocked.webhooks.put("local", "done", URL, ["state"])
    for _ in range(KEPT_DELIVERIES + 10):
        create(clocked)
    drain(clocked, posts)
    assert len(posts.sent) == KEPT_DELIVERIES + 10
    assert len(clocked.webhooks.log("local", "done")) == KEPT_DELIVERIES
    create(clocked)
    assert clocked.webhooks.remove("local", "done")
    assert not clocked.webhooks.remove("local", "done")
    create(clocked)
    drain(clocked, posts)
    assert len(posts.sent) == KEPT_DELIVERIES + 10
    left = clocked.redis.keys(f"{clocked.keys.prefix}*")
    assert not [key for key in left if b"lane" in key or b"webhook" in key or b"sent:" in key]


def test_an_event_is_delivered_again_by_hand(clocked: ClockedStore, posts: Posts) -> None:
    clocked.webhooks.put("local", "done", URL, ["end"])
    clocked.webhooks.ensure_host("local", HOST.host)
    job_id = create(clocked, webhook=HOST)
    run(clocked, job_id)
    drain(clocked, posts)
    ref = clocked.ref(job_id)
    assert ref is not None
    for name in ("done", HOST.host):
        event_id = clocked.webhooks.log("local", name)[0]["event_id"]
        assert clocked.webhooks.redeliver(ref, name, event_id) == "owed"
        drain(clocked, posts)
        again = posts.sent.pop()
        assert any(again[:2] == one[:2] for one in posts.sent), "the same to the same address"
    assert clocked.webhooks.redeliver(ref, "done", "1-1") == "gone"
    clocked.redis.hset(clocked.keys.webhook("local", "done"), "disabled", "gone")
    assert clocked.webhooks.redeliver(ref, "done", event_id) == "refused"


def test_secrets_are_rotated_and_the_old_one_signs_for_a_day(
    clocked: ClockedStore, posts: Posts, monkeypatch: pytest.MonkeyPatch
) -> None:
    clocked.webhooks.put("local", "done", URL, ["state"])

    def signatures() -> int:
        create(clocked)
        drain(clocked, posts)
        return len(posts.sent[-1][2]["webhook-signature"].split(" "))

    assert signatures() == 1
    rotated = clocked.webhooks.rotate("local", "done")
    assert rotated is not None
    assert rotated[1] is not None
    assert signatures() == 2
    for _ in range(5):
        clocked.webhooks.rotate("local", "done")
    assert signatures() == 3, "their number is bounded"
    now = webhooks.time.time()
    monkeypatch.setattr("headway.contract.webhooks.time.time", lambda: now + 90_000)
    assert signatures() == 1
    assert clocked.webhooks.rotate("local", "nothing") is None


def test_an_owner_has_a_bounded_number_of_webhooks(clocked: ClockedStore) -> None:
    for n in range(MAX_WEBHOOKS):
        clocked.webhooks.ensure_host("local", f"h{n}.example:443")
    for make in (
        lambda: clocked.webhooks.ensure_host("local", "one.example:443"),
        lambda: clocked.webhooks.put("local", "done", URL, ["end"]),
    ):
        with pytest.raises(TooManyWebhooks):
            make()
    clocked.webhooks.ensure_host("local", "h0.example:443")
    clocked.webhooks.put("other", "done", URL, ["end"])


def test_owners_and_names_with_odd_characters_stay_apart(clocked: ClockedStore, posts: Posts) -> None:
    for owner in ("a:b c", "a", "ü{1}%", "a:b"):
        clocked.webhooks.put(owner, "done", URL, ["end"])
    run(clocked, create(clocked, owner="a:b c"))
    run(clocked, create(clocked, owner="ü{1}%"))
    drain(clocked, posts)
    assert sorted(body["data"]["owner"] for _, body, _ in posts.sent) == ["a:b c", "ü{1}%"]
    assert [one.name for one in clocked.webhooks.all("a:b c")] == ["done"]

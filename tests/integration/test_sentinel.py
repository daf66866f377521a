"""A store, and Celery's messages, behind Sentinels: the primary is killed under a running job."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.fake_worker import create
from tests.support.redis_cluster import Sentinels
from tests.support.sse import Reader
from tests.support.stack import Stack
from tests.support.wait import until


@pytest.fixture
def sentinels(tmp_path: Path) -> Iterator[Sentinels]:
    sentinels = Sentinels(tmp_path / "sentinels")
    yield sentinels
    sentinels.close()


def test_after_the_primary_was_killed_all_goes_on_at_the_one_that_sentinels_name(
    sentinels: Sentinels, tmp_path: Path
) -> None:
    with Stack(tmp_path, HEARTBEAT_S="1", DRAIN_S="0", LEASE_S="20") as stack:
        stack.environ["REDIS_URL"] = sentinels.url
        stack.use_store()
        stack.start_web()
        stack.start_worker()
        job_id = stack.submit("simulate", {"duration_s": 12, "rate": 20})["id"]
        with Reader(stack.url, f"/jobs/{job_id}/events", "0") as reader:
            next(event for event in reader if event.event == "progress")
            sentinels.primary.kill()
            until(
                lambda: sentinels.replica.client.info("replication")["role"] == "master",
                20,
                "the replica to be promoted",
            )

            def accepted() -> bytes | None:
                params = {"type": "simulate", "params": {"duration_s": 0}}
                status, _, body = stack.call("POST", "/jobs", params)
                assert status in (202, 503), body
                return body if status == 202 else None

            body = until(accepted, 5, "a submission to be accepted")
            assert reader.until_end()[-1].data["state"] == "succeeded"
        assert stack.wait_ended(job_id)["attempt"] == 1
        assert stack.wait_ended(json.loads(body)["id"])["state"] == "succeeded"
        until(lambda: stack.get("/readyz")[0] == 200)


def test_who_is_cut_off_with_a_former_primary_does_not_say_that_a_job_is_not_there(
    sentinels: Sentinels, tmp_path: Path
) -> None:
    absent = "/jobs/0-" + "x" * 22
    with Stack(tmp_path, HEARTBEAT_S="1", DRAIN_S="0") as stack:
        stack.environ["REDIS_URL"] = sentinels.url
        stack.use_store()
        stack.start_web()
        job_id = create(stack.store)
        assert stack.get(absent)[0] == 404
        assert stack.metric("headway_store_replicas") == 1
        # What it is left with: the primary, and a sentinel that does not reach the others.
        for sentinel in sentinels.sentinels[1:]:
            sentinel.kill()
        until(lambda: stack.get("/readyz")[0] == 503, 20, "the sentinel to notice that it is alone")
        assert stack.get(absent)[0] == 503
        with Reader(stack.url, f"{absent}/events") as reader:
            assert reader.status == 200, "it waits until that is known"
        assert stack.get(f"/jobs/{job_id}")[0] == 200, "what is there can be shown"

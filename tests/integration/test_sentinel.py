"""A store, and Celery's messages, behind Sentinels: the primary is killed under a running job."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

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

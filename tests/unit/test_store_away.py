"""What a service answers that has never reached its store."""

from __future__ import annotations

import pytest

from headway.contract.settings import load
from service.api.app import create_app


@pytest.mark.parametrize(
    "path",
    [
        "/events",
        "/events?group=g",
        "/jobs/0-AAAAAAAAAAAAAAAAAAAAAA/events",
        "/events?job=0-AAAAAAAAAAAAAAAAAAAAAA",
    ],
)
@pytest.mark.parametrize("auth", ["none", "keys"])
def test_a_stream_that_cannot_be_opened_is_told_to_come_back(path: str, auth: str) -> None:
    """An EventSource gives up for good at an error status."""
    app = create_app(load({"REDIS_URL": "redis://127.0.0.1:1", "AUTH": auth}))
    headers = {"Authorization": "Bearer hw_testtest_" + "t" * 43} if auth == "keys" else {}
    with app.test_client() as client:
        answer = client.get(path, headers=headers)
        assert (answer.status_code, answer.content_type) == (200, "text/event-stream")
        assert answer.get_data(as_text=True).startswith("retry: ")


def test_whoever_polls_is_told_that_the_store_is_away() -> None:
    app = create_app(load({"REDIS_URL": "redis://127.0.0.1:1"}))
    with app.test_client() as client:
        answer = client.get("/jobs/0-AAAAAAAAAAAAAAAAAAAAAA/events", headers={"Accept": "application/json"})
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "2")

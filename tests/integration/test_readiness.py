"""What everybody may learn of a service that is not ready."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.stack import Stack
from tests.support.wait import until


@pytest.mark.parametrize(
    ("setting", "value", "theirs", "ours"),
    [
        ("maxmemory", "1", "OOM", "Redis is full"),
        ("min-replicas-to-write", "1", "NOREPLICAS", "takes no writes"),
    ],
)
def test_why_redis_takes_no_writes_is_said_in_our_own_words(
    tmp_path: Path, setting: str, value: str, theirs: str, ours: str
) -> None:
    with Stack(tmp_path, DRAIN_S="0") as stack:
        stack.start_web()
        stack.store.redis.config_set(setting, value)
        until(lambda: stack.get("/readyz")[0] == 503, what="the process not to be ready")
        detail = json.loads(stack.call("GET", "/readyz")[2])["detail"]
        assert ours in detail
        assert theirs not in detail
        assert theirs == "OOM" or theirs in stack.log("web").upper()

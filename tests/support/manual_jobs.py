"""Jobs whose worker is the test: what happens to them happens when it says so."""

from __future__ import annotations

from typing import Any

from headway.contract.encoding import dumps
from headway.contract.events import EventType
from headway.contract.new_job import NewJob
from headway.contract.store import Claim, Report
from tests.support.stack import Stack

HOSTILE = '<img src=x onerror="window.hacked=1"><script>window.hacked=1</script>'


def running_by_hand(stack: Stack, worker: str = "test", lease_s: float = 3600, **more: Any) -> Claim:
    """A job of a type that no worker serves, claimed by the test.

    Its lease outlasts any test: a job whose lease runs out is taken away, however busy the machine is.
    """
    fields = {"owner": "local", "type": "by.hand", "params": {}, "queue": "nobody", "max_attempts": 1}
    job_id = stack.store.create(NewJob(**{**fields, **more}))[0]
    ref = stack.store.ref(job_id)
    assert ref is not None
    claim = stack.store.claim(ref, token="by hand", lease_s=lease_s, worker=worker)
    assert claim is not None
    return claim


def progress(fraction: float | None, message: str = "", **more: Any) -> Report:
    body = dumps({"fraction": fraction, "message": message, **more})
    return Report(EventType.PROGRESS, body, "progress", body)


def log(message: str) -> Report:
    return Report(EventType.LOG, dumps({"level": "info", "message": message}))

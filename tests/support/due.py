"""What is due in the one partition of a test's store, without a loop that answers it."""

from __future__ import annotations

from headway.contract.alarms import Look
from headway.contract.store import JobStore


def due_groups(store: JobStore) -> list[str]:
    """The tallies of groups whose feeds are to be told now."""
    (look,) = store.alarms.look([0], silence_s=3600, grace_s=0)
    assert isinstance(look, Look), look
    return look.groups

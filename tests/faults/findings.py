"""What a rule finds, and the order of events."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tests.faults.history import Stored


@dataclass(frozen=True, slots=True)
class Violation:
    rule: str
    subject: str
    detail: str

    def __str__(self) -> str:
        return f"{self.rule}: {self.subject}: {self.detail}"


Found = Iterator[tuple[str, str]]
"""Subjects and details of violations."""


def order(event_id: str) -> tuple[int, int]:
    """An id as something that compares."""
    ms, _, n = event_id.partition("-")
    return int(ms), int(n or 0)


def of_attempt(event: Stored) -> int:
    return int(event.data["attempt"])

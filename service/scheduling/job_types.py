"""Job types as the service knows them: described by the workers in the store."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError, best_match

from headway.contract.encoding import pointer
from headway.contract.store import JobStore

FRESH_S = 1.0
"""How old this process's copy of the descriptions may be."""


@dataclass(frozen=True, slots=True)
class JobType:
    """A type as its workers describe it. `params` is the JSON Schema (2020-12) of its parameters."""

    name: str
    title: str
    queue: str
    params: dict[str, Any]
    max_attempts: int | None
    alive: bool
    foreign: bool = False
    """Whether another system runs its jobs: an agent beside its workers takes them from the line."""
    owner: str | None = None
    """Who alone may submit it; None: everybody."""

    def faults(self, params: dict[str, Any]) -> list[tuple[str, str]]:
        """What is wrong with these parameters, each with a pointer into the body."""
        found: list[tuple[str, str]] = []
        for error in Draft202012Validator(self.params).iter_errors(params):
            found += _explain(error)
        return found


def _explain(error: ValidationError) -> list[tuple[str, str]]:
    path = ["params", *error.absolute_path]
    if error.validator == "required":
        missing = [name for name in error.validator_value if name not in error.instance]
        return [(pointer(*path, name), "is required") for name in missing]
    if error.validator == "additionalProperties":
        known = error.schema.get("properties", {})
        return [(pointer(*path, name), "is not known") for name in error.instance if name not in known]
    if error.context:
        # One of several schemas, as of "a number or null": the branch that fits best says it best.
        return [(pointer(*path), best_match([error]).message)]
    return [(pointer(*path), error.message)]


class JobTypes:
    """The types in the store, read at most every FRESH_S seconds."""

    def __init__(self, store: JobStore) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._read_at = float("-inf")
        self._types: dict[str, JobType] = {}

    def all(self, *, fresh: bool = False) -> dict[str, JobType]:
        """By name. Raises RedisError."""
        with self._lock:
            if fresh or time.monotonic() - self._read_at > FRESH_S:
                self._types = {
                    name: JobType(
                        name,
                        text.get("title") or name,
                        text["queue"],
                        text["params"],
                        text.get("max_attempts"),
                        alive,
                        text.get("foreign", False),
                        text.get("owner"),
                    )
                    for name, (text, alive) in self._store.registry.types().items()
                }
                self._read_at = time.monotonic()
            return self._types

    def get(self, name: str) -> JobType | None:
        return self.all().get(name) or self.all(fresh=True).get(name)

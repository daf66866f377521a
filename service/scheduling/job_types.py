"""Job types as the service knows them: described by the workers in the store."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import islice
from typing import Any

import redis
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError, best_match
from referencing import Registry

from headway.contract.encoding import dumps, pointer, rfc3339
from headway.contract.keys import is_own_queue
from headway.contract.store import JobStore
from service.scheduling.blocking import off_the_loop

FRESH_S = 1.0
"""How old this process's copy of the descriptions may be."""
MAX_OWNERS = 1000
MAX_FAULTS = 20
NO_REMOTES: Registry[Any] = Registry()
"""A schema that names another by address is not followed there."""


@dataclass(frozen=True)
class JobType:
    """A type as its workers describe it. `params` is the JSON Schema (2020-12) of its parameters."""

    name: str
    title: str
    queue: str
    params: dict[str, Any]
    max_attempts: int | None
    alive: bool
    lease_s: float | None = None
    """Of a claim over HTTP; None for the service's own."""
    foreign: bool = False
    """Whether another system runs its jobs: an agent beside its workers takes them from the line."""
    owner: str | None = None
    """Who alone may submit it; None: everybody."""
    seen_at: float | None = None
    """When a worker last registered it, in seconds since 1970; None: nobody knows."""

    @cached_property
    def _schema(self) -> str:
        return dumps(self.params)

    def gone_since(self, ttl_s: float) -> str | None:
        """Return since when (RFC 3339) nobody has served the type, if that is longer than `ttl_s` ago."""
        if self.alive or self.seen_at is None or time.time() - self.seen_at <= ttl_s:
            return None
        return rfc3339(self.seen_at * 1000)

    @property
    def declared(self) -> bool:
        """Whether an owner declared it over HTTP."""
        return is_own_queue(self.queue)

    def faults(self, params: dict[str, Any]) -> list[tuple[str, str]]:
        """The first things that are wrong with these parameters, each with a pointer into the body."""
        if self.declared:
            # Its schema is a stranger's, and may take seconds: in a thread others have their turn.
            return off_the_loop(lambda: self._faults(params))
        return self._faults(params)

    def _faults(self, params: dict[str, Any]) -> list[tuple[str, str]]:
        errors = _validator(self._schema).iter_errors(params)
        return [fault for error in islice(errors, MAX_FAULTS) for fault in _explain(error)]


@lru_cache(1000)
def _validator(schema: str) -> Draft202012Validator:
    """What it finds out about the schema's references it keeps."""
    return Draft202012Validator(json.loads(schema), registry=NO_REMOTES)


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
        self._read: dict[str, tuple[float, dict[str, JobType]]] = {}
        """By owner; all types that workers registered are under "", which is no owner."""

    def all(self, owner: str = "", *, fresh: bool = False) -> dict[str, JobType]:
        """By name: those that workers serve, and those that this owner declared. Raises RedisError."""
        served = self._read_through("", fresh)
        if not owner:
            return served
        served = {name: found for name, found in served.items() if found.owner in (None, owner)}
        # A name that a worker serves is not the owner's.
        return {**self._read_through(owner, fresh), **served}

    def get(self, name: str, owner: str = "") -> JobType | None:
        return self._find(name, owner, fresh=False) or self._find(name, owner, fresh=True)

    def _find(self, name: str, owner: str, *, fresh: bool) -> JobType | None:
        """Return what `all` has under this name, without making all of it."""
        served = self._read_through("", fresh).get(name)
        if served is not None and (not owner or served.owner in (None, owner)):
            return served
        return self._read_through(owner, fresh).get(name) if owner else None

    def _read_through(self, owner: str, fresh: bool) -> dict[str, JobType]:
        with self._lock:
            read_at, types = self._read.get(owner, (float("-inf"), {}))
            if fresh or time.monotonic() - read_at > FRESH_S:
                registry = self._store.registry
                try:
                    found = registry.own_types(owner) if owner else registry.types()
                    types = {name: _job_type(name, text, alive) for name, (text, alive) in found.items()}
                except redis.RedisError:
                    # What is known goes on: the owner's jobs may be at another server.
                    if fresh or owner not in self._read:
                        raise
                if len(self._read) >= MAX_OWNERS:
                    self._read.clear()
                self._read[owner] = time.monotonic(), types
            return types


def _job_type(name: str, text: dict[str, Any], alive: bool) -> JobType:
    return JobType(
        name,
        text.get("title") or name,
        text["queue"],
        text["params"],
        text.get("max_attempts"),
        alive,
        text.get("lease_s"),
        text.get("foreign", False),
        text.get("owner"),
        text.get("seen_at"),
    )

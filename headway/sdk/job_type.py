"""JobType: a task, its parameters, and what a worker tells the service about them."""

from __future__ import annotations

import importlib
import logging
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict

from headway.contract.encoding import dumps
from headway.sdk.job import Job
from headway.sdk.retry import DEFAULT, Retry

logger = logging.getLogger(__name__)


class Params(BaseModel):
    """Base class of a task's parameters. Unknown parameters are refused; an instance is immutable.

    Forms are built from the model's JSON Schema: give each field a title, a description and bounds.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


P = TypeVar("P", bound=Params)


@dataclass(frozen=True, slots=True)
class JobType(Generic[P]):
    """A function that does a job, under the name by which the service sends it."""

    name: str
    title: str
    queue: str
    params: type[P]
    max_attempts: int | None
    function: Callable[[Job[P]], Any]
    retry: Retry = DEFAULT

    def describe(self) -> str:
        """Return the JSON text that a worker registers. The service validates submissions by `params`."""
        return dumps(
            {
                "name": self.name,
                "title": self.title,
                "queue": self.queue,
                "params": self.params.model_json_schema(),
                "max_attempts": self.max_attempts,
            }
        )


class DuplicateJobType(ValueError):
    """Two tasks have the same name."""


_types: dict[str, JobType[Any]] = {}


def job(
    name: str,
    *,
    params: type[P],
    title: str,
    queue: str | None = None,
    max_attempts: int | None = None,
    retry: Retry = DEFAULT,
) -> Callable[[Callable[[Job[P]], Any]], JobType[P]]:
    """Make a function the task of a job type.

    `queue` defaults to the part of the name before the dot ("video.encode" → "video"), or "default".
    `max_attempts` applies to submissions without one of their own; None leaves it to the service. `retry`
    says which errors are retried, and when. The function returns the job's result (JSON, at most
    MAX_RESULT_BYTES) and raises InvalidInput for errors that no retry can mend.
    Raises DuplicateJobType.
    """

    def register(function: Callable[[Job[P]], Any]) -> JobType[P]:
        if name in _types:
            raise DuplicateJobType(name)
        family, dot, _ = name.partition(".")
        listens_on = queue or (family if dot else "default")
        job_type = JobType(name, title, listens_on, params, max_attempts, function, retry)
        _types[name] = job_type
        return job_type

    return register


def discover(*names: str) -> dict[str, JobType[Any]]:
    """Import these modules, and of packages every module in them. Returns the job types known by then, by
    name.

    A module that cannot be imported is named in the log and skipped, with the types it had registered.
    """
    for name in names:
        package = _import(name)
        for module in pkgutil.iter_modules(getattr(package, "__path__", ()), f"{name}."):
            _import(module.name)
    return dict(sorted(_types.items()))


def _import(name: str) -> ModuleType | None:
    before = dict(_types)
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit):
        _types.clear()
        _types.update(before)
        logger.exception("job types of %s are left out: it cannot be imported", name)
        return None

"""Which job types a worker serves: all that it has, or those that QUEUES and TYPES leave of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from headway.contract.settings import ConfigError, Settings
from headway.sdk.job_type import JobType


def select(types: Mapping[str, JobType[Any]], settings: Settings) -> dict[str, JobType[Any]]:
    """Return the types to serve, by name. Raises ConfigError for a name that there is none of, and if none
    is left."""
    has_queues = {job_type.queue for job_type in types.values()}
    for variable, wanted, has in (
        ("QUEUES", settings.queues, has_queues),
        ("TYPES", settings.types, set(types)),
    ):
        for name in wanted:
            if name not in has:
                raise ConfigError(
                    f"{variable}={','.join(wanted)!r}: this worker has no {name!r}; "
                    f"it has {', '.join(sorted(has))}"
                )
    selected = {
        name: job_type
        for name, job_type in types.items()
        if (not settings.types or name in settings.types)
        and (not settings.queues or job_type.queue in settings.queues)
    }
    if types and not selected:
        raise ConfigError("QUEUES and TYPES leave nothing to serve: none of TYPES is in one of QUEUES")
    return selected

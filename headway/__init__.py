"""Headway for programs: `Client` for those that submit and watch jobs, `job` for those that do them.

Names are imported when they are first used, so that `Client` needs nothing but the standard library.
`__init__.pyi` has their types.
"""

import importlib

_HOMES = {
    "headway.client": ("Client", "ClientError"),
    "headway.client.async_client": ("AsyncClient",),
    "headway.sdk.job": ("Job",),
    "headway.sdk.job_type": ("Params", "job"),
    "headway.sdk.retry": ("Retry",),
    "headway.sdk.stopping": ("InvalidInput", "JobStopped", "NoSpace"),
    "headway.version": ("__version__",),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*globals(), *_HOME]

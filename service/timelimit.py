"""Giving up after a time."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import gevent
import gevent.monkey


def time_limit(seconds: float) -> AbstractContextManager[object]:
    """Leave the block after so long and go on behind it, without an error. Without greenlets there is
    no such thing: there the timeouts of what is called have to do."""
    if gevent.monkey.is_module_patched("socket"):
        return gevent.Timeout(seconds, False)  # type: ignore[arg-type]  # False: it is silent
    return nullcontext()

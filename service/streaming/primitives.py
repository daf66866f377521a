"""Waiting, by whatever means this process has: greenlets under gunicorn's gevent worker, else threads."""

from __future__ import annotations

import threading
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol, cast

import gevent
import gevent.event
import gevent.monkey


class Event(Protocol):
    """The part of threading.Event that is used here."""

    def set(self) -> None: ...

    def clear(self) -> None: ...

    def wait(self, timeout: float | None = None) -> bool: ...


def new_event() -> Event:
    """An event to wait for. Greenlets have one of their own that takes a fifth of the time of the
    patched one: it matters when 10,000 readers come at once."""
    if gevent.monkey.is_module_patched("threading"):
        return cast(Event, gevent.event.Event())
    return threading.Event()


def time_limit(seconds: float) -> AbstractContextManager[object]:
    """Leave the block after so long and go on behind it, without an error. Without greenlets there is
    no such thing: there the timeouts of what is called have to do."""
    if gevent.monkey.is_module_patched("socket"):
        return gevent.Timeout(seconds, False)  # type: ignore[arg-type]  # False: it is silent
    return nullcontext()

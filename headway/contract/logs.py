"""How a log line looks, in every process: text for people, or one JSON object per line.

A line that is about a job says which, as fields: those of its `extra`, or those of the block that it is
logged in (`about`).
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any, Literal

FIELDS = ("job", "attempt", "owner", "trace_id", "span_id")
"""The fields of a line about a job, in their order."""

_about: ContextVar[Mapping[str, Any]] = ContextVar("about", default=MappingProxyType({}))


@contextmanager
def about(**fields: Any) -> Iterator[None]:
    """Have the lines that are logged in the block, by this thread and those that take its context along,
    say what they are about: FIELDS."""
    token = _about.set({**_about.get(), **fields})
    try:
        yield
    finally:
        _about.reset(token)


def fields_of(record: logging.LogRecord) -> dict[str, Any]:
    """Return what a line is about: those of FIELDS that are known."""
    own = {name: value for name in FIELDS if (value := getattr(record, name, None)) is not None}
    around = _about.get()
    # A line about another job is not about this one's attempt.
    known = own if own.get("job", around.get("job")) != around.get("job") else {**around, **own}
    return {name: known[name] for name in FIELDS if name in known}


class TextFormatter(logging.Formatter):
    """Ends each line about a job in the same way: `[job=… attempt=2 owner=acme]`."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s %(message)s", "%Y-%m-%dT%H:%M:%SZ")
        self.converter = time.gmtime

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        line = super().formatMessage(record)
        known = " ".join(f"{name}={value}" for name, value in fields_of(record).items())
        return f"{line} [{known}]" if known else line


class JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        fields = {
            "at": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
            + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "pid": record.process,
            "message": record.getMessage(),
            **fields_of(record),
        }
        if record.exc_info:
            fields["traceback"] = self.formatException(record.exc_info)
        return json.dumps(fields, ensure_ascii=False, default=str)


def log_to_stderr(level: str, style: Literal["text", "json"]) -> None:
    """Send all logging of this process to stderr, replacing what was set up before."""
    handler = logging.StreamHandler()
    handler.setFormatter(formatter(style))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)


def formatter(style: Literal["text", "json"]) -> logging.Formatter:
    return JsonFormatter() if style == "json" else TextFormatter()

"""Redaction: what of a task's arguments and result is kept, and what is not to be seen."""

from __future__ import annotations

import datetime
import decimal
import enum
import math
import pathlib
import uuid
from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any

from headway.contract.encoding import clip, one_line
from headway.contract.records import MAX_ERROR_CHARS, MAX_RESULT_BYTES

MAX_ARGUMENT_BYTES = 1024
"""A larger argument is not kept."""
HIDDEN = "(not shown)"
_AS_TEXT = (datetime.date, datetime.time, decimal.Decimal, uuid.UUID, pathlib.PurePath)
"""What Celery's own JSON, too, writes as a text."""
_DEPTH = 20

Redact = bool | Iterable[str] | Callable[[str, str, Any], Any]


_PLAIN = (int, float, bool, type(None))


def is_plain(*several: Iterable[Any]) -> bool:
    """Whether all of these values are small and stay as they are, so that they may be copied later."""
    return all(
        type(value) in _PLAIN or (type(value) is str and len(value) <= MAX_ARGUMENT_BYTES)
        for values in several
        for value in values
    )


class TooLarge(Exception):
    """A value is larger than may be kept."""


class Redaction:
    """`redact` is True (nothing of arguments, results and errors but the error's type is kept), or patterns
    of names, or a function.

    Patterns, such as `*token*`, match names of arguments and keys within arguments and results, in any
    case; `result` matches the result itself. The function is called with the task's name, `"params"`,
    `"result"` or `"error"`, and what would be kept of it; it returns what is to be kept instead. Nothing is
    kept if it fails.
    """

    def __init__(self, redact: Redact = ()) -> None:
        self._all = redact is True
        self._function = redact if callable(redact) else None
        self._patterns: tuple[str, ...] = ()
        if not callable(redact) and not isinstance(redact, bool):
            names = [redact] if isinstance(redact, str) else list(redact)
            if not all(isinstance(name, str) for name in names):
                raise TypeError(f"redact takes True, names or a function, not {redact!r}")
            self._patterns = tuple(name.lower() for name in names)
        self._hides: dict[str, bool] = {}

    def params(self, task: str, params: Mapping[str, Any]) -> tuple[dict[str, Any], bool]:
        """Return what is kept of the arguments, by name, and whether that is less than all."""
        if self._all:
            return {}, bool(params)
        kept: dict[str, Any] = {}
        partial = False
        for name, value in params.items():
            copy = _Copy(MAX_ARGUMENT_BYTES, self.hides)
            try:
                kept[name] = HIDDEN if self.hides(name) else copy.of(value)
            except TooLarge:
                kept[name] = f"(not kept: more than {MAX_ARGUMENT_BYTES} bytes)"
                partial = True
            partial = partial or copy.lossy or self.hides(name)
        if self._function is not None:
            seen = self._ask(task, "params", kept)
            if seen != kept:
                return (seen if isinstance(seen, dict) else {}), True
        return kept, partial

    def result(self, task: str, result: Any) -> Any:
        """Return what is kept of a result."""
        if self._all or self.hides("result"):
            return None
        try:
            kept = _Copy(MAX_RESULT_BYTES // 2, self.hides).of(result)
        except TooLarge:
            kept = f"(not kept: more than {MAX_RESULT_BYTES // 2} bytes)"
        return kept if self._function is None else self._ask(task, "result", kept)

    def error(self, task: str, error: BaseException) -> str:
        """Return what is kept of an error, on one line."""
        name = type(error).__name__
        if self._all:
            return name
        message = clip(one_line(error), MAX_ERROR_CHARS)
        if self._function is None:
            return message
        seen = self._ask(task, "error", message)
        return seen if isinstance(seen, str) else name

    def hides(self, name: str) -> bool:
        """Whether a pattern matches the name."""
        if not self._patterns:
            return False
        found = self._hides.get(name)
        if found is None:
            lower = name.lower()
            found = any(fnmatchcase(lower, pattern) for pattern in self._patterns)
            if len(self._hides) < 10_000:
                self._hides[name] = found
        return found

    def _ask(self, task: str, what: str, value: Any) -> Any:
        assert self._function is not None  # noqa: S101
        try:
            return _Copy(MAX_RESULT_BYTES // 2, lambda _: False).of(self._function(task, what, value))
        except Exception:  # noqa: BLE001 - it is the project's
            return None


class _Copy:
    """Copies a value as JSON has it, up to a size: a walk that stops there, however large the value is."""

    def __init__(self, limit: int, hides: Callable[[str], bool]) -> None:
        self._left = limit
        self._hides = hides
        self.lossy = False
        """Whether the copy lacks something of the value."""

    def of(self, value: Any, depth: int = 0) -> Any:
        kind = type(value)
        if value is None or kind is bool:
            self._take(4)
            return value
        if kind is str:
            self._take(len(value) + 2)
            if value.isascii():
                return value
            encoded = value.encode("utf-8", "replace")
            self._take(len(encoded) - len(value))
            return encoded.decode()
        if kind is int:
            self._take(1 + value.bit_length() // 3)
            return value
        if kind is float:
            self._take(8)
            if math.isfinite(value):
                return value
            self.lossy = True
            return str(value)
        return self._of_other(value, depth)

    def _of_other(self, value: Any, depth: int) -> Any:
        self._take(2)
        if depth >= _DEPTH:
            raise TooLarge
        if isinstance(value, Mapping):
            copy = {}
            for key, item in value.items():
                name = key if isinstance(key, str) else str(key)
                self._take(len(name) + 4)
                if self._hides(name):
                    self.lossy = True
                    copy[name] = HIDDEN
                else:
                    copy[name.encode("utf-8", "replace").decode()] = self.of(item, depth + 1)
            return copy
        if isinstance(value, list | tuple | set | frozenset):
            return [self.of(item, depth + 1) for item in value]
        if isinstance(value, enum.Enum):
            return self.of(value.value, depth + 1)
        if isinstance(value, _AS_TEXT):
            return self.of(str(value), depth + 1)
        if isinstance(value, str | int | float):
            kind = next(kind for kind in (str, int, float) if isinstance(value, kind))
            return self.of(kind(value), depth + 1)
        self.lossy = True
        size = f" of {len(value)}" if isinstance(value, bytes | bytearray) else ""
        return self.of(f"({type(value).__qualname__}{size}, not kept)", depth + 1)

    def _take(self, size: int) -> None:
        self._left -= size
        if self._left < 0:
            raise TooLarge

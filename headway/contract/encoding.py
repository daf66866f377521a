"""How values become text: JSON, times, clipped strings."""

from __future__ import annotations

import json
import unicodedata
from datetime import UTC, datetime
from typing import Any

MAX_DEPTH = 100
"""Most levels of objects and lists in a value that has a limit. Whoever reads a record must be able to:
pydantic's parser stops at 200 levels, of which the record takes some."""
_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


class RecordError(ValueError):
    """Something cannot be stored as a record."""


class RecordTooLarge(RecordError):
    """A value is larger than its limit above."""


def dumps(value: Any, limit: int | None = None, what: str = "value") -> str:
    """Return compact JSON on one line. Raises RecordError for a value that JSON does not have, such as
    NaN. With a `limit`, raises RecordTooLarge if it has more bytes, and RecordError if it has more than
    MAX_DEPTH levels."""
    try:
        text = _encode(value)
        size = len(text.encode())
    except (TypeError, ValueError, RecursionError) as error:
        raise RecordError(f"{what} cannot be written as JSON: {error}") from None
    if limit is not None and size > limit:
        raise RecordTooLarge(f"{what} takes {size} bytes, more than {limit}")
    # Counting is cheap, and most values have fewer brackets than they may have levels.
    if limit is not None and text.count("[") + text.count("{") > MAX_DEPTH and _is_deep(value):
        raise RecordError(f"{what} is nested more than {MAX_DEPTH} levels deep")
    return text


def _is_deep(value: Any) -> bool:
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [
            part
            for whole in level
            if isinstance(whole, dict | list | tuple)
            for part in (whole.values() if isinstance(whole, dict) else whole)
        ]
    return any(isinstance(part, dict | list | tuple) for part in level)


def rfc3339(ms: float) -> str:
    """Format milliseconds since 1970 as all our times are: in UTC, with milliseconds."""
    at = datetime.fromtimestamp(ms / 1000, UTC)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def clip(text: str, limit: int) -> str:
    """Return at most `limit` characters of a text, with an ellipsis if it was cut. Lone surrogates are
    replaced, so that it can be encoded."""
    text = text.encode("utf-8", "replace").decode()
    return text if len(text) <= limit else text[: limit - 1] + "…"


def one_line(error: BaseException) -> str:
    """Return an error's class and message on one line; the class alone if it has no message, or its `str`
    fails."""
    name = type(error).__name__
    try:
        text = " ".join(str(error).split())
    except Exception:  # noqa: BLE001  anybody's exception may do anything
        text = ""
    return f"{name}: {text}" if text else name


_REPLACED = frozenset({"Cc", "Cs", "Zl", "Zp"})
_BIDI_CONTROLS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def displayable(name: str) -> str:
    """Return a file's name as it can be shown: control characters, line separators, lone surrogates, and
    embeddings, overrides and isolates of the writing direction are replaced by U+FFFD, so that no name
    looks like another. Everything else stays, blanks and joiners included."""
    return "".join(
        "\ufffd" if c in _BIDI_CONTROLS or unicodedata.category(c) in _REPLACED else c for c in name
    )


def pointer(*path: object) -> str:
    """A JSON pointer (RFC 6901)."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in path)

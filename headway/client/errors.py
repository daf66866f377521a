"""What can go wrong, each in one line."""

from __future__ import annotations

import json
from typing import Any

LONGEST = 400


class ClientError(Exception):
    """Something did not work. The message is one line; parts of it may come from the service."""

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))


class Unreachable(ClientError):
    """There was no answer, or it broke off. `sent` says whether the request may have arrived."""

    def __init__(self, message: str, *, sent: bool) -> None:
        super().__init__(message)
        self.sent = sent


class BadAnswer(ClientError):
    """There was an answer, but not one that a Headway gives."""


class WaitTimeout(ClientError, TimeoutError):
    """What was waited for did not happen in time."""


class DownloadFailed(ClientError):
    """A file did not come whole, or must not be written where it wants to be."""


class Problem(ClientError):
    """The service said no (RFC 9457)."""

    def __init__(
        self, status: int, detail: str, document: dict[str, Any], retry_after_s: float | None
    ) -> None:
        super().__init__(f"{status} {detail}".rstrip())
        self.status = status
        self.detail = " ".join(detail.split())
        self.document = document
        """The whole of it; empty if what answered was something in between."""
        self.retry_after_s = retry_after_s
        """How long it asks to be left alone."""

    @property
    def errors(self) -> list[tuple[str, str]]:
        """JSON pointer into the request, and what is wrong there."""
        found = self.document.get("errors")
        if not isinstance(found, list):
            return []
        return [(str(e.get("pointer", "")), str(e.get("detail", ""))) for e in found if isinstance(e, dict)]


class NotFound(Problem):
    """There is no such job, artifact or route (any more)."""


class Conflict(Problem):
    """Not in the state that the job is in."""


class Invalid(Problem):
    """The request itself is wrong: `errors` says where."""


class Unavailable(Problem):
    """Not now: overloaded, restarting, cut off from its store. Later it may work."""


def problem(status: int, body: bytes, retry_after: str | None, location: str | None = None) -> Problem:
    """Return the error for an answer that is no success."""
    try:
        document = json.loads(body)
    except ValueError:
        document = None
    if not isinstance(document, dict):
        document = {}
    detail = str(document.get("detail") or document.get("title") or "")
    if not detail and 300 <= status < 400:
        detail = f"it is elsewhere: {location}"
    elif not detail:
        detail = body[:LONGEST].decode("utf-8", "replace")
    kind = _KINDS.get(status, Unavailable if status >= 500 else Problem)
    return kind(status, detail[:LONGEST], document, _seconds(retry_after))


_KINDS: dict[int, type[Problem]] = {
    400: Invalid,
    404: NotFound,
    408: Unavailable,
    409: Conflict,
    413: Invalid,
    422: Invalid,
    429: Unavailable,
}


def _seconds(retry_after: str | None) -> float | None:
    """Return the seconds of a Retry-After; None for a date, which the service does not send."""
    text = (retry_after or "").strip()
    return float(text) if text.isascii() and text.isdigit() and len(text) < 10 else None

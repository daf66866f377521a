"""The Idempotency-Key of a request: the same key and the same request are done once."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Annotated

from pydantic import Field

from headway import tracing
from service.api.operation import Headers


class Idempotency(Headers):
    key: Annotated[
        str | None,
        Field(
            alias="Idempotency-Key",
            min_length=1,
            max_length=255,
            description="the same key and the same request are done once, and answered alike",
        ),
    ] = None

    def once(self, meaning: Callable[[], str], scope: str = "") -> tuple[str, str] | None:
        """The key, within a scope, and a hash of what the request asks for; None without a key.

        `meaning` returns what it means and not its bytes: a client may order or space its JSON anew.
        """
        return None if self.key is None else (hashed(scope + self.key), hashed(meaning()))


class Submitting(Idempotency):
    """The headers of what makes jobs. A context that is not valid is as good as none, as W3C has it."""

    traceparent: Annotated[
        str | None,
        Field(description="the span that submits this (W3C Trace Context): the jobs are in its trace"),
    ] = None
    tracestate: Annotated[str | None, Field(description="goes with traceparent")] = None

    @property
    def trace(self) -> str:
        return tracing.carried(self.traceparent, self.tracestate)


def hashed(text: str) -> str:
    return hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=20).hexdigest()

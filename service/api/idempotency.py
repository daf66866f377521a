"""The Idempotency-Key of a request: the same key and the same request are done once."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Annotated

from pydantic import Field

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


def hashed(text: str) -> str:
    return hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=20).hexdigest()

"""When a request is repeated, and after what pause."""

from __future__ import annotations

import random
import time
from collections.abc import Awaitable, Callable
from typing import Any

from headway.client.errors import Unavailable, Unreachable

PATIENCE_S = 20.0
"""How long a request is repeated whose answer was lost."""
BASE_S = 1.0
LIMIT_S = 30.0

# Programs that seed the other one alike would come back together.
_random = random.SystemRandom()


class Backoff:
    """The pause after the first failure in a row, the second, …: random below a limit that doubles ("full
    jitter"), so that clients which lost the same server do not come back together."""

    def __init__(self) -> None:
        self.failures = 0

    def next_s(self) -> float:
        limit = min(LIMIT_S, BASE_S * 2.0 ** min(self.failures, 16))
        self.failures += 1
        return _random.uniform(0, limit)

    def reset(self) -> None:
        self.failures = 0


async def repeated(
    once: Callable[[], Awaitable[Any]],
    sleep: Callable[[float], Awaitable[None]],
    *,
    so_far: Callable[[], int] = lambda: 0,
) -> Any:
    """Call until the answer is not lost, for PATIENCE_S at most. What is asked must be idempotent.

    Patience begins anew when `so_far`, how much has been got, has changed before a failure. Raises
    Unreachable at once if the server was never reached, as nothing was begun; the last error when the time
    is over.
    """
    backoff = Backoff()
    until, got = time.monotonic() + PATIENCE_S, so_far()
    while True:
        try:
            return await once()
        except (Unreachable, Unavailable) as error:
            if so_far() != got:
                until, got = time.monotonic() + PATIENCE_S, so_far()
                backoff.reset()
            if isinstance(error, Unreachable) and not error.sent and backoff.failures == 0:
                raise
            asked_s = error.retry_after_s if isinstance(error, Unavailable) else None
            delay = (asked_s or 0.0) + backoff.next_s()
            if time.monotonic() + delay > until:
                raise
        await sleep(delay)

"""When a request is repeated, and after what pause."""

from __future__ import annotations

import random
import time
from collections.abc import Awaitable, Callable
from typing import Any

from headway.client.errors import Unavailable, Unreachable

PATIENCE_S = 20.0
"""How long a request is repeated whose answer was lost."""
TRANSFER_PATIENCE_S = 300.0
"""The same of a transfer that gains nothing: a tunnel, or a service that is being restarted. As in
web/client/upload.js."""
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
    gained: Callable[[], int] | None = None,
) -> Any:
    """Call until the answer is not lost, for PATIENCE_S at most. What is asked must be idempotent.

    A transfer, which takes as long as it takes, says by `gained` how far it is: it is tried until
    TRANSFER_PATIENCE_S after the first failure since the last gain. Raises Unreachable at once if the
    server was never reached, as nothing was begun; the last error when the time is over.
    """
    backoff, most = Backoff(), 0
    until = None if gained else time.monotonic() + PATIENCE_S
    while True:
        try:
            return await once()
        except (Unreachable, Unavailable) as error:
            if gained and (now := gained()) > most:
                most, until = now, None
                backoff.reset()
            if isinstance(error, Unreachable) and not (error.sent or most or backoff.failures):
                raise
            if until is None:
                until = time.monotonic() + TRANSFER_PATIENCE_S
            delay = (getattr(error, "retry_after_s", None) or 0.0) + backoff.next_s()
            if time.monotonic() + delay > until:
                raise
        await sleep(delay)

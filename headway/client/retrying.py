"""When a request is repeated, and after what pause."""

from __future__ import annotations

import random
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

from headway.client.errors import ClientError, Unavailable, Unreachable

PATIENCE_S = 20.0
"""How long a request is repeated whose answer was lost."""
TRANSFER_PATIENCE_S = 300.0
"""How long a transfer that gets no further is tried: the client is in a tunnel, or the service is being
restarted. The same as in web/client/upload.js."""
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


class Patience:
    """For how long, and after which pauses, something is tried again: a request for PATIENCE_S from now; a
    transfer, which takes as long as it takes, for TRANSFER_PATIENCE_S from the first failure since it last
    got on."""

    def __init__(self, sleep: Callable[[float], Awaitable[None]], *, transfer: bool = False) -> None:
        self._sleep = sleep
        self._backoff = Backoff()
        self._most = 0
        self._until = None if transfer else time.monotonic() + PATIENCE_S

    def gained(self, done: int) -> None:
        """Begin anew if the transfer is further than it ever was."""
        if done > self._most:
            self._most, self._until = done, None
            self._backoff.reset()

    @contextmanager
    def sending(self) -> Iterator[None]:
        """Leave out the time that the block takes: how much has arrived is known only afterwards."""
        began = time.monotonic()
        try:
            yield
        finally:
            if self._until is not None:
                self._until += time.monotonic() - began

    async def pause(self, error: ClientError) -> None:
        """Wait until the next try. Raises the error if that would be too late."""
        if self._until is None:
            self._until = time.monotonic() + TRANSFER_PATIENCE_S
        delay = (getattr(error, "retry_after_s", None) or 0.0) + self._backoff.next_s()
        if time.monotonic() + delay > self._until:
            raise error
        await self._sleep(delay)


async def repeated(
    once: Callable[[], Awaitable[Any]],
    sleep: Callable[[float], Awaitable[None]],
    gained: Callable[[], int] | None = None,
) -> Any:
    """Call until the answer is not lost, as long as Patience says. What is asked must be idempotent. A
    transfer says by `gained` how far it is.

    Raises Unreachable at once if the server was never reached, as nothing was begun; the last error when
    the time is over.
    """
    patience, reached = Patience(sleep, transfer=gained is not None), False
    while True:
        try:
            return await once()
        except (Unreachable, Unavailable) as error:
            done = gained() if gained else 0
            reached = reached or done > 0 or not isinstance(error, Unreachable) or error.sent
            if not reached:
                raise
            patience.gained(done)
            await patience.pause(error)

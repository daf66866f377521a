"""Turns: who sends much, on however many connections, keeps nobody else waiting for long.

gevent serves every socket that has something to read before it looks which others have, so a request
would wait for all that came before it: for seconds, if these are a thousand or have large bodies.
"""

from __future__ import annotations

import time
from collections import deque
from typing import Any

from gevent.hub import Waiter, get_hub

TURN_S = 0.005
"""For how long requests are served before the loop looks at all sockets again."""


class Turns:
    """Whose turn is next, in the order in which they asked. What has just come has half of the time for
    itself: it takes little, and it may be a probe, which is answered at once."""

    def __init__(self) -> None:
        self._new: deque[Waiter[None]] = deque()
        self._others: deque[Waiter[None]] = deque()
        self._timer: Any = None
        self._look = -1
        self._ends = 0.0

    def take(self, *, first: bool = False) -> None:
        """Wait until it is the turn of the greenlet that calls. `first`: the first bytes of a request have
        come."""
        if not self._new and not self._others and self._left() > 0:
            return
        waiter: Waiter[None] = Waiter()
        (self._new if first else self._others).append(waiter)
        self._come_back()
        waiter.get()

    def _left(self) -> float:
        """The rest of the time until the loop looks at its sockets. Its counter says whether it has."""
        now = time.monotonic()
        look: int = get_hub().loop.iteration
        if look != self._look:
            self._look, self._ends = look, now + TURN_S
        return self._ends - now

    def _give(self) -> None:
        """Serve those who wait: of each kind at least one."""
        for waiting, reserved in ((self._new, TURN_S / 2), (self._others, 0)):
            while waiting:
                waiting.popleft().switch(None)
                if self._left() <= reserved:
                    break
        if self._new or self._others:
            self._come_back()

    def _come_back(self) -> None:
        # Not sooner: there is no loop before the process is forked. A callback that is no timer would be
        # called before the loop looks at its sockets.
        if self._timer is None:
            self._timer = get_hub().loop.timer(0)
        if not self._timer.active:
            self._timer.start(self._give)


turns = Turns()
"""Of this process."""

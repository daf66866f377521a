"""select.poll for a process with gevent, which only looks when it is told not to wait.

redis-py asks so before each command whether its connection was closed. gevent's own would make a watcher
for that and wait for a turn of the loop.
"""

from __future__ import annotations

import select
from typing import Any

from gevent.monkey import get_original
from gevent.select import poll


class Poll(poll):
    def __init__(self) -> None:
        super().__init__()
        self._at_once = get_original("select", "poll")()

    def register(self, fd: Any, *eventmask: int) -> None:
        super().register(fd, *eventmask)
        self._at_once.register(fd, *eventmask)

    def unregister(self, fd: Any) -> None:
        super().unregister(fd)
        self._at_once.unregister(fd)

    def poll(self, timeout: float | None = None) -> list[tuple[int, int]]:
        found: list[tuple[int, int]] = self._at_once.poll(0) if timeout == 0 else super().poll(timeout)
        return found


def install() -> None:
    """Make it the process's `select.poll`, once gevent has patched that."""
    select.poll = Poll  # type: ignore[assignment, misc]

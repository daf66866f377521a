"""Waiting for what is to come."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any


def until(
    condition: Callable[[], Any], seconds: float = 60, what: str | Callable[[], str] = "the condition"
) -> Any:
    """Ask until the answer is true, and return it; fail after `seconds`, naming `what` was waited for."""
    deadline = time.monotonic() + seconds
    while not (answer := condition()):
        if time.monotonic() > deadline:
            said = what if isinstance(what, str) else what()
            raise AssertionError(f"waited {seconds} s in vain for {said}")
        time.sleep(0.02)
    return answer

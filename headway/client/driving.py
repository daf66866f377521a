"""Runs coroutines that never suspend, as those of the client over a transport that blocks.

So what the client does is written once: the synchronous classes run it to its end, the asynchronous ones
leave that to an event loop.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Generator
from typing import TypeVar

T = TypeVar("T")


def run(work: Awaitable[T]) -> T:
    """Return the result of the work. Raises what it raises; RuntimeError if it suspends."""
    try:
        next(work.__await__())
    except StopIteration as done:
        result: T = done.value
        return result
    raise RuntimeError(f"{work!r} waits for an event loop")


def each(items: AsyncGenerator[T, None]) -> Generator[T, None, None]:
    """Yield the items. Closing this closes their generator."""
    try:
        while True:
            try:
                item = run(anext(items))
            except StopAsyncIteration:
                return
            yield item
    finally:
        run(items.aclose())

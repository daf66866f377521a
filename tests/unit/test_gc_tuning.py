"""When everything is collected, what was frozen too."""

from __future__ import annotations

import gc
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from service.process import gc_tuning


class Node:
    """Something that can be part of a cycle."""

    other: Node


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    threshold = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*threshold)


def test_what_was_frozen_and_became_a_cycle_later_is_freed_within_the_hour(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 1000.0
    loops: list[tuple[Callable[[], Any], float]] = []
    monkeypatch.setattr(time, "monotonic", lambda: now)
    monkeypatch.setattr(gc_tuning, "forever", lambda _, step, *, pause_s: loops.append((step, pause_s)))
    node = Node()
    gc_tuning.start()
    ((collect, pause_s),) = loops
    gone = weakref.ref(node)
    node.other = node
    del node
    while now + pause_s < 1000 + gc_tuning.THAW_S:
        now += pause_s
        collect()
    assert gone() is not None, "it is frozen"
    young = weakref.ref(cycle())
    now += pause_s
    collect()
    assert gone() is None
    assert young() is None
    assert gc.get_freeze_count() > 0, "survivors are frozen again"
    frozen = Node()
    gc.freeze()
    again = weakref.ref(frozen)
    frozen.other = frozen
    del frozen
    now += pause_s
    collect()
    assert again() is not None, "the next hour has begun"


def cycle() -> Node:
    node = Node()
    node.other = node
    return node

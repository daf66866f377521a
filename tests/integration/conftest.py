"""Fixtures of the worker's tests."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.worker_stack import WorkerStack


@pytest.fixture(scope="session")
def worker_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkerStack]:
    """One worker for all tests that leave it alive."""
    # Nobody here loses a lease, also not on a machine that is busy with other things.
    with WorkerStack(tmp_path_factory.mktemp("stack"), LEASE_S="12") as stack:
        yield stack


@pytest.fixture
def new_worker_stack(tmp_path: Path) -> Iterator[Callable[..., WorkerStack]]:
    """A worker of the test's own, that it may kill."""
    with ExitStack() as stacks:
        numbers = itertools.count()
        yield lambda **environ: stacks.enter_context(WorkerStack(tmp_path / str(next(numbers)), **environ))

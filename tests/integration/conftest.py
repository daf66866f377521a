"""Fixtures of the worker's tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.worker_stack import WorkerStack


@pytest.fixture(scope="session")
def worker_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkerStack]:
    """One worker for all tests that leave it alive."""
    # Nobody here loses a lease, also not on a machine that is busy with other things.
    stack = WorkerStack(tmp_path_factory.mktemp("stack"), LEASE_S="12")
    yield stack
    stack.close()


@pytest.fixture
def new_worker_stack(tmp_path: Path) -> Iterator[Callable[..., WorkerStack]]:
    """A worker of the test's own, that it may kill."""
    stacks: list[WorkerStack] = []

    def start(**env: str) -> WorkerStack:
        stacks.append(WorkerStack(tmp_path / str(len(stacks)), **env))
        return stacks[-1]

    yield start
    for stack in stacks:
        stack.close()

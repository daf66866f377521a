"""Fixtures of the worker's and the brokers' tests."""

from __future__ import annotations

import itertools
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from headway.contract.new_job import NewJob
from headway.contract.records import Job as JobRecord
from headway.sdk.job_type import JobType, Params
from headway.sdk.retry import DEFAULT, Retry
from headway.sdk.runtime import Runtime
from headway.sdk.sandbox import Policy
from tests.support.rabbitmq import RabbitMQ
from tests.support.worker_stack import Do, Task, WorkerStack


@pytest.fixture(scope="session")
def worker_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkerStack]:
    """One worker for all tests that leave it alive."""
    # Nobody here loses a lease, also not on a machine that is busy with other things.
    with WorkerStack(tmp_path_factory.mktemp("stack"), LEASE_S="12") as stack:
        yield stack


@pytest.fixture(scope="session")
def rabbitmq(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitMQ]:
    """One for all tests, as it takes seconds to start: who kills it starts it again, and nobody's queues
    have a name of another's."""
    with RabbitMQ(tmp_path_factory.mktemp("rabbitmq")) as server:
        yield server


@pytest.fixture
def new_worker_stack(tmp_path: Path) -> Iterator[Callable[..., WorkerStack]]:
    """A worker of the test's own, that it may kill."""
    with ExitStack() as stacks:
        numbers = itertools.count()
        yield lambda **environ: stacks.enter_context(WorkerStack(tmp_path / str(next(numbers)), **environ))


@pytest.fixture
def do(worker_stack: WorkerStack, tmp_path: Path) -> Iterator[Do]:
    """Runs a function as the task of a job, and returns the job afterwards."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR2)}
    store = worker_stack.store
    runtime = Runtime(store, worker="test", data_dir=tmp_path, lease_s=2)

    def do(
        task: Task, max_attempts: int = 1, retry: Retry = DEFAULT, output_bytes: int | None = None
    ) -> JobRecord:
        runtime.sandbox = Policy(output_bytes=output_bytes)
        job_id, *_ = store.create(
            NewJob(owner="owner", type="test", params={}, queue="none", max_attempts=max_attempts)
        )
        runtime.run(JobType("test", "Test", "none", Params, None, task, retry), job_id)
        return worker_stack.job(job_id)

    yield do
    for number, handler in before.items():
        signal.signal(number, handler)

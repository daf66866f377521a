"""Web and worker through what happens to Redis and to the processes: both stay, and every job ends well."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis

from headway.contract.events import ZERO
from service.process import valkey
from tests.support.faulty_proxy import FaultyProxy
from tests.support.stack import Stack, free_port
from tests.support.wait import until

pytestmark = pytest.mark.long

OUTAGE_S = 1.5
RESOLVER = """
import _socket, os

resolve = _socket.getaddrinfo

def getaddrinfo(host, *args, **kwargs):
    if host in ("store.test", b"store.test"):
        if not os.path.exists(os.environ["NAME_RESOLVES"]):
            raise _socket.gaierror(_socket.EAI_AGAIN, "Temporary failure in name resolution")
        host = "127.0.0.1"
    return resolve(host, *args, **kwargs)

_socket.getaddrinfo = getaddrinfo
"""


class OutageStack(Stack):
    """A web process and a worker that reach the store through `network`."""

    def __init__(self, directory: Path, *, host: str = "127.0.0.1", **environ: str) -> None:
        super().__init__(directory, fsync="always", LEASE_S="20", **environ)
        self.network = FaultyProxy(self.valkey_port)
        self.environ["REDIS_URL"] = f"redis://{host}:{self.network.port}/0"

    def start_all(self) -> None:
        self.start_web()
        self.start_worker()

    def close(self) -> None:
        super().close()
        self.network.close()

    def submitted(self, seconds: float = 60, **params: Any) -> str:
        """The id of a job, as soon as the service accepts it."""
        accepted = b""

        def accept() -> bool:
            nonlocal accepted
            status, _, accepted = self.call("POST", "/jobs", {"type": "simulate", "params": params})
            assert status in (202, 503), accepted
            return status == 202

        until(accept, seconds, "a submission to be accepted")
        return str(json.loads(accepted)["id"])

    def running(self, job_id: str) -> str:
        until(lambda: self.get(f"/jobs/{job_id}")[1]["state"] == "running", what="the job to run")
        return job_id

    def succeeded(self, job_id: str) -> int:
        """The attempts of a job that has ended once and well."""
        self.wait_ended(job_id)
        page = self.store.read(job_id, ZERO, 10_000)
        assert page is not None
        job = json.loads(page.document)
        assert job["state"] == "succeeded", job
        assert [event.type for event in page.events].count("end") == 1
        return int(job["attempt"])

    @contextmanager
    def survived(self) -> Iterator[None]:
        """What happens inside ends no process and disturbs no job, running or to come."""
        before = self.living()
        job_id = self.running(self.submitted(duration_s=3, rate=20))
        yield
        next_one = self.submitted(15, duration_s=0)
        assert self.succeeded(job_id) == 1
        assert self.succeeded(next_one) == 1
        assert self.living() == before
        assert all(before.values())


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OutageStack]:
    with OutageStack(tmp_path_factory.mktemp("outages")) as stack:
        stack.start_all()
        yield stack


@pytest.fixture
def new_stack(tmp_path: Path) -> Iterator[Callable[..., OutageStack]]:
    with ExitStack() as stacks:
        yield lambda **options: stacks.enter_context(OutageStack(tmp_path, **options))


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[valkey.Valkey]:
    """A server for the queues alone."""
    server = valkey.start(tmp_path / "broker", port=free_port(), fsync="always")
    yield server
    server.stop()


# -- the store answers with errors -----------------------------------------------------------------


@pytest.mark.parametrize(
    "error",
    [
        "LOADING Valkey is loading the dataset in memory",
        "CLUSTERDOWN The cluster is down",
        "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
        "READONLY You can't write against a read only replica.",
        "MISCONF Errors writing to the AOF file: No space left on device",
        "OOM command not allowed when used memory > 'maxmemory'.",
    ],
    ids=lambda error: error.split()[0],
)
def test_a_store_that_answers_with_an_error_ends_nothing(stack: OutageStack, error: str) -> None:
    with stack.survived():
        stack.network.answer_redis(error)
        try:
            time.sleep(OUTAGE_S)
            status, headers, _ = stack.call("POST", "/jobs", {"type": "simulate", "params": {}})
            assert status == 503
            assert int(headers["retry-after"]) > 0
        finally:
            stack.network.answer_redis(None)


def test_a_store_without_memory_refuses_jobs_and_ends_none(stack: OutageStack) -> None:
    admin = redis.Redis.from_url(stack.valkey.url)
    with stack.survived():
        admin.config_set("maxmemory", "1")
        try:
            time.sleep(OUTAGE_S)
            assert stack.call("POST", "/jobs", {"type": "simulate", "params": {}})[0] == 503
        finally:
            admin.config_set("maxmemory", "0")
            admin.close()


# -- the store cannot be reached -------------------------------------------------------------------


def test_a_name_that_stops_resolving_ends_nothing(
    new_stack: Callable[..., OutageStack], tmp_path: Path
) -> None:
    (tmp_path / "python").mkdir()
    (tmp_path / "python" / "sitecustomize.py").write_text(RESOLVER)
    resolves = tmp_path / "resolves"
    resolves.touch()
    stack = new_stack(host="store.test", NAME_RESOLVES=str(resolves))
    stack.environ["PYTHONPATH"] += f"{os.pathsep}{tmp_path / 'python'}"
    stack.start_all()
    with stack.survived():
        resolves.unlink()
        stack.network.cut()
        time.sleep(OUTAGE_S)
        assert stack.get("/readyz")[0] == 503
        resolves.touch()


def test_a_store_that_is_gone_while_the_broker_lives_ends_nothing(
    new_stack: Callable[..., OutageStack], broker: valkey.Valkey
) -> None:
    stack = new_stack(CELERY_BROKER_URL=broker.url)
    stack.start_all()
    with stack.survived():
        stack.kill_valkey()
        time.sleep(OUTAGE_S)
        assert stack.call("POST", "/jobs", {"type": "simulate", "params": {}})[0] == 503
        stack.start_valkey()


def test_a_broker_that_is_gone_while_the_store_lives_delays_jobs_and_loses_none(
    new_stack: Callable[..., OutageStack], broker: valkey.Valkey
) -> None:
    stack = new_stack(CELERY_BROKER_URL=f"redis://127.0.0.1:{broker.port}/0")
    stack.start_all()
    with stack.survived():
        broker.process.kill()
        broker.process.wait()
        began = time.monotonic()
        waiting = [stack.submitted(5, duration_s=0) for _ in range(5)]
        assert time.monotonic() - began < 5, "a submission does not wait for the broker"
        time.sleep(OUTAGE_S)
        again = valkey.start(broker.socket.parent, port=broker.port, fsync="always")
        assert {stack.succeeded(job_id) for job_id in waiting} == {1}
    again.stop()


def test_connections_to_the_broker_that_die_silently_disturb_no_job(
    new_stack: Callable[..., OutageStack], broker: valkey.Valkey
) -> None:
    with FaultyProxy(broker.port or 0) as network:
        stack = new_stack(CELERY_BROKER_URL=f"redis://127.0.0.1:{network.port}/0")
        stack.start_all()
        before = stack.living()
        running = stack.running(stack.submitted(duration_s=60, rate=1))
        network.freeze()
        assert stack.succeeded(stack.submitted(duration_s=0)) == 1
        assert stack.living() == before
        job = stack.get(f"/jobs/{running}")[1]
        assert (job["state"], job["attempt"]) == ("running", 1)
        stack.call("POST", f"/jobs/{running}/cancel")


# -- kill -9, with jobs in the queue ---------------------------------------------------------------


def test_what_is_queued_survives_the_death_of_the_broker(
    new_stack: Callable[..., OutageStack], broker: valkey.Valkey
) -> None:
    stack = new_stack(CELERY_BROKER_URL=broker.url)
    stack.start_all()
    jobs = [stack.submitted(duration_s=0.5) for _ in range(12)]
    broker.process.kill()
    broker.process.wait()
    again = valkey.start(broker.socket.parent, port=broker.port, fsync="always")
    assert [stack.succeeded(job_id) for job_id in jobs] == [1] * 12
    again.stop()


def test_what_is_queued_survives_the_death_of_the_web_process(
    new_stack: Callable[..., OutageStack],
) -> None:
    stack = new_stack()
    stack.start_all()
    jobs = [stack.submitted(duration_s=0.5) for _ in range(12)]
    stack.restart_web(signal.SIGKILL)
    assert [stack.succeeded(job_id) for job_id in jobs] == [1] * 12


def test_what_is_queued_survives_the_death_of_the_workers_parent(
    new_stack: Callable[..., OutageStack],
) -> None:
    stack = new_stack()
    stack.environ["LEASE_S"] = "2"
    stack.start_all()
    jobs = [stack.submitted(duration_s=0.5) for _ in range(12)]
    worker = stack.processes.pop("worker")
    worker.kill()
    worker.wait()
    stack.start_worker()
    attempts = [stack.succeeded(job_id) for job_id in jobs]
    assert sum(attempts) <= 12 + 2, "only what it was at is done again"


# -- a failover behind an address ------------------------------------------------------------------


def test_after_a_failover_behind_an_address_submissions_are_accepted_within_5_s(
    new_stack: Callable[..., OutageStack], tmp_path: Path
) -> None:
    stack = new_stack()
    other = valkey.start(tmp_path / "other", port=free_port(), fsync="always")
    old, new = (redis.Redis.from_url(server.url, decode_responses=True) for server in (stack.valkey, other))
    try:
        new.replicaof("127.0.0.1", stack.valkey_port)
        stack.start_all()
        until(lambda: new.info("replication")["master_link_status"] == "up", what="the replica to follow")
        with stack.survived():
            new.replicaof("NO", "ONE")
            old.replicaof("127.0.0.1", other.port)
            # The present connections stay, at the old primary, which answers READONLY.
            stack.network.move(other.port)
            first = stack.submitted(5, duration_s=0)
            # Its connections, which only read, would stay at the old primary, which is a replica now.
            stack.store = stack.new_store()
            assert stack.succeeded(first) == 1
    finally:
        for client in (old, new):
            client.close()
        other.stop()

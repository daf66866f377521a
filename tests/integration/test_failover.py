"""Another server becomes the primary behind one address: nobody stays at the old one."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from headway.contract.connections import NotPrimary, connect
from service.process import valkey
from tests.support.faulty_proxy import FaultyProxy
from tests.support.sse import Reader
from tests.support.stack import Stack, free_port
from tests.support.wait import until

pytestmark = pytest.mark.long

LATE_S = 4.0
"""How long the address still leads to the old primary."""


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    port = free_port()
    server = valkey.start(tmp_path_factory.mktemp("valkey"), port=port)
    yield port
    server.stop()


@pytest.fixture
def proxy(port: int) -> Iterator[FaultyProxy]:
    with FaultyProxy(port) as proxy:
        yield proxy


@pytest.fixture
def client(proxy: FaultyProxy) -> Iterator[redis.Redis]:
    client = connect(f"redis://127.0.0.1:{proxy.port}/0", timeout_s=0.5)
    yield client
    client.close()


# -- one connection --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error",
    [
        "LOADING Valkey is loading the dataset in memory",
        "CLUSTERDOWN The cluster is down",
        "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
        "READONLY You can't write against a read only replica.",
        "UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)",
    ],
    ids=lambda error: error.split()[0],
)
def test_a_server_that_cannot_serve_is_a_lost_connection(
    proxy: FaultyProxy, client: redis.Redis, error: str
) -> None:
    client.ping()
    opened = len(proxy.opened)
    proxy.answer_redis(error)
    with pytest.raises(redis.ConnectionError, match=re.escape(error.split()[-1])):
        client.get("x")
    proxy.answer_redis(None)
    client.get("x")
    assert len(proxy.opened) > opened, "it is asked anew where the address leads"


def test_what_one_caller_finds_lost_no_other_waits_for(proxy: FaultyProxy, client: redis.Redis) -> None:
    pool = client.connection_pool
    used = [pool.get_connection() for _ in range(5)]
    for connection in used:
        pool.release(connection)
    proxy.freeze()
    with pytest.raises(redis.TimeoutError):
        client.get("x")
    for connection in [pool.get_connection() for _ in used]:
        connection.send_command("PING")
        assert connection.read_response() == b"PONG", "a connection to the silent server has no answer"
        pool.release(connection)


# -- the whole service -----------------------------------------------------------------------------


class Pair:
    """A primary and its replica, behind one address that may move late."""

    def __init__(self, directory: Path) -> None:
        self.stack = Stack(directory, fsync="always", LEASE_S="20", HEARTBEAT_S="1", CREATE_REPLICAS="1")
        self.network = FaultyProxy(self.stack.valkey_port)
        self.stack.environ["REDIS_URL"] = f"redis://127.0.0.1:{self.network.port}/0"
        self.other = valkey.start(directory / "other", port=free_port(), fsync="always")
        self.old, self.new = (
            redis.Redis.from_url(server.url, decode_responses=True)
            for server in (self.stack.valkey, self.other)
        )
        self.new.replicaof("127.0.0.1", self.stack.valkey_port)
        self.stack.start_web()
        self.stack.start_worker()
        until(
            lambda: self.new.info("replication")["master_link_status"] == "up",
            what="the replica to follow",
        )

    def swap(self) -> None:
        """As an operator does it: no write is lost."""
        self.old.execute_command("FAILOVER")  # type: ignore[no-untyped-call]
        until(lambda: self.old.info("replication")["role"] == "slave", what="the roles to be changed")

    def listeners(self, server: redis.Redis) -> int:
        """Those who have subscribed to something there."""
        return sum(int(client["ssub"]) > 0 for client in server.client_list())

    def close(self) -> None:
        for client in (self.old, self.new):
            client.close()
        self.stack.close()
        self.network.close()
        self.other.stop()


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    pair = Pair(tmp_path)
    yield pair
    pair.close()


def accepted(stack: Stack) -> bytes | None:
    status, _, body = stack.call("POST", "/jobs", {"type": "simulate", "params": {"duration_s": 0}})
    assert status in (202, 503), body
    return body if status == 202 else None


@pytest.mark.parametrize("cut", [True, False], ids=["connections are cut", "connections stay"])
def test_a_planned_failover_behind_an_address_that_moves_late_stops_nothing(pair: Pair, cut: bool) -> None:
    stack = pair.stack
    job_id = stack.submit("simulate", {"duration_s": LATE_S + 6, "rate": 20})["id"]
    with Reader(stack.url, f"/jobs/{job_id}/events", "0") as reader:
        next(event for event in reader if event.event == "progress")
        pair.swap()
        if cut:
            pair.network.cut()  # and opened again, to the old one
        moves_at = time.monotonic() + LATE_S
        until(lambda: stack.get("/readyz")[0] == 503, 3, "readiness to say that nothing can be written")
        until(lambda: pair.listeners(pair.old) == 0, LATE_S, "the hub to leave the old primary")
        assert accepted(stack) is None
        time.sleep(max(0, moves_at - time.monotonic()))

        pair.network.move(pair.other.port)
        moved_at = time.monotonic()
        body = until(lambda: accepted(stack), 5, "a submission to be accepted")
        assert time.monotonic() - moved_at < 5
        until(lambda: stack.get("/readyz")[0] == 200, 5, "the service to be ready")
        until(lambda: pair.listeners(pair.new) >= 1, 5, "the hub to listen at the new primary")
        assert stack.metric("headway_store_failovers_total") >= 1
        after = next(event for event in reader if event.event == "progress")
        assert after.data["attempt"] == 1
        assert not [event for event in reader.until_end() if event.event == "reset"]
    assert stack.wait_ended(job_id)["attempt"] == 1
    assert stack.wait_ended(json.loads(body)["id"])["state"] == "succeeded"


def test_a_replica_is_not_where_to_begin(pair: Pair) -> None:
    url = f"redis://127.0.0.1:{pair.other.port}/0"
    client = connect(url, connections=1)
    with pytest.raises(NotPrimary):
        client.get("x")
    client.close()
    process = pair.stack.start("second", "-m", "service", "web", REDIS_URL=url, PORT=str(free_port()))
    assert process.wait(20) == 2
    assert "takes no writes" in pair.stack.log("second")


def test_a_job_that_no_replica_has_is_not_accepted_and_says_why(pair: Pair) -> None:
    stack = pair.stack
    assert accepted(stack) is not None
    pair.other.stop()
    status, headers, body = stack.call("POST", "/jobs", {"type": "simulate", "params": {"duration_s": 0}})
    assert (status, headers["retry-after"]) == (503, "2")
    assert "0 of 1 replicas have it after 1 s" in json.loads(body)["detail"]

"""How long a worker counts as alive."""

from __future__ import annotations

import threading
from pathlib import Path

from headway.contract.settings import load
from headway.contract.store import JobStore
from tests.support.faulty_proxy import FaultyProxy
from tests.support.stack import Stack
from tests.support.wait import until
from worker.registration import Registration


def test_a_worker_that_stops_while_it_registers_no_longer_counts_as_alive(tmp_path: Path) -> None:
    with Stack(tmp_path) as stack, FaultyProxy(stack.valkey.port) as network:
        url = f"redis://127.0.0.1:{network.port}/0"
        store = JobStore.of(load({**stack.environ, "REDIS_URL": url}), timeout_s=30)
        registration = Registration(store, "w", dict, {"t": "{}"}, tmp_path)
        network.stall()
        registration.start()
        until(lambda: network.opened, what="a registration to be under way")
        stopping = threading.Thread(target=registration.stop)
        stopping.start()
        stopping.join(1.5)
        network.resume()
        stopping.join(10)
        until(lambda: not threads("registration"), what="the registration to have ended")
        assert not any(is_alive for _, is_alive in stack.store.registry.types().values())
        store.redis.close()


def threads(name: str) -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == name]

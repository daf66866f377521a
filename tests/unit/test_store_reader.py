"""Reads are shared, and hold few connections however many readers there are."""

from __future__ import annotations

import queue
import subprocess
import sys
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, cast

import pytest
import redis

from service.api.app import STORE_CONNECTIONS
from service.streaming import store_reader
from service.streaming.store_reader import WORKERS, StoreReader
from tests.support.checkout import ROOT
from tests.support.memory_store import MemoryStore


def test_readers_that_catch_up_leave_most_connections_to_requests() -> None:
    assert WORKERS < STORE_CONNECTIONS / 2


def test_equal_reads_are_made_once_and_the_rest_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    reader = StoreReader(cast(Any, MemoryStore()))
    gate = threading.Event()
    begun: queue.Queue[str] = queue.Queue()
    waiting = threading.Semaphore(0)
    answer = store_reader._Read.answer

    def wait_for_answer(read: store_reader._Read) -> Any:
        waiting.release()
        return answer(read)

    def read(key: str) -> str:
        begun.put(key)
        assert gate.wait(10)
        return key

    monkeypatch.setattr(store_reader._Read, "answer", wait_for_answer)
    keys = [*"abcdefgh", *("z" * 32)]
    with ThreadPoolExecutor(len(keys)) as pool:

        def ask(some: list[str]) -> list[Future[str]]:
            return [pool.submit(reader.shared, key, lambda _, key=key: read(key)) for key in some]

        asked = ask(keys[: WORKERS - 1])
        first = [begun.get(timeout=10) for _ in asked]  # whatever is asked for now has to wait
        asked += ask(keys[WORKERS - 1 :])
        for _ in keys:
            assert waiting.acquire(timeout=10)
        assert begun.empty()
        gate.set()
        assert [a.result(10) for a in asked] == keys
    assert sorted([*first, *begun.queue]) == [*"abcdefgh", "z"]


def test_an_error_reaches_each_reader_and_ends_nothing() -> None:
    store = MemoryStore()
    reader = StoreReader(cast(Any, store))

    def fail(_: object) -> None:
        raise redis.ConnectionError("away")

    for _ in range(5):
        with pytest.raises(redis.ConnectionError, match="away"):
            reader.shared("x", fail)
    job_id = store.create()
    page = reader.job(job_id, None)
    assert page is not None
    assert page.last == store.clock


INTERRUPTED = """
from gevent import monkey
monkey.patch_all()
import time
import gevent
from service.streaming.store_reader import StoreReader
from tests.support.checkout import ROOT
from tests.support.memory_store import MemoryStore

def work(seconds):
    done = time.perf_counter() + seconds
    while time.perf_counter() < done:
        pass

def busy():
    while True:
        work(0.01)
        gevent.sleep(0)

reader = StoreReader(MemoryStore())
for ask in (lambda n: reader.job(f"0-{n:022}", None), lambda n: reader.shared(n, lambda _: n)):
    for n in range(4):
        ask(n)  # every thread has been started
    others = gevent.spawn(busy)  # or gevent looks at its timers more rarely
    gevent.sleep(0)
    for n in range(4, 24):
        with gevent.Timeout(0.001, False):
            work(0.01)
            ask(n)  # it is struck at the first switch
    others.kill()
    with gevent.Timeout(5):
        ask(100)
print("answered")
"""


def test_a_read_whose_time_limit_strikes_anywhere_stops_no_other() -> None:
    command = [sys.executable, "-c", INTERRUPTED]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert ran.stdout == "answered\n", ran.stderr

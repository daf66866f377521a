"""Reads are shared, and hold few connections however many readers there are."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import pytest
import redis

from service.api.app import STORE_CONNECTIONS
from service.streaming.store_reader import WORKERS, StoreReader
from tests.support.memory_store import MemoryStore


def test_readers_that_catch_up_leave_most_connections_to_requests() -> None:
    assert WORKERS < STORE_CONNECTIONS / 2


def test_equal_reads_are_made_once_and_the_rest_few_at_a_time() -> None:
    store = MemoryStore()
    reader = StoreReader(cast(Any, store))
    gate = threading.Event()
    lock = threading.Lock()
    calls: list[str] = []
    now = most = 0

    def read(key: str) -> str:
        nonlocal now, most
        with lock:
            calls.append(key)
            now += 1
            most = max(most, now)
        assert gate.wait(10)
        with lock:
            now -= 1
        return key

    with ThreadPoolExecutor(40) as pool:
        asked = [
            pool.submit(reader.shared, key, lambda _, key=key: read(key))
            for key in [*"abcdefgh", *("z" * 32)]
        ]
        while len(calls) < WORKERS - 1:
            pass
        while len(reader._others) < 9 - (WORKERS - 1):
            pass
        gate.set()
        assert [a.result(10) for a in asked] == [*"abcdefgh", *("z" * 32)]
    assert sorted(calls) == [*"abcdefgh", "z"]
    assert most <= WORKERS


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

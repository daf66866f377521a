"""KeyTable: what it knows when, and how often it asks Redis."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import redis

from headway.contract.access import Key, Snapshot
from service.api.auth.key_table import KeyTable

CLIENTS = 50
TOKEN = f"hw_{'a' * 8}_{'s' * 43}"


class Access:
    """Keys that change at once, and a store that can be slow or away."""

    def __init__(self) -> None:
        self.versions = 1
        self.keys: dict[str, Key] = {}
        self.looks = 0
        self.away = False
        self.open = threading.Event()
        self.open.set()

    def version(self) -> int:
        self.looks += 1
        self.open.wait(30)
        if self.away:
            raise redis.ConnectionError("away")
        return self.versions

    def snapshot(self) -> Snapshot:
        if self.away:
            raise redis.ConnectionError("away")
        return Snapshot(self.versions, dict(self.keys), frozenset())

    def add(self, token: str) -> None:
        import hashlib

        _, key_id, secret = token.split("_", 2)
        digest = hashlib.sha256(secret.encode()).hexdigest()
        self.keys[key_id] = Key(key_id, "ann", ("read",), "", 0, None, digest)
        self.versions += 1


@pytest.fixture
def access() -> Access:
    return Access()


@pytest.fixture
def table(access: Access) -> KeyTable:
    table = KeyTable(access)  # type: ignore[arg-type]
    table.refresh()
    access.looks = 0
    return table


@contextmanager
def asking(table: KeyTable, access: Access, answers: list[Any]) -> Iterator[None]:
    """Many clients at once with a key that is not in the copy, while the store does not answer."""

    def ask() -> None:
        try:
            answers.append(table.opened_by(TOKEN))
        except redis.RedisError as error:
            answers.append(error)

    access.open.clear()
    threads = [threading.Thread(target=ask) for _ in range(CLIENTS)]
    for thread in threads:
        thread.start()
    yield
    access.open.set()
    for thread in threads:
        thread.join(30)


def test_a_key_that_was_just_made_opens_at_once(table: KeyTable, access: Access) -> None:
    assert table.opened_by(TOKEN) is None
    access.add(TOKEN)
    assert table.opened_by(TOKEN) is not None
    assert table.opened_by(TOKEN[:-1] + "x") is None


def test_a_known_key_costs_no_look_and_neither_does_what_is_no_key(table: KeyTable, access: Access) -> None:
    access.add(TOKEN)
    table.refresh()
    access.looks = 0
    for token in (TOKEN, TOKEN[:-1] + "x", "hw_x", "x"):
        table.opened_by(token)
    assert access.looks == 0


def test_many_with_unknown_keys_share_the_looks(table: KeyTable, access: Access) -> None:
    answers: list[Any] = []
    with asking(table, access, answers):
        # Made after the first look has begun: whoever asks from now on must find it.
        access.add(TOKEN)
    assert len(answers) == CLIENTS
    assert all(answers)
    # Those who were waiting for the first one share the second.
    assert access.looks < CLIENTS / 2


def test_while_redis_is_away_an_unknown_key_cannot_be_judged_and_a_known_one_works(
    table: KeyTable, access: Access
) -> None:
    other = f"hw_{'b' * 8}_{'s' * 43}"
    access.add(other)
    table.refresh()
    answers: list[Any] = []
    access.looks = 0
    with asking(table, access, answers):
        access.away = True
    assert all(isinstance(answer, redis.RedisError) for answer in answers)
    assert access.looks < CLIENTS / 2, "not everybody waits for a time limit of its own"
    assert table.opened_by(other) is not None
    access.away = False
    assert table.opened_by(TOKEN) is None

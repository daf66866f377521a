"""Clients that know nothing of Headway, from PyPI and npm: they read a stream and resume it."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import httpx_sse
import ld_eventsource
import ld_eventsource.actions
import ld_eventsource.config
import pytest

from tests.conftest import missing
from tests.stack import Stack
from tests.work import create, run_jobs, stored

NODE = Path(__file__).parent.parent / "web" / "eventsource"


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    stack = Stack(tmp_path_factory.mktemp("others"))
    try:
        stack.start_web()
        yield stack
    finally:
        stack.close()


@pytest.fixture(scope="module")
def job_id(web: Stack) -> str:
    """An ended job with some events."""
    job_id = create(web.store)
    run_jobs(web.store, [job_id], 20, 0).join()
    return job_id


def test_httpx_sse_reads_and_resumes(web: Stack, job_id: str) -> None:
    expected = stored(web.store, job_id)
    got: list[tuple[str, str]] = []
    with httpx.Client(base_url=web.url, timeout=20) as client:
        for count in (5, len(expected)):
            headers = {"Last-Event-ID": got[-1][0] if got else "0"}
            with httpx_sse.connect_sse(client, "GET", f"/jobs/{job_id}/events", headers=headers) as source:
                for event in source.iter_sse():
                    got.append((event.id, event.event))
                    if len(got) >= count:
                        break
    assert got == expected


def test_launchdarkly_eventsource_reads_and_resumes(web: Stack, job_id: str) -> None:
    expected = stored(web.store, job_id)
    got: list[tuple[str, str]] = []
    for count in (5, len(expected)):
        source = ld_eventsource.SSEClient(
            ld_eventsource.config.ConnectStrategy.http(f"{web.url}/jobs/{job_id}/events"),
            last_event_id=got[-1][0] if got else "0",
        )
        try:
            for event in source.events:
                got.append((event.last_event_id, event.event))
                if len(got) >= count:
                    break
        finally:
            source.close()
    assert got == expected


def test_eventsource_for_node_reads_and_resumes(web: Stack, job_id: str, tmp_path: Path) -> None:
    npm, node = shutil.which("npm"), shutil.which("node")
    if npm is None or node is None:
        missing("npm")
    for name in ("package.json", "package-lock.json"):
        shutil.copy(NODE / name, tmp_path)
    installed = subprocess.run(
        [str(npm), "ci", "--silent", "--no-audit", "--no-fund"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    if installed.returncode:
        missing(f"eventsource (npm ci: {installed.stderr.strip()[-200:]})")
    expected = stored(web.store, job_id)
    got: list[tuple[str, ...]] = []
    for count in (5, len(expected) - 5):
        cursor = got[-1][0] if got else "0"
        command = [str(node), str(NODE / "read.js"), f"{web.url}/jobs/{job_id}/events", cursor, str(count)]
        ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=30)
        assert ran.returncode == 0, ran.stderr
        got += [tuple(line.split()) for line in ran.stdout.splitlines()]
    assert got == expected

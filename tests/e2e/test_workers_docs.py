"""The workers of docs/workers.md, as they stand there, against a service without any worker of its own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support.checkout import ROOT
from tests.support.programs import program
from tests.support.stack import Stack
from tests.support.wait import until

DOCS = (ROOT / "docs" / "workers.md").read_text("utf-8")
WORKERS = {
    "worker.mjs": ("demo.count", ["node"]),
    "worker.go": ("demo.count-go", ["go", "run"]),
    "worker.sh": ("demo.count-bash", ["bash"]),
    "worker.py": ("demo.count-python", [sys.executable]),
}
LONGEST = 85
"""Lines of a worker."""


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with Stack(tmp_path_factory.mktemp("workers"), DRAIN_S="0", HEARTBEAT_S="1", LEASE_S="5") as stack:
        stack.start_web()
        yield stack


def block(name: str) -> str:
    """The program of that name in the document."""
    found = re.search(rf"```\w+\n((?:#![^\n]*\n)?(?://|#) {re.escape(name)}\n.*?)```", DOCS, re.DOTALL)
    assert found, f"docs/workers.md has no {name}"
    return found[1]


def environ(web: Stack, tmp_path: Path) -> dict[str, str]:
    return {
        **os.environ,
        "HEADWAY_URL": web.url,
        "PYTHONPATH": str(ROOT),
        "GOCACHE": str(tmp_path / "go"),
        "GO111MODULE": "off",
        "GOFLAGS": "",
    }


@pytest.mark.parametrize("name", WORKERS)
def test_a_worker_as_documented_does_jobs_and_stops_when_one_is_canceled(
    web: Stack, tmp_path: Path, name: str
) -> None:
    type_name, command = WORKERS[name]
    for needed in (command[0], *(["curl", "jq"] if name.endswith(".sh") else [])):
        program(needed)
    text = block(name)
    assert text.count("\n") <= LONGEST
    (tmp_path / name).write_text(text)
    with (tmp_path / "said").open("wb") as said:
        process = subprocess.Popen(
            [*command, name],
            cwd=tmp_path,
            env=environ(web, tmp_path),
            stdout=said,
            stderr=said,
            start_new_session=True,
        )
    try:
        kinds = lambda: {one["name"] for one in web.get("/types")[1]["items"]}  # noqa: E731
        until(lambda: type_name in kinds() or process.poll() is not None, 120, "the type to be declared")
        assert process.poll() is None, (tmp_path / "said").read_text()
        job = web.submit(type_name, {"n": 10})
        ended = web.wait_ended(job["id"])
        assert (ended["state"], ended["result"], ended["attempt"]) == ("succeeded", {"sum": 55}, 1)
        assert ended["progress"]["total"] == 10
        long = web.submit(type_name, {"n": 100_000})
        until(lambda: web.get(f"/jobs/{long['id']}")[1]["progress"], what="its progress")
        web.call("POST", f"/jobs/{long['id']}/cancel")
        assert web.wait_ended(long["id"])["state"] == "canceled"
        assert web.call("POST", "/jobs", {"type": type_name, "params": {"n": "many"}})[0] == 422
        again = web.submit(type_name, {"n": 1})
        assert web.wait_ended(again["id"])["state"] == "succeeded", "it goes on after a canceled job"
    finally:
        # With all that `go run` started.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def test_the_cron_script_shows_a_bar(web: Stack, tmp_path: Path) -> None:
    for needed in ("bash", "curl", "jq"):
        program(needed)
    found = re.search(r"```bash\n(job=.*?)```", DOCS, re.DOTALL)
    assert found is not None
    ran = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", found[1]],
        env=environ(web, tmp_path),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    job = web.get("/jobs?type=nightly")[1]["items"][0]
    assert (job["state"], job["result"]) == ("succeeded", {"tables": 12})
    page = web.get(f"/jobs/{job['id']}/events", headers={"Accept": "application/json"})[1]
    told = [event["data"]["message"] for event in page["events"] if event["event"] == "progress"]
    assert told == ["dump", "copy"]

"""The three ways in with which README begins, each as it stands there."""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import shlex
import subprocess
import sys
import venv
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.support.checkout import ROOT
from tests.support.command import Command
from tests.support.shop_stack import ShopStack
from tests.support.stack import Stack

pytestmark = pytest.mark.long

README = (ROOT / "README.md").read_text("utf-8")
CELERY, PAGE, SERVICE = re.split(r"(?m)^\*\*I want ", README.partition("## Three ways in")[2])
PROJECT = """
import time

from celery import Celery

app = Celery("shop", broker={broker!r})
{two_lines}

@app.task(bind=True)
def import_rows(self, rows):
    for row in range(rows):
        self.update_state(state="PROGRESS", meta={{"current": row, "total": rows}})
        time.sleep(0.3)
    return "imported"
"""
SEND = """
from headway.celery import job_id
from shop import import_rows

print(job_id(import_rows.delay(9).id))
"""


def code(text: str) -> str:
    """The first block of code, which is indented by four."""
    found = re.search(r"(?m)(^    .*\n)+", text)
    assert found is not None
    return re.sub(r"(?m)^    ", "", found[0])


def packages(*names: str) -> Iterator[Path]:
    """What `pip install` of these brings, from this environment."""
    left, seen = list(names), set()
    while left:
        name = left.pop()
        if name in seen:
            continue
        seen.add(name)
        distribution = importlib.metadata.distribution(name)
        yield from {Path(str(distribution.locate_file(file.parts[0]))) for file in distribution.files or ()}
        for text in distribution.requires or ():
            needed = Requirement(text)
            if needed.marker is None or needed.marker.evaluate({"extra": ""}):
                left.append(needed.name)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ShopStack]:
    with ShopStack(tmp_path_factory.mktemp("headway")) as stack:
        stack.start_web()
        yield stack


def test_a_celery_project_has_live_bars_after_two_lines(stack: ShopStack, tmp_path: Path) -> None:
    project = tmp_path / "project"
    (tmp_path / "headway").symlink_to(ROOT)
    venv.create(project / "venv", with_pip=False)
    (site,) = (project / "venv").glob("lib/*/site-packages")
    # A project has Celery; and hatchling, which builds the wheel, is not to be downloaded by a test.
    for path in packages("celery", "redis", "pydantic", "hatchling"):
        if path.parent.name == "site-packages" and not (site / path.name).exists():
            (site / path.name).symlink_to(path)
    python = project / "venv" / "bin" / "python"
    (words,) = re.findall(r"`pip (install '\.\./headway.*?')`", CELERY)
    pip = [sys.executable, "-m", "pip", "--python", python, *shlex.split(words), "-q"]
    offline = {**os.environ, "PIP_NO_INDEX": "1", "PIP_NO_BUILD_ISOLATION": "0"}
    subprocess.run(pip, cwd=project, env=offline, check=True, capture_output=True, timeout=120)
    (project / "shop.py").write_text(
        PROJECT.format(broker=stack.shop_environ["SHOP_BROKER"], two_lines=code(CELERY))
    )
    environ = {
        "HEADWAY_REDIS_URL": stack.valkey.url,
        "PATH": os.environ["PATH"],
        "C_FORCE_ROOT": "1",
        **{name: stack.environ[name] for name in ("LEASE_S", "KEEP_PROGRESS")},
    }
    with (tmp_path / "worker.log").open("wb") as log:
        command = [python, "-m", "celery", "-A", "shop", "worker", "-c", "1"]
        worker = subprocess.Popen(command, cwd=project, env=environ, stdout=log, stderr=log)
    try:
        sent = subprocess.run(
            [python, "-c", SEND], cwd=project, env=environ, check=True, capture_output=True, text=True
        )
        job = stack.wait_ended(sent.stdout.strip())
    finally:
        worker.terminate()
        worker.wait(30)
    assert (job["type"], job["state"], job["result"]) == ("shop.import_rows", "succeeded", "imported")
    assert job["params"] == {"rows": 9}
    page = stack.get(f"/jobs/{job['id']}/events", headers={"Accept": "application/json"})[1]
    bar = [event["data"]["fraction"] for event in page["events"] if event["event"] == "progress"]
    assert len(set(bar)) >= 3, bar


def test_a_command_has_a_bar(stack: Stack, tmp_path: Path) -> None:
    # tests/e2e/test_recipes.py has the ten lines, test_npm_package.py the package.
    command = code(PAGE).replace("/data backup:/data", f"{tmp_path}/data {tmp_path}/copy")
    assert command.startswith("headway run --progress '(\\d+)%' -- rsync ")
    if not any(Path(path, "rsync").exists() for path in os.environ["PATH"].split(os.pathsep)):
        # Prints what rsync does.
        command = re.sub(
            "rsync .*", r"""printf '  1,024  5%%\\r  9,216 50%%\\r 18,432 100%%\\n'""", command
        )
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "file").write_bytes(os.urandom(100_000))
    environ = {**stack.environ, "HEADWAY_URL": stack.url}
    subprocess.run(["bash", "-c", command], env=environ, check=True, capture_output=True, timeout=60)
    job = stack.get("/jobs?type=command")[1]["items"][0]
    assert (job["state"], job["progress"]["fraction"]) == ("succeeded", 1)


def test_the_service_encodes_a_video_as_readme_does_with_curl(tmp_path: Path) -> None:
    assert SERVICE.startswith("a service that encodes videos.** `make run`")
    text = SERVICE.partition("## A first job, with curl")[2].partition("To encode a file of your own")[0]
    submit, watch, resume, get, fetch = re.findall(r"(?m)^    (curl (?:.*\\\n)*.*)$", text)
    # The environment is there: it runs this.
    with Command("make", "-o", ".venv/ready", "run", data=tmp_path / "var") as service:
        service.wait_ready()

        def curl(command: str, **names: str) -> str:
            for name, value in names.items():
                command = command.replace(name, value)
            # A shorter clip: what is tried is the way.
            command = command.replace("http://127.0.0.1:8000", service.url).replace(
                "sample:120", "sample:4"
            )
            ran = subprocess.run(
                ["bash", "-c", command],
                cwd=tmp_path,
                check=True,
                capture_output=True,
                text=True,
                timeout=60,
            )
            return ran.stdout

        job_id = json.loads(curl(submit))["id"]
        events = curl(watch, ID=job_id)
        assert re.findall("(?m)^event: (.*)$", events)[-1] == "end"
        ids = re.findall("(?m)^id: (.*)$", events)
        rest = curl(resume, LAST_ID=ids[-3], ID=job_id)
        assert re.findall("(?m)^id: (.*)$", rest) == ids[-2:]
        assert json.loads(curl(get, ID=job_id))["state"] == "succeeded"
        curl(fetch, ID=job_id)
        assert (tmp_path / "video.mp4").stat().st_size > 1000

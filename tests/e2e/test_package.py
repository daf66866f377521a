"""The wheel in an empty environment, beside a project's own `service` and `worker`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from tests.support import credentials
from tests.support.checkout import ROOT
from tests.support.stack import Stack

SCRIPT = """
import sys
from headway import Client, __version__
import service, worker

job = Client(sys.argv[1]).submit("simulate", {"duration_s": 0.5})
events = [event.event for event in Client(sys.argv[1]).watch(job["id"])]
found = {name.partition(".")[0] for name in sys.modules}
outside = found - sys.stdlib_module_names - {"__main__", "sitecustomize"}
print(events[0], events[-1], service.MINE, worker.MINE, *sorted(outside))
"""


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("dist")
    build = (sys.executable, "-m", "build", "--no-isolation", "--outdir", directory, ROOT)
    subprocess.run(build, capture_output=True, check=True, timeout=120)
    return directory


@pytest.fixture(scope="module")
def installed(dist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin directory of an environment with nothing but the wheel. Its pip is this environment's."""
    directory = tmp_path_factory.mktemp("venv")
    venv.create(directory, with_pip=False)
    (wheel,) = dist.glob("*.whl")
    python = directory / "bin" / "python"
    pip = (sys.executable, "-m", "pip", "--python", python, "install", "-q", "--no-index", wheel)
    subprocess.run(pip, capture_output=True, check=True, timeout=120)
    return directory / "bin"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for name in ("service", "worker"):
        (tmp_path / f"{name}.py").write_text(f'MINE = "my-{name}"\n')
    (tmp_path / "script.py").write_text(SCRIPT)
    return tmp_path


def run(*command: str | Path, cwd: Path, url: str = "") -> str:
    environ = {
        "HEADWAY_TOKEN": credentials.KEY,
        "HEADWAY_URL": url,
        "PATH": os.environ["PATH"],
        "HOME": str(cwd),
    }
    ran = subprocess.run(command, cwd=cwd, env=environ, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stderr
    assert ran.stderr == ""
    return ran.stdout


def test_the_wheel_and_the_source_distribution_hold_the_library_alone(dist: Path) -> None:
    (wheel,), (source,) = dist.glob("*.whl"), dist.glob("*.tar.gz")
    listed = subprocess.run(
        [sys.executable, "-m", "zipfile", "-l", wheel], capture_output=True, text=True, check=True
    ).stdout
    packed = {line.split()[0] for line in listed.splitlines()[1:]}
    wanted = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "headway").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {name for name in packed if ".dist-info/" not in name} == wanted
    assert "headway/contract/lua/prelude.lua" in wanted
    names = subprocess.run(["tar", "tzf", source], capture_output=True, text=True, check=True).stdout
    assert not [name for name in names.split() if "/service/" in name or "/worker/" in name]


def test_the_command_knows_its_version(installed: Path, tmp_path: Path) -> None:
    version = run(installed / "headway", "--version", cwd=tmp_path)
    assert version == run(installed / "python", "-m", "headway", "--version", cwd=tmp_path)
    assert version.startswith("headway 0.")


def test_a_project_with_a_service_and_a_worker_of_its_own_submits_and_watches(
    installed: Path, project: Path, stack: Stack
) -> None:
    said = run(installed / "python", "script.py", stack.url, cwd=project)
    assert said == "snapshot end my-service my-worker headway service worker\n"


def test_the_command_submits_and_watches_without_any_extra(
    installed: Path, project: Path, stack: Stack
) -> None:
    headway = installed / "headway"
    submitted = run(headway, "submit", "simulate", "duration_s=0.5", "--json", cwd=project, url=stack.url)
    watched = run(headway, "watch", json.loads(submitted)["id"], cwd=project, url=stack.url)
    assert watched.splitlines()[-1].endswith("succeeded")


def test_what_an_extra_brings_is_said_where_it_is_missing(installed: Path, tmp_path: Path) -> None:
    ran = subprocess.run(
        [installed / "headway", "completion", "bash"], cwd=tmp_path, capture_output=True, text=True
    )
    assert ran.returncode == 2
    assert ran.stderr == "headway: completion needs argcomplete: pip install 'headway[cli]'\n"

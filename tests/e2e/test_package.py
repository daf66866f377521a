"""The wheel in an empty environment: beside a project's own `service` and `worker`, in web projects."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import socket
import subprocess
import sys
import urllib.error
import urllib.request
import venv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.support import credentials
from tests.support.checkout import ROOT
from tests.support.stack import Stack, free_port
from tests.support.wait import until

pytestmark = pytest.mark.long

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
    # The environment is there: it runs this.
    build = ("make", "-o", ".venv/ready-for-tests", "wheel", f"DIST={directory}")
    subprocess.run(build, cwd=ROOT, capture_output=True, check=True, timeout=120)
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


SITE = """
import sys
import django
from django.conf import settings
from django.core.management import execute_from_command_line
from django.urls import path

settings.configure(
    DEBUG=True,
    SECRET_KEY="of a test",
    ROOT_URLCONF="__main__",
    MIDDLEWARE=["django.contrib.sessions.middleware.SessionMiddleware"],
    SESSION_ENGINE="django.contrib.sessions.backends.signed_cookies",
    ALLOWED_HOSTS=["127.0.0.1"],
)
import views

urlpatterns = [path("start", views.start), path("ticket", views.ticket)]
execute_from_command_line(["site", "runserver", "--noreload", sys.argv[1]])
"""


DJANGO = ("django", "asgiref", "sqlparse")
FASTAPI = (
    *(
        "annotated_doc",
        "annotated_types",
        "anyio",
        "certifi",
        "click",
        "fastapi",
        "h11",
        "httpcore",
        "httpx",
    ),
    *("idna", "opentelemetry", "pydantic", "pydantic_core", "starlette", "typing_extensions"),
    *("typing_inspection", "uvicorn"),
)
"""What `pip install fastapi uvicorn 'headway[async]'` brings."""


@contextlib.contextmanager
def site(
    installed: Path, directory: Path, stack: Stack, packages: Sequence[str], file: str, *command: str
) -> Iterator[str]:
    """Run a web project whose `file` is docs/clients.md's, with these packages. Yields its address."""
    packed = directory / "packages"
    packed.mkdir()
    for name in packages:
        found = importlib.util.find_spec(name)
        assert found is not None
        ours = Path([*(found.submodule_search_locations or ()), found.origin][0] or "")
        (packed / ours.name).symlink_to(ours)
    docs = (ROOT / "docs" / "clients.md").read_text("utf-8")
    (directory / file).write_text(docs.partition(f"```python\n# {file}\n")[2].partition("```")[0])
    port = free_port()
    environ = {
        "HEADWAY_TOKEN": credentials.KEY,
        "HEADWAY_URL": stack.url,
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(packed),
    }
    arguments = [argument.format(port=port) for argument in command]
    with (directory / "site.log").open("wb") as out:
        process = subprocess.Popen(
            [installed / "python", *arguments], cwd=directory, env=environ, stdout=out, stderr=out
        )

    def ready() -> bool:
        assert process.poll() is None, (directory / "site.log").read_text()
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    try:
        until(ready, what="the project to listen")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture
def django_site(installed: Path, tmp_path: Path, stack: Stack) -> Iterator[str]:
    (tmp_path / "manage.py").write_text(SITE)
    command = ("manage.py", "127.0.0.1:{port}")
    with site(installed, tmp_path, stack, DJANGO, "views.py", *command) as url:
        yield url


@pytest.fixture
def fastapi_app(installed: Path, tmp_path: Path, stack: Stack) -> Iterator[str]:
    command = ("-m", "uvicorn", "main:app", "--port", "{port}")
    with site(installed, tmp_path, stack, FASTAPI, "main.py", *command) as url:
        yield url


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


def test_a_django_view_submits_and_gives_the_session_a_ticket_for_its_job_alone(
    django_site: str, stack: Stack
) -> None:
    foreign = stack.submit("simulate", {"duration_s": 0})
    browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())

    def ask(path: str, body: bytes | None = None) -> Any:
        with browser.open(django_site + path, body, timeout=30) as answer:
            return json.loads(answer.read())

    job = ask("/start", b"seconds=0")
    assert stack.wait_ended(job["id"])["state"] == "succeeded"
    ticket = ask("/ticket")
    assert f"/jobs/{job['id']}/events?" in ticket["events_url"]
    assert stack.get(f"/jobs/{job['id']}?ticket={ticket['ticket']}")[0] == 200
    assert stack.get(f"/jobs/{foreign['id']}?ticket={ticket['ticket']}")[0] == 404
    # What the service refuses is said, not thrown.
    with pytest.raises(urllib.error.HTTPError) as refused:
        ask("/start", b"seconds=-1")
    with refused.value as answer:
        assert (answer.code, "/params/duration_s" in answer.read().decode()) == (502, True)


def test_a_fastapi_application_submits_waits_and_streams_with_the_asynchronous_client(
    fastapi_app: str, stack: Stack
) -> None:
    def start(seconds: int) -> str:
        with urllib.request.urlopen(f"{fastapi_app}/start?seconds={seconds}", b"", timeout=30) as answer:
            found: str = json.loads(answer.read())["id"]
            return found

    job_id = start(1)
    with urllib.request.urlopen(f"{fastapi_app}/fractions/{job_id}", timeout=30) as answer:
        fractions = [float(line) for line in answer]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1
    with urllib.request.urlopen(f"{fastapi_app}/result/{job_id}", timeout=30) as answer:
        assert json.loads(answer.read())["state"] == "succeeded"
    # A page that goes away takes its stream with it.
    long = start(60)
    channel = stack.store.keys.events(long)

    def subscribed() -> int:
        return int(stack.store.redis.pubsub_shardnumsub(channel)[0][1])

    with urllib.request.urlopen(f"{fastapi_app}/fractions/{long}", timeout=30) as answer:
        answer.readline()
        assert subscribed() == 1
    until(lambda: subscribed() == 0, what="the stream to be closed")
    stack.call("POST", f"/jobs/{long}/cancel")
    with pytest.raises(urllib.error.HTTPError) as refused:
        start(-1)
    with refused.value as answer:
        assert (answer.code, "/params/duration_s" in answer.read().decode()) == (502, True)


def test_the_asynchronous_client_says_which_extra_it_needs(installed: Path, tmp_path: Path) -> None:
    ran = subprocess.run(
        [installed / "python", "-c", "from headway import AsyncClient"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert ran.stderr.splitlines()[-1].endswith("AsyncClient needs anyio: pip install 'headway[async]'")

"""The npm package in a project of its own: React, Vue and Svelte by Vite at another origin, a server, tsc.

The components are those of docs/frontends.md, as they stand there.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from headway.contract.states import State
from headway.contract.store import Claim
from headway.version import __version__
from tests.support.browser import Browser
from tests.support.checkout import ROOT
from tests.support.manual_jobs import progress, running_by_hand
from tests.support.npm import WEB, install
from tests.support.programs import program
from tests.support.stack import Stack, free_port
from tests.support.wait import until

pytestmark = pytest.mark.long

DOCS = (ROOT / "docs" / "frontends.md").read_text("utf-8")


class App(ThreadingHTTPServer):
    """The origin of the page: what Vite has built, `/ticket` as a backend of one's own has it, and the page
    that a server has rendered."""

    daemon_threads = True

    def __init__(self, port: int, directory: Path) -> None:
        super().__init__(("127.0.0.1", port), partial(Pages, directory=str(directory)))
        self.url = f"http://127.0.0.1:{port}"
        self.stack: Stack
        self.tickets = 0
        self.rendered = b""

    def ticket(self) -> bytes:
        self.tickets += 1
        return self.stack.call("POST", "/tickets", {"feed": True})[2]


class Pages(SimpleHTTPRequestHandler):
    server: App

    def do_GET(self) -> None:
        if self.path == "/ticket":
            body = self.server.ticket()
        elif self.path.startswith("/rendered?"):
            body = self.server.rendered
        else:
            super().do_GET()
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/html" if self.path != "/ticket" else "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def run(*command: str | Path, cwd: Path, **environ: str) -> str:
    ran = subprocess.run(
        command, cwd=cwd, env={**os.environ, **environ}, capture_output=True, text=True, timeout=200
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


@pytest.fixture(scope="module")
def tarball(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("tarball")
    program("npm")
    run("make", "tarball", f"DIST={directory}", cwd=ROOT)
    (made,) = directory.iterdir()
    return made


@pytest.fixture(scope="module")
def project(tarball: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project of somebody else's, with the package as npm installs it and the components of the docs."""
    directory = tmp_path_factory.mktemp("app") / "app"
    shutil.copytree(WEB / "frameworks", directory, ignore=shutil.ignore_patterns("node_modules"))
    install(directory)
    run(program("npm"), "install", "--offline", "--no-audit", "--no-fund", tarball, cwd=directory)
    return directory


@pytest.fixture(scope="module")
def app(project: Path) -> Iterator[App]:
    app = App(free_port(), project / "dist")
    threading.Thread(target=app.serve_forever, daemon=True).start()
    yield app
    app.shutdown()
    app.server_close()


@pytest.fixture(scope="module")
def service(app: App, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A service that asks for tickets, at another origin than the page."""
    directory = tmp_path_factory.mktemp("service")
    with Stack(directory, CORS_ORIGINS=app.url, HEARTBEAT_S="1", DRAIN_S="0") as stack:
        app.stack = stack
        stack.start_web()
        yield stack


def component(name: str) -> str:
    found = re.search(
        rf"^```\w+\n(?:// |<!-- )src/{re.escape(name)}(?: -->)?\n(.*?)^```", DOCS, re.S | re.M
    )
    assert found, name
    return found[1]


@pytest.fixture(scope="module")
def sources(project: Path, app: App, service: Stack) -> Path:
    for name in ("headway.ts", "Bar.tsx", "Bar.vue", "Bar.svelte"):
        text = component(name).replace("https://headway.example.org", service.url)
        (project / "src" / name).write_text(text)
    return project


@pytest.fixture(scope="module")
def built(sources: Path) -> None:
    # React's development form, so that its StrictMode mounts everything twice.
    vite = [program("node"), "node_modules/vite/bin/vite.js", "build", "--mode", "development"]
    said = run(*vite, cwd=sources, NODE_ENV="development")
    assert "warn" not in said.lower(), said


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("browser")) as browser:
        yield browser


@pytest.fixture
def browser(chromium: Browser, built: None) -> Iterator[Browser]:
    chromium.load("about:blank")
    chromium.console_errors()
    yield chromium
    assert chromium.console_errors() == []
    chromium.load("about:blank")


class Jobs:
    """Jobs that the test runs."""

    def __init__(self, service: Stack) -> None:
        self.store = service.store
        self.stack = service
        self._batch = 0

    def start(self, **more: Any) -> Claim:
        return running_by_hand(self.stack, **more)

    def report(self, claim: Claim, fraction: float) -> None:
        self._batch += 1
        self.store.append(claim, self._batch, [progress(fraction)])


@pytest.fixture
def jobs(service: Stack) -> Jobs:
    return Jobs(service)


def streams(service: Stack) -> int:
    """How many event streams are open."""
    return int(service.metric("headway_streams_open"))


def test_the_package_has_the_version_of_the_wheel_and_what_is_needed_and_no_more(tarball: Path) -> None:
    described = json.loads((ROOT / "web/package.json").read_text("utf-8"))
    assert described["version"] == __version__
    assert tarball.name == f"{described['name']}-{__version__}.tgz"
    assert "dependencies" not in described
    names = run("tar", "tzf", tarball, cwd=ROOT).split()
    tops = {name.split("/")[1] for name in names}
    web = ROOT / "web"
    modules = {path.name for pattern in ("*.js", "*.d.ts") for path in web.glob(pattern)}
    assert tops == modules - {"job-progress.min.js"} | {
        "client",
        "element",
        "package.json",
        "README.md",
        "LICENSE",
    }
    assert (web / "LICENSE").read_text() == (ROOT / "LICENSE").read_text()


def test_a_server_imports_and_renders_all_of_it_without_a_browser_and_node_uses_the_client(
    sources: Path, stack: Stack
) -> None:
    claim = running_by_hand(stack)
    stack.store.append(claim, 1, [progress(0.25)])
    node = [program("node"), "server.mjs", stack.url, claim.ref.id]
    with subprocess.Popen(node, cwd=sources, stdout=subprocess.PIPE, text=True) as server:
        lines = map(str.strip, server.stdout or ())
        assert next(lines, None) == "rendered"
        stop = threading.Event()

        def work() -> None:
            # Until the client watches, which may be after the first of these.
            for step in count(2):
                stack.store.append(claim, step, [progress(0.5)])
                if stop.wait(0.05):
                    break
            stack.store.end(claim, State.SUCCEEDED)

        worker = threading.Thread(target=work)
        worker.start()
        first = next(lines, None)
        stop.set()
        worker.join()
        rest = list(lines)
    assert server.returncode == 0
    assert first == "0.5"
    assert rest[-1] == "succeeded"


def test_the_compiler_accepts_the_components_and_the_element_in_jsx(sources: Path) -> None:
    run(program("node"), "node_modules/typescript/bin/tsc", cwd=sources)


SHOWN = "return document.querySelector('progress')?.value"
SAID = "return document.querySelector('output')?.textContent"


@pytest.mark.parametrize("framework", ["react", "vue", "svelte"])
def test_a_bar_follows_its_job_and_another_one_and_closes_its_connection(
    browser: Browser, app: App, service: Stack, jobs: Jobs, framework: str
) -> None:
    first, second = jobs.start(), jobs.start()
    browser.load(f"{app.url}/{framework}.html?job={first.ref.id}")
    name = "window.show({bars: [arguments[0]]})" if framework == "react" else "window.show(arguments[0])"
    browser.until(lambda: browser.run("return !!window.show"), "the page")
    browser.run(name, first.ref.id)

    def moved(claim: Claim, fraction: float) -> bool:
        jobs.report(claim, fraction)
        return bool(browser.run(SHOWN) == fraction)

    browser.until(lambda: moved(first, 0.4), "the bar to move")
    browser.run(name, second.ref.id)
    browser.until(lambda: moved(second, 0.7), "the bar of the other job")
    jobs.report(first, 0.5)
    jobs.store.end(second, State.SUCCEEDED)
    browser.until(lambda: browser.run(SAID) == "succeeded", "the end")
    assert browser.run(SHOWN) == 1
    browser.run(name, first.ref.id)
    browser.until(lambda: moved(first, 0.8), "the first one again")
    until(lambda: streams(service) == 1, what="the one connection")
    browser.run("window.show({})" if framework == "react" else "window.unmount()")
    until(lambda: streams(service) == 0, what="the connection to be closed")
    jobs.store.end(first, State.CANCELED)


def test_all_hooks_of_a_page_and_the_element_share_one_connection(
    browser: Browser, app: App, service: Stack, jobs: Jobs
) -> None:
    one, other, third = jobs.start(group="g"), jobs.start(group="g"), jobs.start()
    ids = [claim.ref.id for claim in (one, other, third)]
    browser.load(f"{app.url}/react.html")
    browser.until(lambda: browser.run("return !!window.show"), "the page")
    before = app.tickets
    browser.requests()
    all_of_it = "{bars: ids, ids: ids.slice(0, 2), group: 'g', element: ids[2]}"
    browser.run(f"const [ids] = arguments; window.show({all_of_it})", ids)
    browser.until(lambda: browser.text("#list") == "running running", "the list")
    browser.until(lambda: browser.text("#group") == "running running running 0", "the group")
    jobs.store.append(one, 1, [progress(0.5)])
    browser.until(lambda: browser.text("#group") == "running running running 0.25", "its fraction")
    inside = (
        "return document.querySelector('job-progress').shadowRoot.querySelector(arguments[0])?.textContent"
    )
    browser.until(lambda: browser.run(inside, "[part=state]") == "running", "the element")
    browser.until(lambda: browser.find("#list").get_attribute("title") == "live", "the list to be current")
    until(lambda: streams(service) == 1, what="one connection")
    asked = [request["url"] for request in browser.requests()]
    opened = [parse_qs(urlsplit(url).query) for url in asked if urlsplit(url).path == "/events"]
    # The first may have begun before all had said what they watch. StrictMode's second mount opens none.
    assert 1 <= len(opened) <= 2, opened
    assert app.tickets == before + 1
    assert browser.run(inside, "[part=cancel]") is None, "readonly is an attribute"

    # A list that grows keeps what it has, and shows the new one in its place.
    browser.run(
        "window.seen = []; const [ids] = arguments; window.show({ids: [ids[2], ids[0], ids[1]]})", ids
    )
    jobs.store.end(third, State.FAILED)
    browser.until(lambda: browser.text("#list") == "failed running running", "the longer list")
    assert min(browser.run("return window.seen")) == 2

    # A bar of no job watches nothing; one of a job that does not exist says so.
    browser.run("window.show({bars: [null, '0-nothing']})")
    said = "return [...document.querySelectorAll('output')].map((one) => one.textContent)"
    browser.until(lambda: browser.run(said) == ["closed", "no such job"], "both bars")
    # What it asked for is not there, which the console says.
    assert all("404" in message for message in browser.console_errors())
    browser.run("window.show({})")
    until(lambda: streams(service) == 0, what="the connection to be closed")


@pytest.mark.parametrize("framework", ["react", "vue", "svelte"])
def test_what_a_server_has_rendered_is_taken_over_and_moves(
    browser: Browser, app: App, project: Path, service: Stack, jobs: Jobs, framework: str
) -> None:
    claim = jobs.start()
    jobs.report(claim, 0.25)
    document = json.dumps(service.document(claim.ref.id))
    made = subprocess.run(
        [program("node"), "dist-server/render.js"],
        cwd=project,
        input=document,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert made.returncode == 0, made.stderr
    html = json.loads(made.stdout)[framework]
    assert re.search(r'<progress value="0.25">', html), html
    page = (project / "dist/rendered.html").read_text("utf-8")
    app.rendered = page.replace("<!--rendered-->", html).replace("<!--job-->", document).encode()
    browser.load(f"{app.url}/rendered?by={framework}")
    browser.until(lambda: browser.run("return window.taken"), "the page")

    def moved(fraction: float) -> bool:
        jobs.report(claim, fraction)
        return bool(browser.run(SHOWN) == fraction)

    browser.until(lambda: moved(0.5), "the bar to move")
    assert browser.run("return document.querySelectorAll('progress').length") == 1
    assert browser.run("return document.querySelector('progress').rendered"), "it is not made anew"
    assert browser.run("return problems") == []
    if framework == "react":
        shadow = "document.querySelector('job-progress').shadowRoot"
        inside = f"return {shadow}?.querySelector('.percent')?.textContent"
        browser.until(lambda: browser.run(inside) == "50 %", "the element")
    jobs.store.end(claim, State.SUCCEEDED)
    browser.until(lambda: browser.run(SAID) == "succeeded", "the end")

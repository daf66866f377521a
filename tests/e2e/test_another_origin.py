"""Bars on a page of another origin, with tickets and tokens, in Chromium and Firefox."""

from __future__ import annotations

import functools
import json
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from headway.contract.states import State
from tests.support import credentials
from tests.support.browser import Browser
from tests.support.firefox import Firefox
from tests.support.manual_jobs import log, progress, running_by_hand
from tests.support.npm import WEB, package
from tests.support.programs import program
from tests.support.sse import Reader
from tests.support.stack import Stack, free_port

pytestmark = pytest.mark.long

TTL_S = 3
"""Shorter than the time after which the service looks at its streams' tickets."""
PAGE = """<!doctype html>
<meta charset="utf-8" />
<title>Bars from elsewhere</title>
<script type="module" crossorigin src="{url}/web/job-progress.min.js"></script>
<job-progress id="renewed" readonly job="{job}" ticket-url="/ticket"></job-progress>
<job-progress id="fixed" readonly job="{job}" ticket="{ticket}"></job-progress>
<job-progress id="token" job="{job}" token="{key}"></job-progress>
<script type="module">
  import {{ Headway }} from "{url}/web/jobs.js";
  const tickets = [];
  const ticket = async (refused) => {{
    tickets.push(refused);
    return (await (await fetch("/ticket?function")).json()).ticket;
  }};
  const job = new Headway({{ base: "{url}", ticket }}).job("{job}");
  const seen = [];
  const note = ({{ type, detail }}) => seen.push(detail.message ?? type);
  for (const type of ["log", "gap", "reset"]) job.addEventListener(type, note);
  Object.assign(window, {{ job, seen, tickets }});
</script>
"""
INSIDE = (
    "return document.getElementById(arguments[0]).shadowRoot.querySelector(arguments[1])?.textContent ?? ''"
)


SENDS = """
const [url, token] = arguments;
window.made = {};
const bytes = (size) => new Uint8Array(size).fill(6);
(async () => {
  const {Headway} = await import(`${url}/web/jobs.js`);
  const headway = new Headway({base: url, token});
  made.client = await headway.upload(new File([bytes(3e6)], "film.mp4", {type: "video/mp4"}));
  const {Uppy, Tus} = await import("/uppy.js");
  const headers = {Authorization: `Bearer ${token}`};
  const uppy = new Uppy().use(Tus, {endpoint: `${url}/uploads`, headers, chunkSize: 1e6});
  uppy.addFile({name: "film.mp4", type: "video/mp4", data: new Blob([bytes(3e6)])});
  const {successful: [sent]} = await uppy.upload();
  made.uppy = await headway.ask("GET", `/uploads/${sent.uploadURL.split("/").pop()}`);
})().catch((error) => (made.error = `${error.name}: ${error.message}`));
"""


@functools.cache
def uppy() -> bytes:
    """Uppy as it comes, with its plugin for tus, as a module."""
    package("@uppy/tus")
    source = 'export { default as Uppy } from "@uppy/core"; export { default as Tus } from "@uppy/tus";'
    command = [program("node"), "node_modules/esbuild/bin/esbuild", "--bundle", "--format=esm"]
    ran = subprocess.run(command, cwd=WEB, input=source.encode(), capture_output=True, timeout=60)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


class App(ThreadingHTTPServer):
    """The server of the page: it holds the key, and gives tickets to whoever asks."""

    daemon_threads = True

    def __init__(self, port: int) -> None:
        outer = self
        self.stack: Stack
        self.job = ""
        self.asked: list[str] = []
        self.refuses = False

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                status, kind, body = 200, "application/json", b""
                if self.path.startswith("/ticket"):
                    outer.asked.append(self.path)
                    status = 403 if outer.refuses else 200
                    body = b"{}" if outer.refuses else json.dumps(outer.ticket(TTL_S)).encode()
                elif self.path == "/uppy.js":
                    kind, body = "text/javascript", uppy()
                elif self.path == "/":
                    kind, body = "text/html", outer.page().encode()
                else:
                    status = 404
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        super().__init__(("127.0.0.1", port), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def ticket(self, ttl_s: int) -> Any:
        body = {"jobs": [self.job], "ttl_s": ttl_s}
        return json.loads(self.stack.call("POST", "/tickets", body)[2])

    def page(self) -> str:
        ticket = self.ticket(20)["ticket"]  # until the page is there
        return PAGE.format(url=self.stack.url, job=self.job, ticket=ticket, key=credentials.KEY)


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    port = free_port()
    origin = f"http://localhost:{port}"
    directory = tmp_path_factory.mktemp("another-origin")
    with Stack(directory, CORS_ORIGINS=origin, HEARTBEAT_S="1", DRAIN_S="0") as stack, App(port) as app:
        app.stack = stack
        stack.start_web()
        yield app
        app.shutdown()


@pytest.fixture
def browser(either_browser: Browser | Firefox) -> Browser | Firefox:
    either_browser.signs_in = False
    return either_browser


def test_bars_live_as_long_as_their_tickets_are_renewed(app: App, browser: Browser | Firefox) -> None:
    stack = app.stack
    claim = running_by_hand(stack)
    app.job = claim.ref.id
    app.asked.clear()

    def shows(element: str, text: str, selector: str = ".percent") -> None:
        found = lambda: text in browser.run(INSIDE, element, selector)  # noqa: E731
        browser.until(found, f"{text!r} in {selector} of {element}")

    browser.load(f"http://localhost:{app.server_port}/")
    browser.until(lambda: browser.run("return window.job?.status === 'live'"), "the script to be live")
    stack.store.append(claim, 1, [progress(0.2), log("first")])
    for element in ("renewed", "fixed", "token"):
        shows(element, "20 %")
    # A minute at the most after their tickets have expired, streams end, and whoever can renews its ticket.
    shows("fixed", "Reconnecting", "[part=note]")
    browser.until(lambda: app.asked.count("/ticket") >= 2, "a new ticket for the bar")
    browser.until(lambda: app.asked.count("/ticket?function") >= 2, "a new ticket for the script")
    stack.store.append(claim, 2, [progress(0.4), log("second")])
    shows("renewed", "40 %")
    shows("token", "40 %")
    browser.until(lambda: browser.run("return seen.includes('second')"), "the log")
    assert browser.run("return seen") == ["first", "second"], "nothing is missed, nothing comes twice"
    # The function is told which ticket was refused.
    refused = browser.run("return tickets")
    assert refused[0] is None
    assert refused[1].startswith("hwt1.")
    assert browser.run(INSIDE, "fixed", ".percent") != "40 %"

    # A renewal that fails: the bar says so, and goes on when there is a ticket again.
    app.refuses = True
    shows("renewed", "for", "[part=note]")
    stack.store.append(claim, 3, [progress(0.6)])
    shows("token", "60 %")
    assert browser.run(INSIDE, "renewed", ".percent") != "60 %"
    app.refuses = False
    shows("renewed", "60 %")

    # A token may do what its key may.
    browser.run("document.getElementById('token').shadowRoot.querySelector('[part=cancel]').click()")
    browser.until(lambda: stack.get(f"/jobs/{claim.ref.id}")[1]["cancel_requested"], "the cancellation")
    stack.store.end(claim, State.SUCCEEDED)
    for element in ("renewed", "token"):
        shows(element, "succeeded", "[part=state]")
    assert credentials.KEY not in stack.log("web")
    assert "hwt1." not in stack.log("web")


def test_a_page_of_another_origin_uploads_by_the_client_and_by_uppy(
    app: App, browser: Browser | Firefox
) -> None:
    browser.load(f"http://localhost:{app.server_port}/uppy.js")
    browser.run(SENDS, app.stack.url, credentials.KEY)
    browser.until(lambda: browser.run("return made.uppy ?? made.error"), "both uploads")
    made = browser.run("return made")
    assert "error" not in made, made
    for one in (made["client"], made["uppy"]):
        assert (one["name"], one["size"], one["media_type"]) == ("film.mp4", 3_000_000, "video/mp4")
        kept = app.stack.directory / "uploads" / one["id"] / "data"
        assert kept.read_bytes() == b"\x06" * 3_000_000


def test_a_stream_ends_after_its_ticket(app: App) -> None:
    claim = running_by_hand(app.stack)
    app.job = claim.ref.id
    made = app.ticket(TTL_S)
    with Reader(app.stack.url, made["events_url"], timeout=70) as reader:
        assert reader.status == 200
        assert [event.event for event in reader][-1] == "shutdown"
    assert app.stack.call("GET", made["events_url"])[0] == 401
    app.stack.store.end(claim, State.SUCCEEDED)

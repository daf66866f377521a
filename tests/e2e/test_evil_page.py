"""A page of another origin, in the browser of somebody who uses Headway, learns nothing and does nothing.

What it tries is in tests/e2e/evil_page/attacks.js. One page may do all of it, so that each of these attacks
is known to work where nothing stands in its way.
"""

from __future__ import annotations

import base64
import io
import json
import wave
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from headway.contract.encoding import dumps
from headway.contract.events import EventType
from headway.contract.records import Artifact, artifacts_json
from headway.contract.states import State
from headway.contract.store import Report
from tests.support.browser import Browser
from tests.support.evil_site import EvilSite
from tests.support.firefox import Firefox
from tests.support.manual_jobs import running_by_hand
from tests.support.stack import Stack

pytestmark = pytest.mark.long

PATIENCE_S = 180
ORIGINS = {
    "another site": "http://evil.test:{port}/evil/page",
    "another port of this host": "http://127.0.0.1:{port}/evil/page",
    "another name of this machine": "http://localhost:{port}/evil/page",
    "a sandboxed frame": "http://127.0.0.1:{port}/evil/sandboxed",
    "a name that was rebound": "http://rebound.test:{port}/evil/rebound",
}
CASES = [
    *(("chromium", "keys", origin) for origin in ORIGINS),
    ("chromium", "none", "another site"),
    ("chromium", "none", "a name that was rebound"),
    ("firefox", "keys", "another port of this host"),
    ("firefox", "keys", "a name that was rebound"),
    ("firefox", "none", "another site"),
    ("firefox", "none", "a sandboxed frame"),
]
"""Each takes seconds of a core, so not all of them: each origin with both browsers or with both kinds of
authentication, and a session's cookie, which is more to lose, with each origin."""
PICTURE = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
)
AT_HOME = {
    "post of JSON", "put and delete", "fetch", "XMLHttpRequest", "EventSource", "image",
    "image with credentials", "sound", "video", "script", "script of the docs", "module", "style sheet",
    "style sheet that imports", "icon", "object", "worker",
}  # fmt: skip
"""What a page of the service's own origin learns. Nothing of Headway's is to be had as a WebSocket, a font
or a service worker, or in a frame."""
SIGN_IN = """
const [token] = arguments;
const headers = {Authorization: `Bearer ${token}`};
return fetch("/session", {method: "POST", headers}).then((answer) => answer.status);
"""


@pytest.fixture
def browser(either_browser: Browser | Firefox) -> Browser | Firefox:
    either_browser.signs_in = False
    return either_browser


@pytest.fixture(scope="module")
def evil() -> Iterator[EvilSite]:
    with EvilSite() as site:
        yield site


@pytest.fixture(scope="module", params=["none", "keys"])
def service(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    directory = tmp_path_factory.mktemp(f"service-{request.param}")
    with Stack(directory, AUTH=request.param, ALLOWED_HOSTS="ours.test", DRAIN_S="0") as stack:
        stack.start_web()
        described = {"name": "simulate", "title": "", "queue": "nobody", "params": {}}
        stack.store.registry.register("worker", {"simulate": json.dumps(described)}, 3600)
        yield stack


def wav() -> bytes:
    out = io.BytesIO()
    with wave.open(out, "wb") as sound:
        sound.setparams((1, 1, 8000, 800, "NONE", ""))
        sound.writeframes(bytes(800))
    return out.getvalue()


@dataclass(frozen=True)
class Target:
    """What there is in the service for a page to learn or to spoil."""

    stack: Stack
    headers: dict[str, str]
    job: str
    ended: str
    upload: str

    def call(self, method: str, path: str, body: Any = None) -> Any:
        status, _, answer = self.stack.call(method, path, body, self.headers)
        assert status < 300, answer
        return json.loads(answer)

    def state(self) -> Any:
        jobs = [
            (job["id"], job["state"], job["cancel_requested"])
            for job in self.call("GET", "/jobs?limit=500")["items"]
        ]
        return jobs, sorted(path.name for path in (self.stack.directory / "uploads").iterdir())


def target(stack: Stack) -> Target:
    headers = {}
    if stack.environ["AUTH"] != "none":
        token = stack.store.access.create("local", ["read", "submit", "cancel", "ops"])[1]
        headers = {"Authorization": f"Bearer {token}"}
    live, ended = running_by_hand(stack), running_by_hand(stack)
    kept = stack.directory / "artifacts" / ended.ref.id / "1"
    kept.mkdir(parents=True)
    artifacts = []
    for name, media_type, content in (
        ("picture.png", "image/png", PICTURE),
        ("sound.wav", "audio/wav", wav()),
    ):
        (kept / name).write_bytes(content)
        url = f"/jobs/{ended.ref.id}/artifacts/{name}"
        artifacts.append(Artifact(name=name, media_type=media_type, size=len(content), url=url, attempt=1))
    body = dumps({"attempt": 1, **artifacts[0].model_dump()})
    stack.store.append(ended, 1, [Report(EventType.ARTIFACT, body, "artifacts", artifacts_json(artifacts))])
    stack.store.end(ended, State.SUCCEEDED)
    upload = json.loads(stack.call("POST", "/uploads", b"x", headers)[2])["id"]
    return Target(stack, headers, live.ref.id, ended.ref.id, upload)


def attack(
    browser: Browser | Firefox, evil: EvilSite, there: Target, url: str, **more: Any
) -> dict[str, str]:
    """What the page at `url` has learned."""
    known = {
        "job": there.job,
        "ended": there.ended,
        "upload": there.upload,
        "probes": ["/healthz", "/readyz"],
        "patience_ms": 2000,
    }
    evil.aim(service=there.stack.url, **{**known, **more})
    # Behind a window that came late, the page's clock would tick once a second.
    browser.close_others()
    browser.load(url.format(port=evil.port))
    browser.until(lambda: browser.run("return 'found' in window"), "the attacks to end", PATIENCE_S)
    return dict(browser.run("return window.found"))


def signed_in(browser: Browser | Firefox, there: Target) -> None:
    if there.headers:
        browser.load(f"{there.stack.url}/healthz")
        token = there.headers["Authorization"].removeprefix("Bearer ")
        assert browser.run(SIGN_IN, token) == 200


@pytest.mark.parametrize(
    ("either_browser", "service", "origin"), CASES, indirect=["either_browser", "service"]
)
def test_a_page_of_another_origin_learns_nothing_and_does_nothing(
    browser: Browser | Firefox, evil: EvilSite, service: Stack, origin: str
) -> None:
    there = target(service)
    signed_in(browser, there)
    before = there.state()
    assert attack(browser, evil, there, ORIGINS[origin]) == {}
    for text in browser.frame_texts():
        if "Nothing to see here" not in text:  # the page itself, in a frame of its own
            assert there.job not in text
            assert "Headway" not in text
    browser.close_others()
    assert there.state() == before
    if there.headers:
        browser.load(f"{there.stack.url}/healthz")
        who = browser.run("return fetch('/session').then((answer) => answer.json())")
        assert who["kind"] == "session", "still signed in"


@pytest.mark.parametrize("service", ["none"], indirect=True)
def test_the_same_page_does_and_learns_all_of_it_where_it_is_at_home(
    browser: Browser | Firefox, evil: EvilSite, service: Stack
) -> None:
    there = target(service)
    _, uploads = there.state()
    # Here each attack succeeds, however busy the machine is.
    learned = attack(browser, evil, there, "http://ours.test:{port}/evil/rebound", patience_ms=20_000)
    browser.close_others()
    assert set(learned) >= AT_HOME
    jobs, uploads_now = there.state()
    assert (there.job, "running", True) in jobs, "canceled"
    assert sum(state == "queued" for _, state, _ in jobs) > 5, "submitted and retried"
    assert len(set(uploads_now) - set(uploads)) > 5

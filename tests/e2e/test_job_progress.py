"""`<job-progress>` in a real Chromium, under the policy of the service's own pages."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from service.contract.events import EventType, dumps
from service.contract.states import ErrorCode, State
from service.contract.store import Report
from tests.conftest import missing
from tests.e2e.browser import Browser, installed
from tests.e2e.test_dashboard import HOSTILE, log, progress, running_by_hand
from tests.npm import package
from tests.stack import Stack

PAGE = """
const [html, done] = arguments;
document.body.className = "";
document.body.innerHTML = `<main><h1>Jobs</h1>${html}</main>`;
const script = document.createElement("script");
script.type = "module";
script.src = "/web/job-progress.js";
script.onload = () => done();
document.head.append(script);
"""
INSIDE = """
const [selector] = arguments;
const root = document.querySelector("job-progress").shadowRoot;
return [...root.querySelectorAll(selector)].map((node) => node.textContent);
"""


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    if installed() is None:
        missing("chromium with chromedriver")
    browser = Browser(tmp_path_factory.mktemp("profile"), tmp_path_factory.mktemp("downloads"))
    yield browser
    browser.close()


class Page:
    """A page with one element, on the service's origin and under its policy."""

    def __init__(self, browser: Browser, url: str, html: str) -> None:
        self.browser = browser
        browser.driver.get(f"{url}/")
        browser.driver.execute_async_script(PAGE, html)

    def texts(self, selector: str) -> list[str]:
        return list(self.browser.run(INSIDE, selector))

    def text(self, selector: str) -> str:
        return " | ".join(self.texts(selector))

    def until(self, selector: str, text: str) -> None:
        self.browser.until(lambda: text in self.text(selector), f"{text!r} in {selector}")

    def bar(self, name: str) -> Any:
        bar = "document.querySelector('job-progress').shadowRoot.querySelector('.bar')"
        return self.browser.run(f"return {bar}.getAttribute(arguments[0])", name)

    def click(self, selector: str) -> None:
        script = "document.querySelector('job-progress').shadowRoot.querySelector(arguments[0]).click()"
        self.browser.run(script, selector)


def report(**fields: Any) -> Report:
    body = dumps(fields)
    return Report(EventType.PROGRESS, body, "progress", body)


def test_a_bar_moves_names_its_stage_and_pace_and_ends(chromium: Browser, stack: Stack) -> None:
    claim = running_by_hand(stack)
    page = Page(chromium, stack.url, f'<job-progress job="{claim.ref.id}" log></job-progress>')
    page.until("[part=state]", "running")
    assert page.bar("aria-valuenow") is None, "nothing is known of its total"
    stage = {"name": "encode", "index": 2, "count": 3}
    fields = {"fraction": 0.4, "current": 40, "total": 100, "unit": "frames", "stage": stage}
    stack.store.append(claim, 1, [report(**fields, rate=20.0, eta_s=3.0), log("a line")])
    page.until(".percent", "40 %")
    assert page.bar("aria-valuenow") == "40"
    assert page.bar("aria-valuetext") == "running, 40 %"
    assert page.text("[part=stage]") == "encode (2/3)"
    assert page.text("[part=pace]") == "40 of 100 frames · 20 frames/s · 3.0 s left"
    page.click("summary")
    page.until(".log", "a line")
    stack.store.end(claim, State.SUCCEEDED)
    page.until("[part=state]", "succeeded")
    assert page.bar("aria-valuenow") == "100"
    page.until("[aria-live=polite]", "succeeded")


def test_it_cancels_and_says_why_a_job_failed(chromium: Browser, stack: Stack) -> None:
    claim = running_by_hand(stack)
    page = Page(chromium, stack.url, f'<job-progress job="{claim.ref.id}"></job-progress>')
    page.until("button", "Cancel")
    page.click("[part=cancel]")
    page.until("[part=cancel]", "Canceling…")
    assert stack.get(f"/jobs/{claim.ref.id}")[1]["cancel_requested"]
    stack.store.end(claim, State.FAILED, error=(ErrorCode.ERROR, "the disk is full"))
    page.until("[part=error]", "error: the disk is full")
    assert page.bar("aria-valuenow") != "100"


def test_a_group_shows_all_its_jobs_and_those_that_join(chromium: Browser, stack: Stack) -> None:
    first = running_by_hand(stack, group="bars")
    page = Page(chromium, stack.url, '<job-progress group="bars"></job-progress>')
    page.until(".name", "by.hand")
    second = running_by_hand(stack, group="bars")
    running_by_hand(stack, group="other")
    stack.store.append(second, 1, [progress(0.7)])
    page.until(".percent", "70 %")
    assert len(page.texts(".job")) == 2
    for claim in (first, second):
        stack.store.end(claim, State.SUCCEEDED)
    chromium.until(lambda: page.texts("[part=state]") == ["succeeded", "succeeded"], "both to end")


def test_texts_from_outside_only_appear(chromium: Browser, stack: Stack) -> None:
    claim = running_by_hand(stack, labels={"name": HOSTILE})
    page = Page(chromium, stack.url, f'<job-progress jobs="{claim.ref.id}" log></job-progress>')
    page.until(".name", "<img src=x")
    stack.store.append(
        claim, 1, [progress(0.5, f"\u202eevil{HOSTILE}"), log("x" * 8000), log("a\x1b[31m\u202eb")]
    )
    page.until("[part=message]", "\ufffdevil<img")
    page.click("summary")
    page.until(".log", "a\ufffd[31m\ufffdb")
    assert len(page.text(".log")) < 3000
    stack.store.end(claim, State.FAILED, error=(ErrorCode.ERROR, HOSTILE))
    page.until("[part=error]", "<script>")
    assert chromium.run("return window.hacked ?? null") is None


def test_what_is_not_known_to_be_fresh_does_not_look_fresh(chromium: Browser, own_stack: Stack) -> None:
    own_stack.start_web()
    claim = running_by_hand(own_stack)
    page = Page(chromium, own_stack.url, f'<job-progress job="{claim.ref.id}"></job-progress>')
    own_stack.store.append(claim, 1, [report(fraction=0.2, rate=5.0, eta_s=60.0, current=2, unit="MB")])
    page.until("[part=pace]", "left")
    own_stack.stop("web", signal.SIGKILL)
    page.until("[part=note]", "out of date since")
    assert page.texts(".job.stale")
    assert "left" not in page.text("[part=pace]"), "nobody knows how long it takes"
    own_stack.store.append(claim, 2, [progress(0.6)])
    own_stack.start_web()
    page.until(".percent", "60 %")
    assert page.texts(".job.stale") == []
    # Until it has heard a heartbeat, the page does not know how long silence may last.
    before = own_stack.store.redis.time()[0]
    chromium.until(lambda: own_stack.store.redis.time()[0] > before + 2, "two heartbeats")
    os.killpg(own_stack.pid("web"), signal.SIGSTOP)
    try:
        page.until("[part=note]", "Out of date since")
    finally:
        os.killpg(own_stack.pid("web"), signal.SIGCONT)
    own_stack.store.end(claim, State.SUCCEEDED)
    page.until("[part=state]", "succeeded")
    assert page.text("[part=note]") == ""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(chromium: Browser, stack: Stack, scheme: str) -> None:
    claims = [running_by_hand(stack, group=f"axe {scheme}") for _ in range(5)]
    fields = {
        "current": 40,
        "total": 100,
        "unit": "frames",
        "rate": 20.0,
        "eta_s": 3.0,
        "message": "going on",
    }
    stage = {"name": "encode", "index": 2, "count": 3}
    for claim in claims[1:]:
        stack.store.append(claim, 1, [report(fraction=0.4, stage=stage, **fields)])
    stack.store.end(claims[2], State.SUCCEEDED)
    stack.store.end(claims[3], State.FAILED, error=(ErrorCode.ERROR, "the disk is full"))
    stack.store.end(claims[4], State.CANCELED, error=(ErrorCode.CANCELED, "the job was canceled"))
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    chromium.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    page = Page(chromium, stack.url, f'<job-progress group="axe {scheme}" log></job-progress>')
    chromium.until(lambda: len(page.texts(".job")) == 5, "all jobs")
    chromium.run(package("axe-core/axe.min.js").read_text("utf-8"))
    found = chromium.driver.execute_async_script("const [done] = arguments; axe.run(document).then(done)")
    chromium.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    problems = [(one["id"], one["help"], [n["html"] for n in one["nodes"]]) for one in found["violations"]]
    assert problems == []
    for claim in claims[:2]:
        stack.store.end(claim, State.SUCCEEDED)


def test_while_the_service_has_no_store_the_bar_is_out_of_date(chromium: Browser, own_stack: Stack) -> None:
    own_stack.start_web()
    claim = running_by_hand(own_stack)
    page = Page(chromium, own_stack.url, f'<job-progress job="{claim.ref.id}"></job-progress>')
    own_stack.store.append(claim, 1, [progress(0.2)])
    page.until(".percent", "20 %")
    valkey = own_stack.valkey.process.pid
    os.kill(valkey, signal.SIGSTOP)
    try:
        page.until("[part=note]", "Out of date since")
    finally:
        os.kill(valkey, signal.SIGCONT)
    chromium.until(lambda: page.texts(".job.stale") == [], "the bar to be fresh again")
    own_stack.store.end(claim, State.SUCCEEDED)
    page.until("[part=state]", "succeeded")

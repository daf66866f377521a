"""`<job-progress>` in a real Chromium, under the policy of the service's own pages."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from headway.contract.encoding import dumps
from headway.contract.events import EventType
from headway.contract.states import ErrorCode, State
from headway.contract.store import Report
from tests.support.browser import Browser
from tests.support.manual_jobs import HOSTILE, log, progress, running_by_hand
from tests.support.npm import package
from tests.support.stack import Stack

PAGE = """
const [form, html, done] = arguments;
Object.assign(document.documentElement, {lang: "en"});
document.title = "Jobs";
// The address's own page has none, and axe takes it for white.
document.body.style.background = "Canvas";
document.body.innerHTML = `<main><h1>Jobs</h1>${html}</main>`;
const script = document.createElement("script");
script.type = "module";
script.src = `/web/${form}`;
script.onload = () => done();
document.head.append(script);
"""
ONE_FILE = "job-progress.min.js"
MODULES = "job-progress.js"
INSIDE = """
const [selector] = arguments;
const root = document.querySelector("job-progress").shadowRoot;
return [...root.querySelectorAll(selector)].map((node) => node.textContent);
"""


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("browser")) as browser:
        yield browser


class Page:
    """A page with one element, on the origin of the service."""

    def __init__(
        self, browser: Browser, url: str, html: str, *, form: str = ONE_FILE, on: str = "/healthz"
    ) -> None:
        self.browser = browser
        browser.load(f"{url}{on}")
        browser.driver.execute_async_script(PAGE, form, html)

    def texts(self, selector: str) -> list[str]:
        return list(self.browser.run(INSIDE, selector))

    def text(self, selector: str) -> str:
        return " | ".join(self.texts(selector))

    def until(self, selector: str, text: str) -> None:
        self.browser.until(lambda: text in self.text(selector), f"{text!r} in {selector}")

    def bar(self, name: str) -> Any:
        bar = "document.querySelector('job-progress').shadowRoot.querySelector('.bar')"
        return self.browser.run(f"return {bar}.getAttribute(arguments[0])", name)

    def style(self, selector: str, name: str) -> str:
        node = "document.querySelector('job-progress').shadowRoot.querySelector(arguments[0])"
        return str(self.browser.run(f"return getComputedStyle({node})[arguments[1]]", selector, name))

    def edges(self, selector: str) -> tuple[float, float]:
        """Left and right, px."""
        node = "document.querySelector('job-progress').shadowRoot.querySelector(arguments[0])"
        script = f"const {{left, right}} = {node}.getBoundingClientRect(); return [left, right]"
        left, right = self.browser.run(script, selector)
        return left, right

    def click(self, selector: str) -> None:
        script = "document.querySelector('job-progress').shadowRoot.querySelector(arguments[0]).click()"
        self.browser.run(script, selector)


def report(**fields: Any) -> Report:
    body = dumps(fields)
    return Report(EventType.PROGRESS, body, "progress", body)


@contextlib.contextmanager
def emulated(chromium: Browser, name: str, value: str) -> Iterator[None]:
    """What the user prefers, as CSS is told."""
    command = "Emulation.setEmulatedMedia"
    chromium.driver.execute_cdp_cmd(command, {"features": [{"name": name, "value": value}]})
    try:
        yield
    finally:
        chromium.driver.execute_cdp_cmd(command, {"features": []})


@pytest.mark.parametrize("form", [ONE_FILE, MODULES])
def test_a_bar_moves_names_its_stage_and_pace_and_ends(chromium: Browser, stack: Stack, form: str) -> None:
    claim = running_by_hand(stack)
    html = f'<job-progress job="{claim.ref.id}" log></job-progress>'
    page = Page(chromium, stack.url, html, form=form)
    page.until("[part=state]", "running")
    assert page.bar("aria-valuenow") is None, "nothing is known of its total"
    stage = {"name": "encode", "index": 2, "count": 3}
    fields = {"fraction": 0.4, "current": 40, "total": 100, "unit": "frames", "stage": stage}
    stack.store.append(claim, 1, [report(**fields, rate=20.0, eta_s=3.0), log("a line")])
    page.until(".percent", "40 %")
    assert page.bar("aria-valuenow") == "40"
    assert page.bar("aria-valuetext") == "running, 40 %"
    assert page.text("[part=stage]") == "encode (2/3)"
    assert page.text("[part=pace]") == "3 s left · 20 frames/s · 40 of 100 frames"
    page.until("summary", "Log")
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
    stage = {"name": f"\u202e{HOSTILE}", "index": 1, "count": 1}
    stack.store.append(
        claim,
        1,
        [
            report(fraction=0.5, message=f"\u202eevil{HOSTILE}", stage=stage, current=1, unit=HOSTILE),
            log("x" * 1_000_000),
            log("a\x1b[31m\u202eb\tc"),
        ],
    )
    page.until("[part=message]", "\ufffdevil<img")
    page.until("[part=stage]", "\ufffd<img")
    page.until("summary", "Log")
    page.click("summary")
    page.until(".log", "a\ufffd[31m\ufffdb\tc")
    assert len(page.text(".log")) < 12_000
    stack.store.end(claim, State.FAILED, error=(ErrorCode.ERROR, HOSTILE))
    page.until("[part=error]", "<script>")
    assert chromium.run("return window.hacked ?? null") is None
    assert page.texts("img, script") == []
    width = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert chromium.run(width) <= 0, "nothing pushes the page aside"


def test_the_log_begins_with_what_was_said_before_anybody_looked(chromium: Browser, stack: Stack) -> None:
    claim = running_by_hand(stack)
    stack.store.append(claim, 1, [log("said early"), progress(0.1)])
    page = Page(chromium, stack.url, f'<job-progress job="{claim.ref.id}" log></job-progress>')
    page.until("summary", "Log")
    stack.store.append(claim, 2, [log("said while it was closed")])
    page.click("summary")
    page.until(".log", "said while it was closed")
    stack.store.append(claim, 3, [log("said now")])
    page.until(".log", "said now")
    lines = page.texts(".log [data-level=info] .text")
    assert lines == ["said early", "said while it was closed", "said now"]
    stack.store.end(claim, State.SUCCEEDED)


def test_a_page_with_a_running_bar_loads_one_file_of_8_kb(chromium: Browser, stack: Stack) -> None:
    claim = running_by_hand(stack)
    html = f'<job-progress job="{claim.ref.id}"></job-progress>'
    page = Page(chromium, stack.url, html, on="/healthz")
    stack.store.append(claim, 1, [progress(0.3)])
    page.until(".percent", "30 %")
    page.until("[part=cancel]", "Cancel")
    loaded = chromium.run(
        "return performance.getEntriesByType('resource').filter((one) => one.name.includes('/web/'))"
        ".map((one) => [new URL(one.name).pathname, one.encodedBodySize])"
    )
    assert [path for path, _ in loaded] == [f"/web/{ONE_FILE}"]
    assert loaded[0][1] <= 8192
    stack.store.end(claim, State.SUCCEEDED)


def test_both_forms_on_one_page_have_one_connection(chromium: Browser, own_stack: Stack) -> None:
    own_stack.start_web()
    claim = running_by_hand(own_stack)
    html = f'<job-progress job="{claim.ref.id}"></job-progress>'
    page = Page(chromium, own_stack.url, html, on="/healthz")
    page.until("[part=state]", "running")
    chromium.driver.execute_async_script(
        """
        const [id, done] = arguments;
        import("/web/jobs.js").then(({Headway}) => {
          window.job = new Headway().job(id);
          job.addEventListener("progress", () => {});
          done();
        });
        """,
        claim.ref.id,
    )
    own_stack.store.append(claim, 1, [progress(0.3)])
    page.until(".percent", "30 %")
    chromium.until(lambda: chromium.run("return job.state?.progress?.fraction") == 0.3, "the other, too")
    chromium.until(lambda: own_stack.metric("headway_streams_open") == 1, "one connection")
    own_stack.store.end(claim, State.SUCCEEDED)
    page.until("[part=state]", "succeeded")


def test_a_screen_reader_is_told_every_five_seconds_at_most(chromium: Browser, stack: Stack) -> None:
    claim = running_by_hand(stack)
    Page(chromium, stack.url, f'<job-progress job="{claim.ref.id}"></job-progress>')
    chromium.run(
        """
        const node = document.querySelector("job-progress").shadowRoot.querySelector("[aria-live=polite]");
        const told = () => (window.told ??= []).push([performance.now(), node.textContent]);
        if (node.textContent) told();
        new MutationObserver(told).observe(node, {childList: true});
        """
    )
    step = 0

    def told() -> list[tuple[float, str]]:
        nonlocal step
        step += 1
        stack.store.append(claim, step, [progress(min(0.99, step / 1000))])
        return list(chromium.run("return window.told ?? []"))

    times = chromium.until(lambda: len(found := told()) >= 2 and found, "the second announcement")
    assert times[1][0] - times[0][0] >= 4900
    stack.store.end(claim, State.SUCCEEDED)
    chromium.until(lambda: chromium.run("return told.at(-1)[1]") == "succeeded, 100 %", "the end, too")


def test_who_prefers_less_motion_gets_none(chromium: Browser, stack: Stack) -> None:
    claim = running_by_hand(stack)
    page = Page(chromium, stack.url, f'<job-progress job="{claim.ref.id}"></job-progress>')
    page.until("[part=state]", "running")
    assert page.style(".fill", "animationName") == "unknown"
    with emulated(chromium, "prefers-reduced-motion", "reduce"):
        assert page.style(".fill", "animationName") == "none"
        stack.store.append(claim, 1, [progress(0.5)])
        page.until(".percent", "50 %")
        assert page.style(".fill", "transitionDuration") == "0s"
    assert page.style(".fill", "transitionDuration") == "0.25s"
    stack.store.end(claim, State.SUCCEEDED)


def test_from_right_to_left_the_bar_fills_from_the_right(chromium: Browser, stack: Stack) -> None:
    claim = running_by_hand(stack, labels={"name": "فيديو"})
    html = f'<div dir="rtl"><job-progress jobs="{claim.ref.id}"></job-progress></div>'
    page = Page(chromium, stack.url, html)
    stack.store.append(claim, 1, [progress(0.5)])
    page.until(".percent", "50 %")
    chromium.until(lambda: page.edges(".fill")[0] > page.edges(".bar")[0] + 20, "half of it")
    assert page.edges(".fill")[1] == page.edges(".bar")[1]
    assert page.edges(".name")[0] > page.edges(".percent")[1]
    stack.store.end(claim, State.SUCCEEDED)


def test_a_second_attempt_is_shown_as_one(chromium: Browser, stack: Stack) -> None:
    claim = running_by_hand(stack, max_attempts=3)
    page = Page(chromium, stack.url, f'<job-progress job="{claim.ref.id}"></job-progress>')
    stack.store.append(claim, 1, [progress(0.5)])
    page.until(".percent", "50 %")
    stack.store.retry(claim, delay_s=0, reason="again")
    page.until("[part=state]", "retrying")
    again = stack.store.claim(claim.ref, token="again", lease_s=60, worker="w")
    assert again is not None
    page.until("[part=state]", "running, attempt 2 of 3")
    assert page.text(".percent") == "", "it begins anew"
    stack.store.end(again, State.SUCCEEDED)


def test_what_is_not_known_to_be_fresh_does_not_look_fresh(chromium: Browser, own_stack: Stack) -> None:
    own_stack.start_web()
    claim = running_by_hand(own_stack)
    page = Page(chromium, own_stack.url, f'<job-progress job="{claim.ref.id}"></job-progress>')
    own_stack.store.append(claim, 1, [report(fraction=0.2, rate=5.0, eta_s=60.0, current=2, unit="MB")])
    page.until("[part=pace]", "left")
    own_stack.stop("web", signal.SIGKILL)
    page.until("[part=note]", "Reconnecting for")
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
        page.until("[part=note]", "Out of date for")
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
    with emulated(chromium, "prefers-color-scheme", scheme):
        page = Page(chromium, stack.url, f'<job-progress group="axe {scheme}" log></job-progress>')
        chromium.until(lambda: len(page.texts("details")) == 5, "all jobs")
        chromium.run(package("axe-core/axe.min.js").read_text("utf-8"))
        axe = "const [done] = arguments; axe.run(document).then(done)"
        found = chromium.driver.execute_async_script(axe)
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
        page.until("[part=note]", "Out of date for")
    finally:
        os.kill(valkey, signal.SIGCONT)
    chromium.until(lambda: page.texts(".job.stale") == [], "the bar to be fresh again")
    own_stack.store.end(claim, State.SUCCEEDED)
    page.until("[part=state]", "succeeded")

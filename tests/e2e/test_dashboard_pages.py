"""What holds for every page of the dashboard: for everybody's eyes, screens and keys, and whatever a
job says."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator

import pytest
from selenium.webdriver.common.keys import Keys

from tests.e2e.gallery import Page, furnish
from tests.support.browser import Browser, card
from tests.support.npm import package
from tests.support.stack import Stack

pytestmark = pytest.mark.long

NAMES = [
    "list",
    "nothing found",
    "waiting",
    "running",
    "failed",
    "succeeded",
    "no job",
    "form",
    "hostile list",
    "hostile running",
    "hostile job",
    "hostile form",
    "workers",
]
WIDTHS = (1280, 360)
SCHEMES = ("light", "dark")

AXE = """
const done = arguments[0];
// A finger's targets are looked at as well, which axe does only if it is told to.
axe.run({rules: {"target-size": {enabled: true}}}).then(({violations}) => done(violations));
"""

WIDE = """
const seen = [...document.querySelectorAll("body *")].filter((one) => {
  const {right, width} = one.getBoundingClientRect();
  return width > 0 && right > arguments[0] + 1 && !one.closest(SCROLLS);
});
const blamed = seen.slice(0, 5).map((one) => one.outerHTML.slice(0, 200));
return [document.documentElement.scrollWidth, ...blamed];
""".replace("SCROLLS", '".log, .json, fieldset, job-card, .job, .error, .hidden-text, select, svg"')
"""How wide the page is, and what of it is to blame. Some boxes scroll or cut off by themselves."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Stack, dict[str, Page]]]:
    """A service and its pages, by name."""
    stack = Stack(tmp_path_factory.mktemp("site"), HEARTBEAT_S="1", DRAIN_S="1")
    try:
        stack.start_web()
        yield stack, {one.name: one for one in furnish(stack)}
    finally:
        stack.close()


@pytest.fixture
def pages(site: tuple[Stack, dict[str, Page]], chromium: Browser) -> Iterator[dict[str, Page]]:
    """The pages, and a browser that asks no one else for anything, and whose console stays empty."""
    chromium.load("about:blank")
    chromium.console_errors()
    chromium.requested_origins()
    try:
        yield site[1]
        assert chromium.requested_origins() <= {site[0].url}
        # The console reports every answer that is an error; of a job that is not there one is due.
        assert [one for one in chromium.console_errors() if "/jobs/0-AAAA" not in one] == []
    finally:
        chromium.looks_itself()


def opened(browser: Browser, site: tuple[Stack, dict[str, Page]], name: str) -> None:
    stack, pages = site
    browser.load("about:blank")
    browser.open(f"{stack.url}/{pages[name].address}")
    browser.until(lambda: browser.all(pages[name].there), name)
    browser.until_still()


def accessibility(browser: Browser) -> list[str]:
    """What axe finds on the page that is shown, as it looks now."""
    browser.run(f"if (!window.axe) {{ {package('axe-core/axe.min.js').read_text()} }}")
    found = browser.driver.execute_async_script(AXE)
    return [
        f"{one['id']}: {node['target']} {node['failureSummary']}" for one in found for node in one["nodes"]
    ]


@pytest.mark.parametrize("name", NAMES)
def test_axe_finds_nothing_and_nothing_is_wider_than_the_screen(
    name: str, chromium: Browser, site: tuple[Stack, dict[str, Page]], pages: dict[str, Page]
) -> None:
    assert set(pages) == set(NAMES)
    opened(chromium, site, name)
    for width in WIDTHS:
        for scheme in SCHEMES:
            chromium.looks(width, scheme)
            chromium.until_still()
            found = chromium.run(WIDE, width)
            assert found[0] <= width, f"{name} at {width}: {found}"
            # However much a job says, what else there is can be reached.
            assert chromium.run("return document.documentElement.scrollHeight") < 6000
            assert accessibility(chromium) == [], f"{name} at {width}, {scheme}"
    assert chromium.run("return window.hacked") is None
    assert not chromium.all("main script, main iframe, body > img, [onerror]")
    title, headings = chromium.driver.title, chromium.all("h1")
    assert title.endswith("Headway")
    assert len(headings) == 1


def test_axe_finds_nothing_in_the_dialog_and_none_in_a_page_that_is_out_of_date(
    chromium: Browser, own_stack: Stack
) -> None:
    own_stack.start_web()
    one = {entry.name: entry for entry in furnish(own_stack)}
    try:
        opened(chromium, (own_stack, one), "list")
        for scheme in SCHEMES:
            chromium.looks(1280, scheme)
            chromium.press("?")
            chromium.until(lambda: chromium.find("#help").is_displayed(), "the dialog")
            assert accessibility(chromium) == []
            chromium.press(Keys.ESCAPE)
            chromium.find("#many-open").click()
            assert accessibility(chromium) == []
            chromium.press(Keys.ESCAPE)
        chromium.go("#/workers")
        chromium.until(lambda: chromium.all(one["workers"].there), "the workers")
        own_stack.stop("web", signal.SIGKILL)
        lost = "workers-page.out-of-date"
        chromium.until(lambda: chromium.connection().startswith("Reconnecting for"), "it to say so")
        chromium.until(lambda: chromium.all(lost), "the workers to be out of date")
        for name in ("workers", "list", "running"):
            chromium.go(one[name].address)
            there = "job-page" if name == "running" else one[name].there
            chromium.until(lambda there=there: chromium.all(there), name)
            for width, scheme in ((1280, "light"), (360, "dark"), (360, "light")):
                chromium.looks(width, scheme)
                chromium.until_still()
                assert chromium.run(WIDE, width)[0] <= width
                assert accessibility(chromium) == [], f"{name} at {width}, {scheme}"
    finally:
        chromium.looks_itself()


def test_the_page_comes_with_a_policy_that_allows_nothing_inline(stack: Stack) -> None:
    _, headers, text = stack.call("GET", "/")
    assert "script-src 'self'" in headers["content-security-policy"]
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert not re.search(rb"<style| style=| on\w+=|<script(?! type=\"module\" src=\"/)", text)
    for basic in (
        b'<html lang="en">',
        b'name="viewport"',
        b'name="description"',
        b'rel="icon"',
        b"<noscript>",
    ):
        assert basic in text


REACHABLE = """
const seen = (one) => one.checkVisibility({visibilityProperty: true});
const kinds = "a[href], button, input, select, textarea, summary, [tabindex='0'], video, audio";
const groups = new Set();
return [...document.querySelectorAll(kinds)].filter((one) => {
  if (!seen(one) || one.disabled || one.closest("dialog:not([open])")) return false;
  // The labels of a card are reached on the job's page: eight stops at each would be in the way.
  if (one.matches("job-card .tag")) return false;
  // Of radio buttons the Tab key meets one; the arrows do the rest.
  if (one.type !== "radio") return true;
  const first = !groups.has(one.name);
  groups.add(one.name);
  return first;
}).length;
"""

STOP = """
const one = document.activeElement;
if (one === document.body) return null;
window.stops ??= new Set();
const known = window.stops.has(one);
window.stops.add(one);
const shows = (node) => {
  const {outlineStyle, outlineWidth, boxShadow} = getComputedStyle(node);
  return (outlineStyle !== "none" && outlineWidth !== "0px") || boxShadow !== "none";
};
let [visible, node] = [false, one];
for (let up = 0; node && up < 4; up += 1, node = node.parentElement) visible ||= shows(node);
return {known, visible, what: one.outerHTML.slice(0, 120)};
"""


@pytest.mark.parametrize("name", ["list", "running", "failed", "succeeded", "form", "workers"])
def test_the_tab_key_reaches_everything_and_shows_where_it_is(
    name: str, chromium: Browser, site: tuple[Stack, dict[str, Page]], pages: dict[str, Page]
) -> None:
    opened(chromium, site, name)
    everything = chromium.run(REACHABLE)
    chromium.run("document.activeElement.blur(); window.stops = new Set()")
    found: list[str] = []
    for _ in range(3 * everything):
        chromium.tab()
        stop = chromium.run(STOP)
        if stop is None:
            break
        if stop["known"]:  # a player has stops of its own
            continue
        assert stop["visible"], stop["what"]
        found.append(stop["what"])
    assert len(found) >= everything, found
    assert "Skip to content" in found[0]


def test_a_job_is_submitted_watched_canceled_and_done_again_by_keys_alone(
    browser: Browser, stack: Stack
) -> None:
    focused = "return document.activeElement.matches(arguments[0])"

    def tab_to(selector: str) -> None:
        for _ in range(60):
            if browser.run(focused, selector):
                return
            browser.tab()
        raise AssertionError(f"the Tab key does not come to {selector}")

    browser.press("n")
    browser.until(lambda: browser.all("#type option[value=simulate]"), "the form")
    tab_to("#type")
    browser.press("simulate")
    browser.until(lambda: browser.all("[data-field=duration_s] input"), "its fields")
    tab_to("[data-field=duration_s] input")
    browser.press(Keys.CONTROL + "a")
    browser.press("60")
    browser.press(Keys.ENTER)
    job_id = str(browser.until(lambda: browser.run(OPEN), "the page of the job"))
    browser.until(lambda: browser.run(focused, "job-page h2"), "the focus at its heading")
    browser.until_state(job_id, "running")
    tab_to(".cancel")
    browser.press(Keys.ENTER)
    browser.until_state(job_id, "canceled")
    # The button is gone; who pressed it is at the next one.
    browser.until(lambda: browser.run(focused, ".again"), "the focus beside it")
    browser.press(Keys.ENTER)
    again = str(browser.until(lambda: (one := browser.run(OPEN)) != job_id and one, "the other job's page"))
    browser.until_state(again, "running")

    # Back in the list it goes on from there.
    browser.press(Keys.ESCAPE)
    browser.until(lambda: browser.run(focused, f"{card(again)} a"), "the focus at its card")
    tab_to(f"{card(again)} .cancel")
    browser.press(" ")
    browser.until_state(again, "canceled")
    assert browser.run(focused, f"{card(again)} a")

    # The filters: a state by arrows, a dialog that gives the focus back.
    browser.press("/")
    tab_to("[name=state]")
    browser.press(Keys.ARROW_LEFT)
    browser.until(lambda: browser.run("return location.hash") == "#/?state=canceled", "the last state")
    browser.until(lambda: browser.all(card(again)), "what is of it")
    browser.run("document.querySelector('#keys').focus()")
    browser.press(Keys.ENTER)
    browser.until(lambda: browser.find("#help").is_displayed(), "the dialog")
    browser.press(Keys.ESCAPE)
    browser.until(lambda: browser.run(focused, "#keys"), "the focus where it was")


OPEN = "return document.querySelector('job-page')?.dataset.id"


def test_a_worker_that_was_killed_is_silent_and_then_gone(chromium: Browser, own_stack: Stack) -> None:
    own_stack.start_web()
    own_stack.start_worker()
    job = own_stack.submit("simulate", {"duration_s": 60})
    chromium.open(f"{own_stack.url}/#/workers")
    held = f"workers-page .held a[href='#/jobs/{job['id']}']"
    chromium.until(lambda: chromium.all(held), "the job beside its worker")
    assert not chromium.all(".silent")
    own_stack.stop("worker", signal.SIGKILL)
    chromium.until(lambda: "No heartbeat for" in chromium.text(".worker.silent .silence"), "the silence")
    gone = "No worker is running: jobs wait until one starts."
    chromium.until(lambda: chromium.text("workers-page > .note") == gone, "it to be gone")
    assert not chromium.all(held)
    assert chromium.all("workers-page table tbody tr")

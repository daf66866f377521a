"""The recipes of docs/frontends.md, as they stand there, with the real libraries in a real Chromium."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from service.contract.states import State
from tests.e2e.browser import Browser
from tests.e2e.test_client import browser  # noqa: F401
from tests.e2e.test_dashboard import progress, running_by_hand
from tests.npm import package
from tests.stack import Stack

DOCS = Path(__file__).parent.parent.parent / "docs" / "frontends.md"
LIBRARIES = {
    "htmx.min.js": "htmx.org/dist/htmx.min.js",
    "sse.js": "htmx-ext-sse/sse.js",
    "react.production.min.js": "react/umd/react.production.min.js",
    "react-dom.production.min.js": "react-dom/umd/react-dom.production.min.js",
}


def recipe(name: str, job_id: str = "") -> str:
    found = re.search(rf"```html\n<!-- recipe: {name} -->\n(.*?)```", DOCS.read_text("utf-8"), re.S)
    assert found
    html = found[1].replace("JOB", job_id)
    return re.sub(
        r'<script src="/static/(.*?)"></script>',
        lambda m: f"<script>{package(LIBRARIES[m[1]]).read_text('utf-8')}</script>",
        html,
    )


def write(browser: Browser, stack: Stack, html: str) -> None:  # noqa: F811
    browser.driver.get(f"{stack.url}/healthz")
    browser.run("document.open(); document.write(arguments[0]); document.close()", html)


def test_ten_lines_show_a_moving_bar(browser: Browser, stack: Stack) -> None:  # noqa: F811
    html = recipe("ten lines").replace("duration_s: 5", "duration_s: 1")
    assert len(html.splitlines()) <= 10
    write(browser, stack, html)
    text = "return document.querySelector('job-progress')?.shadowRoot?.textContent ?? ''"
    browser.until(lambda: "succeeded" in browser.run(text), "the bar to end")


@pytest.mark.parametrize("name", ["EventSource", "htmx", "React"])
def test_a_recipe_shows_how_far_a_job_is_and_how_it_ended(
    browser: Browser,  # noqa: F811
    stack: Stack,
    name: str,
) -> None:
    claim = running_by_hand(stack)
    write(browser, stack, recipe(name, claim.ref.id))
    value = "return document.querySelector('progress')?.value"
    step = 0

    def moved() -> bool:
        nonlocal step
        step += 1
        stack.store.append(claim, step, [progress(0.4)])
        return bool(browser.run(value) == 0.4)

    browser.until(moved, "the bar to move")
    stack.store.end(claim, State.SUCCEEDED)
    browser.until(
        lambda: browser.run("return document.querySelector('output').textContent") == "succeeded", "the end"
    )

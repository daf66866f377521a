"""The recipes of docs/frontends.md, as they stand there, with the real libraries in real browsers."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from headway.contract.states import State
from tests.support.browser import Browser
from tests.support.firefox import Firefox
from tests.support.manual_jobs import progress, running_by_hand
from tests.support.npm import WEB, package
from tests.support.stack import Stack

SERVED = Path(__file__).parents[2] / "web"
DOCS = Path(__file__).parent.parent.parent / "docs" / "frontends.md"
LIBRARIES = {
    "htmx.min.js": "htmx.org/dist/htmx.min.js",
    "sse.js": "htmx-ext-sse/sse.js",
}


@pytest.fixture(scope="module", params=["chromium", "firefox"])
def browser(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Browser | Firefox]:
    made = Browser if request.param == "chromium" else Firefox
    with made(tmp_path_factory.mktemp("browser")) as browser:
        yield browser


def recipe(name: str, job_id: str = "") -> str:
    found = re.search(rf"```html\n<!-- recipe: {name} -->\n(.*?)```", DOCS.read_text("utf-8"), re.S)
    assert found
    html = found[1].replace("JOB", job_id)
    return re.sub(
        r'<script src="/static/(.*?)"></script>',
        lambda m: f"<script>{package(LIBRARIES[m[1]]).read_text('utf-8')}</script>",
        html,
    )


def write(browser: Browser | Firefox, stack: Stack, html: str) -> None:
    """Show a page as docs/frontends.md says: saved in `web/`, and served by the service."""
    page = SERVED / f"recipe-{secrets.token_hex(8)}.html"
    page.write_text(html)
    try:
        browser.load(f"{stack.url}/web/{page.name}")
    finally:
        page.unlink()


def test_ten_lines_show_a_moving_bar(browser: Browser | Firefox, stack: Stack) -> None:
    html = recipe("ten lines")
    assert len(html.splitlines()) <= 10
    write(browser, stack, html)
    inside = "return document.querySelector('job-progress')?.shadowRoot?.querySelector(arguments[0])"
    values: list[int] = []

    def look() -> None:
        value = browser.run(f"{inside}?.getAttribute('aria-valuenow')", "[part=bar]")
        if value is not None and int(value) not in values:
            values.append(int(value))

    def ended() -> bool:
        look()
        return "succeeded" in (browser.run(f"{inside}?.textContent", "[part=state]") or "")

    browser.until(ended, "the bar to end")
    look()
    assert values == sorted(values)
    assert len(values) >= 5
    assert values[-1] == 100


def test_the_docs_name_the_versions_that_are_tested() -> None:
    versions = json.loads((WEB / "package.json").read_text("utf-8"))["devDependencies"]
    docs = DOCS.read_text("utf-8")
    for name in ("htmx.org", "htmx-ext-sse"):
        assert f"`{name}@{versions[name]}`" in docs


@pytest.mark.parametrize("name", ["EventSource", "htmx"])
def test_a_recipe_shows_how_far_a_job_is_and_how_it_ended(
    browser: Browser | Firefox, stack: Stack, name: str
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

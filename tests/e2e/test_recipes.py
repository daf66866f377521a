"""The recipes of docs/frontends.md, as they stand there, with the real libraries in real browsers."""

from __future__ import annotations

import json
import re
import secrets
import threading
from pathlib import Path
from typing import Any

import pytest

from headway.contract.new_job import NewJob
from headway.contract.states import State
from headway.sdk.job_type import _types
from headway.sdk.runtime import Runtime
from tests.support.browser import Browser
from tests.support.firefox import Firefox
from tests.support.manual_jobs import progress, running_by_hand
from tests.support.npm import WEB, package
from tests.support.stack import Stack

SERVED = Path(__file__).parents[2] / "web"
DOCS = Path(__file__).parents[2] / "docs"
LIBRARIES = {
    "htmx.min.js": "htmx.org/dist/htmx.min.js",
    "sse.js": "htmx-ext-sse/sse.js",
}


@pytest.fixture
def browser(either_browser: Browser | Firefox) -> Browser | Firefox:
    return either_browser


def text_of(language: str, head: str) -> str:
    text = "".join((DOCS / name).read_text("utf-8") for name in ("frontends.md", "messages.md"))
    found = re.search(rf"```{language}\n{re.escape(head)}\n(.*?)```", text, re.S)
    assert found
    return found[1]


def recipe(name: str, job_id: str = "") -> str:
    html = text_of("html", f"<!-- recipe: {name} -->").replace("JOB", job_id)
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
    docs = (DOCS / "frontends.md").read_text("utf-8")
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


def test_the_chat_goes_both_ways_and_is_whole_when_its_page_is_loaded_again(
    browser: Browser | Firefox, stack: Stack, tmp_path: Path
) -> None:
    module: dict[str, Any] = {"__name__": "chat"}
    try:
        exec(compile(text_of("python", "# recipe: chat"), "messages.md", "exec"), module)
    finally:
        _types.pop("demo.chat", None)
    new = NewJob(owner="local", type="demo.chat", params={}, queue="none", max_attempts=1)
    job_id = stack.store.create(new)[0]
    runtime = Runtime(stack.store, worker="test", data_dir=tmp_path, lease_s=30)
    worker = threading.Thread(target=runtime.run, args=(module["chat"], job_id))
    worker.start()
    lines = "return [...document.querySelectorAll('li')].map((line) => line.textContent.trim())"
    say = "document.querySelector('input').value = arguments[0]; document.forms[0].requestSubmit()"
    try:
        write(browser, stack, recipe("chat", job_id))
        browser.run(say, "<b>hello</b>")
        said = ["<b>hello</b>", "You said 1 things, and at last: <b>hello</b>"]
        browser.until(lambda: browser.run(lines) == said, "the answer")
        write(browser, stack, recipe("chat", job_id))
        browser.until(lambda: browser.run(lines) == said, "the conversation")
        browser.run("document.querySelector('[type=button]').click()")
        browser.until(lambda: browser.run(lines) == [*said, "Bye"], "the last word")
        browser.until(lambda: browser.run("return document.querySelector('form').hidden"), "the end")
    finally:
        stack.store.cancel(job_id)
        worker.join(30)
    assert stack.document(job_id)["result"] == {"messages": 1}

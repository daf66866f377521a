"""The main ways of a page in a real Firefox; test_recipes.py has the recipes in it as well."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from headway.contract.states import State
from tests.support.firefox import Firefox
from tests.support.manual_jobs import log, progress, running_by_hand
from tests.support.stack import Stack
from tests.support.wait import until

pytestmark = pytest.mark.long

ELEMENT = """
document.body.className = "";
const element = document.createElement("job-progress");
element.setAttribute("job", arguments[0]);
document.body.replaceChildren(element);
return import("/web/job-progress.js").then(() => null);
"""
INSIDE = """
const found = document.querySelector("job-progress").shadowRoot.querySelectorAll(arguments[0]);
return [...found].map((node) => arguments[1] ? node.getAttribute(arguments[1]) : node.textContent);
"""
WATCH = """
const [id] = arguments;
return import("/web/jobs.js").then(({Headway}) => {
  window.headway = new Headway();
  window.job = headway.job(id);
  window.events = [];
  for (const type of ["log", "gap"]) job.addEventListener(type, () => events.push(type));
  return null;
});
"""


@pytest.fixture(scope="module")
def firefox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Firefox]:
    with Firefox(tmp_path_factory.mktemp("firefox")) as firefox:
        yield firefox


def test_a_bar_is_right_in_the_end_though_the_service_is_killed(firefox: Firefox, own_stack: Stack) -> None:
    def shows(selector: str, text: str, attribute: str | None = None) -> None:
        found: Any = None

        def seen() -> bool:
            nonlocal found
            found = firefox.run(INSIDE, selector, attribute)
            return text in " | ".join(str(one) for one in found)

        firefox.until(seen, f"{text!r} in {selector}")

    own_stack.start_web()
    claim = running_by_hand(own_stack)
    # Under the policy of the service's own page.
    firefox.load(f"{own_stack.url}/")
    firefox.run(ELEMENT, claim.ref.id)
    shows("[part=state]", "running")
    own_stack.store.append(claim, 1, [progress(0.2)])
    shows("[part=percent]", "20 %")
    own_stack.stop("web", signal.SIGKILL)
    shows("[part=note]", "Reconnecting for")
    own_stack.store.append(claim, 2, [progress(0.6)])
    own_stack.start_web()
    shows("[part=percent]", "60 %")
    own_stack.store.end(claim, State.SUCCEEDED)
    shows("[part=state]", "succeeded")
    shows("[part=bar]", "100", "aria-valuenow")
    assert firefox.run(INSIDE, "[part=note]") == [""]


def test_the_dashboard_shows_a_job_to_its_end_and_nothing_complains(firefox: Firefox, stack: Stack) -> None:
    firefox.load("about:blank")
    firefox.console_errors()
    firefox.load(f"{stack.url}/")
    text = "return document.querySelector(arguments[0])?.textContent ?? ''"
    firefox.until(lambda: firefox.run(text, "connection-state > span") == "Live", "the page to be live")
    claim = running_by_hand(stack)
    card = f'job-card[data-id="{claim.ref.id}"]'
    firefox.until(lambda: "running" in firefox.run(text, card), "the job in the list")
    firefox.run("location.hash = arguments[0]", f"#/jobs/{claim.ref.id}")
    page = f'job-page[data-id="{claim.ref.id}"]'
    stack.store.append(claim, 1, [progress(0.4), log("a line")])
    firefox.until(lambda: "a line" in firefox.run(text, page), "its page with its log")
    stack.store.end(claim, State.SUCCEEDED)
    firefox.until(lambda: "succeeded" in firefox.run(text, f"{page} .state"), "its end")
    firefox.run("location.hash = '#/new'")
    firefox.until(lambda: firefox.run(text, "#type"), "the form")
    assert firefox.console_errors() == []


def test_tabs_share_one_connection_and_it_moves_when_its_tab_is_closed(
    firefox: Firefox, own_stack: Stack
) -> None:
    own_stack.start_web()
    store = own_stack.store
    claims = [running_by_hand(own_stack) for _ in range(7)]
    first = firefox.tab
    firefox.load("about:blank")
    tabs: dict[str, str] = {}
    for claim in claims:
        tabs[claim.ref.id] = firefox.new_tab()
        firefox.load(f"{own_stack.url}/healthz")
        firefox.run(WATCH, claim.ref.id)

    def in_tab(job_id: str, script: str) -> Any:
        return firefox.run(f"return {script}", tab=tabs[job_id])

    def everyone(fraction: float) -> None:
        for job_id in tabs:
            is_at = partial(in_tab, job_id, f"job.state?.progress?.fraction === {fraction}")
            until(is_at, what=f"{job_id} at {fraction}")

    for claim in claims:
        store.append(claim, 1, [progress(0.1)])
    everyone(0.1)
    until(lambda: own_stack.metric("headway_streams_open") == 1, what="one connection and no other")
    (leader,) = [job_id for job_id in tabs if in_tab(job_id, "headway.stream().leads")]
    firefox.close_tab(tabs.pop(leader))
    others = [claim for claim in claims if claim.ref.id != leader]
    for claim in others:
        store.append(claim, 2, [log("said while nobody held the connection"), progress(0.2)])
    everyone(0.2)
    for claim in others:
        assert in_tab(claim.ref.id, "events") == ["log"]
        store.end(claim, State.SUCCEEDED)
    for job_id in tabs:
        until(lambda job_id=job_id: in_tab(job_id, "job.state.state") == "succeeded", what=job_id)
    for tab in tabs.values():
        firefox.close_tab(tab)
    firefox.tab = first

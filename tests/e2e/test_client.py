"""The browser's client in a real Chromium: connections shared by tabs, and what becomes of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from headway.contract.states import State
from headway.contract.store import Claim
from tests.support.browser import Browser
from tests.support.manual_jobs import log, progress, running_by_hand
from tests.support.stack import Stack
from tests.support.wait import until

pytestmark = pytest.mark.long

WATCH = """
const [id, done] = arguments;
import("/web/jobs.js").then(({Headway}) => {
  window.headway = new Headway();
  window.job = headway.job(id);
  window.events = [];
  job.addEventListener("event", ({detail}) => events.push([detail.event, detail.data.message ?? ""]));
  job.addEventListener("gap", () => events.push(["gap", ""]));
  done();
});
"""


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    with Browser(tmp_path / "browser") as browser:
        yield browser


class Tabs:
    """Tabs that each watch one job."""

    def __init__(self, browser: Browser, url: str) -> None:
        self.browser = browser
        self.url = url
        self.first = browser.driver.current_window_handle
        self.of: dict[str, str] = {}

    def watch(self, job_id: str) -> None:
        driver = self.browser.driver
        driver.switch_to.new_window("tab")
        self.browser.load(f"{self.url}/healthz")
        driver.execute_async_script(WATCH, job_id)
        self.of[job_id] = driver.current_window_handle

    def run(self, job_id: str, script: str) -> Any:
        self.browser.driver.switch_to.window(self.of[job_id])
        return self.browser.run(script)

    def fraction(self, job_id: str) -> float | None:
        found: float | None = self.run(job_id, "return job.state?.progress?.fraction ?? null")
        return found

    def leaders(self) -> list[str]:
        return [job_id for job_id in self.of if self.run(job_id, "return headway.stream().leads")]

    def close(self, job_id: str) -> None:
        self.browser.driver.switch_to.window(self.of.pop(job_id))
        self.browser.driver.close()
        self.browser.driver.switch_to.window(self.first)


def test_twenty_tabs_watch_twenty_jobs_on_one_connection_and_it_moves_when_its_tab_is_closed(
    browser: Browser, own_stack: Stack
) -> None:
    own_stack.start_web()
    claims = [running_by_hand(own_stack) for _ in range(20)]
    store = own_stack.store
    before = own_stack.metric("headway_streams_open")
    tabs = Tabs(browser, own_stack.url)
    for claim in claims:
        tabs.watch(claim.ref.id)

    def everyone(fraction: float) -> None:
        for job_id in tabs.of:
            until(lambda job_id=job_id: tabs.fraction(job_id) == fraction, what=f"{job_id} at {fraction}")

    for claim in claims:
        store.append(claim, 1, [progress(0.1)])
    everyone(0.1)
    until(
        lambda: own_stack.metric("headway_streams_open") - before == 1, what="one connection and no other"
    )
    (leader,) = tabs.leaders()

    tabs.close(leader)
    others: list[Claim] = [claim for claim in claims if claim.ref.id != leader]
    for claim in others:
        store.append(claim, 2, [log("said while nobody held the connection"), progress(0.2)])
    everyone(0.2)
    assert len(tabs.leaders()) == 1
    until(
        lambda: own_stack.metric("headway_streams_open") - before == 1, what="the old connection to be gone"
    )
    for claim in others:
        assert tabs.run(claim.ref.id, "return events.filter(([event]) => event == 'log').length") == 1
        assert tabs.run(claim.ref.id, "return events.filter(([event]) => event == 'gap').length") == 0

    for claim in others:
        store.end(claim, State.SUCCEEDED)
    for job_id in tabs.of:
        until(lambda job_id=job_id: tabs.run(job_id, "return job.state.state") == "succeeded", what=job_id)
    until(
        lambda: own_stack.metric("headway_streams_open") == before,
        what="the connection that nobody needs to be closed",
    )

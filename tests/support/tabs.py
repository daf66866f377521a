"""Tabs of one browser, on one origin, that share its connection."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.support import processes
from tests.support.browser import Browser

FOLLOW = """
const [id, lateMs, done] = arguments;
const request = LockManager.prototype.request;
if (lateMs) {
  LockManager.prototype.request = async function (...asked) {
    await new Promise((resolve) => setTimeout(resolve, lateMs));
    return request.apply(this, asked);
  };
}
document.body.textContent = "";
document.body.style.background = "white";
import("/web/jobs.js").then(({ Headway }) => {
  const headway = new Headway();
  window.stream = headway.stream();
  window.job = headway.job(id);
  window.lines = [];
  window.gaps = 0;
  window.statuses = [];
  job.addEventListener("log", ({ detail }) => lines.push(Number(detail.message)));
  job.addEventListener("gap", () => (gaps += 1));
  const note = () => statuses.push([Date.now(), stream.status, stream.leads]);
  stream.addEventListener("status", note);
  note();
  done();
});
"""


class Tabs:
    """Each follows a job: `lines` are the numbers that its log has had, `statuses` what became of the
    connection and when."""

    def __init__(self, browser: Browser, url: str) -> None:
        self._browser = browser
        self._driver = browser.driver
        self._until = browser.until
        self._url = url
        self._first = self._driver.current_window_handle
        self.open: list[str] = []

    def follow(self, job_id: str, late_ms: int = 0) -> str:
        """A new tab that follows the job; it is the one that is seen. Its locks come so late."""
        self._driver.switch_to.new_window("tab")
        self._browser.load(f"{self._url}/healthz")
        self._driver.execute_async_script(FOLLOW, job_id, late_ms)
        tab = self._driver.current_window_handle
        self.open.append(tab)
        self.until(tab, "stream.status === 'live'")
        return tab

    def ask(self, tab: str, expression: str) -> Any:
        self._driver.switch_to.window(tab)
        return self._driver.execute_script(f"return {expression}")

    def until(self, tab: str, expression: str, *, seconds: float = 60) -> Any:
        return self._until(lambda: self.ask(tab, expression), f"{expression} in a tab", seconds)

    @property
    def leader(self) -> str:
        """The tab that holds the connection."""
        led = "stream.leads"
        return str(self._until(lambda: next((t for t in self.open if self.ask(t, led)), None), "a leader"))

    def close(self, tab: str) -> float:
        """Close it; when that was, as pages have the time: ms."""
        self._driver.switch_to.window(tab)
        self.open.remove(tab)
        at = time.time() * 1000
        self._driver.close()
        self._driver.switch_to.window(self.open[0] if self.open else self._first)
        return at

    def close_all(self) -> None:
        for tab in list(self.open):
            self.close(tab)
        self._driver.switch_to.window(self._first)

    @contextmanager
    def frozen(self, tab: str) -> Iterator[None]:
        """As a browser freezes a tab that nobody looks at: nothing runs in it, and it was told before."""
        self._set(tab, "frozen")
        try:
            yield
        finally:
            self._set(tab, "active")

    def _set(self, tab: str, state: str) -> None:
        self._driver.switch_to.window(tab)
        self._driver.execute_cdp_cmd("Page.setWebLifecycleState", {"state": state})
        self._driver.switch_to.window(self._first)

    @contextmanager
    def standing_still(self, tab: str) -> Iterator[None]:
        """Its process is stopped, and nobody told it."""
        pid = renderer(self._browser, tab)
        self._driver.switch_to.window(self._first)
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(pid, signal.SIGCONT)


def renderer(browser: Browser, window: str) -> int:
    """The process of a window or tab: the one that works while that does."""
    driver = browser.driver
    driver.switch_to.window(window)
    before = _cpu(driver.service.process.pid)
    browser.run("const end = Date.now() + 400; while (Date.now() < end);")
    after = _cpu(driver.service.process.pid)
    return max(after, key=lambda pid: after[pid] - before.get(pid, 0))


def _cpu(driver: int) -> dict[int, float]:
    """CPU time that each renderer has used."""
    return {p.pid: p.cpu_s for p in processes.descendants(driver) if "--type=renderer" in p.command}

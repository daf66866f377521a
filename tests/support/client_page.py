"""A page of the service's origin that has the client, and what tests ask of it."""

from __future__ import annotations

from typing import Any

from tests.support.browser import Browser

LOAD = "Object.assign(window, await import('/web/jobs.js')); window.headway = new Headway(%s);"


class Page:
    """An empty page on the service's origin that has the client: `Headway`, `Problem`, and `headway`."""

    def __init__(self, browser: Browser, url: str, options: str = "{}") -> None:
        self.browser, self.url, self.options = browser, url, options
        self.load()

    def load(self) -> None:
        self.browser.load(f"{self.url}/healthz")
        self.run(LOAD % self.options)

    def leave(self) -> None:
        """Nothing of this page is left, and whatever was done to the network is undone."""
        self.network()
        self.browser.load("about:blank")

    def reload(self) -> None:
        self.browser.driver.refresh()
        self.run(LOAD % self.options)

    def _answer(self, script: str, *arguments: Any) -> list[Any]:
        wrapped = f"""
            const done = arguments[arguments.length - 1];
            (async function () {{ {script} }}).apply(window, [...arguments].slice(0, -1)).then(
              (value) => done([value ?? null, null]),
              ({{name, status, message}}) => done([null, {{name, status: status ?? null, message}}]));
        """
        return list(self.browser.driver.execute_async_script(wrapped, *arguments))

    def run(self, script: str, *arguments: Any) -> Any:
        """The body of an async function; what it returns."""
        value, error = self._answer(script, *arguments)
        assert error is None, error
        return value

    def refusal(self, script: str, *arguments: Any) -> dict[str, Any]:
        """The body of an async function; name, status and message of what it throws."""
        value, error = self._answer(script, *arguments)
        assert error is not None, value
        return dict(error)

    def until(self, script: str, what: str) -> Any:
        return self.browser.until(lambda: self.browser.run(f"return {script}"), what)

    def network(self, *, offline: bool = False, upload_bytes_s: int = -1) -> None:
        driver = self.browser.driver
        driver.execute_cdp_cmd("Network.enable", {})
        conditions = {"latency": 0, "downloadThroughput": -1, "uploadThroughput": upload_bytes_s}
        driver.execute_cdp_cmd("Network.emulateNetworkConditions", {"offline": offline, **conditions})

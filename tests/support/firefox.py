"""A real Firefox for tests, driven as it is: WebDriver BiDi over its own WebSocket, without geckodriver.

https://w3c.github.io/webdriver-bidi/ has the commands.
"""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import websocket

from tests.support import credentials
from tests.support.browser import PATIENCE_S
from tests.support.programs import program
from tests.support.wait import until

LOCAL_NAMES = ("evil.test", "ours.test", "rebound.test")
PREFERENCES = {
    "app.update.disabledForTesting": True,
    "browser.shell.checkDefaultBrowser": False,
    "browser.startup.page": 0,
    "devtools.jsonview.enabled": False,  # its viewer is a page of its own, with a policy of its own
    "dom.disable_open_during_load": False,  # pages may open windows, as after a click
    "network.dns.localDomains": ",".join(LOCAL_NAMES),
    "datareporting.policy.dataSubmissionEnabled": False,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "toolkit.telemetry.reportingpolicy.firstRun": False,
}


class Firefox:
    """One window; what is asked is asked of the tab that was opened or chosen last. The names of
    LOCAL_NAMES are this machine's. It signs in to each service that it comes to, unless `signs_in` is
    false. Call `close`."""

    signs_in = True

    def __init__(self, directory: Path) -> None:
        firefox = program("firefox", "firefox-esr")
        directory.mkdir(parents=True, exist_ok=True)
        lines = [
            f"user_pref({json.dumps(name)}, {json.dumps(value)});" for name, value in PREFERENCES.items()
        ]
        (directory / "user.js").write_text("\n".join(lines))
        self._log = directory / "log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [firefox, "--headless", "--no-remote", "--remote-debugging-port=0", "--profile", directory],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        try:
            address = until(self._address, what="Firefox to listen")
            # It takes no connection that a page could have made.
            self._socket = websocket.create_connection(
                f"{address}/session", timeout=PATIENCE_S, suppress_origin=True
            )
            self._count = 0
            self._errors: list[str] = []
            self._ask("session.new", {"capabilities": {}})
            self._ask("session.subscribe", {"events": ["log.entryAdded"]})
            self.tab: str = self._ask("browsingContext.getTree", {})["contexts"][0]["context"]
        except BaseException:
            self._process.kill()
            self._process.wait()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._ask("browser.close", {})
        self._socket.close()
        try:
            self._process.wait(15)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def new_tab(self) -> str:
        self.tab = self._ask("browsingContext.create", {"type": "tab"})["context"]
        return self.tab

    def close_tab(self, tab: str) -> None:
        self._ask("browsingContext.close", {"context": tab})

    def load(self, url: str) -> None:
        parts = urlsplit(url)
        if self.signs_in and parts.hostname == "127.0.0.1":
            self._sign_in(f"{parts.scheme}://{parts.netloc}")
        where = {"context": self.tab, "url": url, "wait": "complete"}
        for _ in range(3):
            try:
                self._ask("browsingContext.navigate", where)
            except AssertionError as error:
                # A page that is just about to go elsewhere takes this navigation's place.
                if "NS_BINDING_ABORTED" not in str(error):
                    raise
            else:
                return
        self._ask("browsingContext.navigate", where)

    def _sign_in(self, origin: str) -> None:
        name = credentials.cookie_name(origin)
        known = self._ask("storage.getCookies", {"filter": {"name": name}})["cookies"]
        cookie = None if known else credentials.session(origin)
        if cookie:
            value = {"type": "string", "value": cookie["value"]}
            given = {"name": name, "value": value, "domain": "127.0.0.1", "httpOnly": True}
            self._ask("storage.setCookie", {"cookie": {**given, "sameSite": "strict"}})

    def run(self, script: str, *arguments: Any, tab: str | None = None) -> Any:
        """The body of a function, which may be a promise's; what it returns is passed as JSON."""
        answer = self._ask(
            "script.callFunction",
            {
                "functionDeclaration": f"async (...given) => JSON.stringify(await (function () {{ {script}"
                f" }}).apply(window, JSON.parse(given[0])) ?? null)",
                "arguments": [{"type": "string", "value": json.dumps(arguments)}],
                "target": {"context": tab or self.tab},
                "awaitPromise": True,
            },
        )
        assert answer["type"] == "success", answer["exceptionDetails"]["text"]
        return json.loads(answer["result"]["value"])

    def frame_texts(self) -> list[str]:
        """What the frames of the page show, also those of other origins."""
        (page,) = self._ask("browsingContext.getTree", {"root": self.tab})["contexts"]
        texts = []
        for frame in page["children"]:
            try:
                script = "return document.documentElement?.textContent ?? ''"
                texts.append(self.run(script, tab=frame["context"]))
            except AssertionError:
                texts.append("")  # a page of Firefox's own, which says why there is no other
        return texts

    def close_others(self) -> None:
        """Close all tabs but the current one."""
        for tab in self._ask("browsingContext.getTree", {"maxDepth": 0})["contexts"]:
            if tab["context"] != self.tab:
                self.close_tab(tab["context"])

    def until(self, condition: Callable[[], Any], what: str, seconds: float = PATIENCE_S) -> Any:
        return until(condition, seconds, what)

    def console_errors(self) -> list[str]:
        """What the console has said since the last call that is an error or a warning."""
        # Whatever it has said by now stands before the answer.
        self._ask("session.status", {})
        errors, self._errors = self._errors, []
        return errors

    def _address(self) -> str | None:
        assert self._process.poll() is None, self._log.read_text(errors="replace")
        found = re.search(r"BiDi listening on (ws://\S+)", self._log.read_text(errors="replace"))
        return found and found[1]

    def _ask(self, method: str, params: dict[str, Any]) -> Any:
        self._count += 1
        self._socket.send(json.dumps({"id": self._count, "method": method, "params": params}))
        deadline = time.monotonic() + PATIENCE_S
        while True:
            assert time.monotonic() < deadline, f"no answer to {method}"
            said = json.loads(self._socket.recv())
            if said.get("method") == "log.entryAdded" and said["params"]["level"] in ("error", "warn"):
                self._errors.append(said["params"]["text"])
            if said.get("id") == self._count:
                assert said["type"] == "success", (method, said)
                return said["result"]

"""A real Chromium for tests, and what the tests ask of a page."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self, cast
from urllib.parse import urlsplit

from selenium.common.exceptions import NoSuchElementException, StaleElementReferenceException
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

from tests.support import credentials
from tests.support.programs import program

PATIENCE_S = 60
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-popup-blocking",
    "--disable-dev-shm-usage",
    "--autoplay-policy=no-user-gesture-required",
    "--window-size=1280,1000",
    "--host-resolver-rules=MAP *.test 127.0.0.1",
)


class Browser:
    """One window. It signs in to each service that it comes to, unless `signs_in` is false. Names that end
    in `.test` are this machine's. Call `close` in the end."""

    signs_in = True

    def __init__(self, directory: Path) -> None:
        self.downloads = directory / "downloads"
        self.downloads.mkdir(parents=True)
        options = ChromeOptions()
        options.binary_location = program("chromium", "google-chrome")
        driver = program("chromedriver")
        for flag in FLAGS:
            options.add_argument(flag)
        options.add_argument(f"--user-data-dir={directory / 'profile'}")
        options.add_experimental_option("prefs", {"download.default_directory": str(self.downloads)})
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        self.driver = Chrome(options=options, service=Service(driver))
        self.driver.set_page_load_timeout(PATIENCE_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.driver.quit()

    def open(self, url: str) -> None:
        """The page, once it is connected."""
        self.load(url)
        self.until(lambda: self.connection() == "Live", "the page to be live")

    def load(self, url: str) -> None:
        """Any page, as soon as it has loaded."""
        parts = urlsplit(url)
        if self.signs_in and parts.hostname == "127.0.0.1":
            self._sign_in(f"{parts.scheme}://{parts.netloc}")
        self.driver.get(url)

    def _sign_in(self, origin: str) -> None:
        names = {one["name"] for one in self.cdp("Network.getCookies", urls=[origin])["cookies"]}
        cookie = None if credentials.cookie_name(origin) in names else credentials.session(origin)
        if cookie:
            more = {
                "httpOnly": True,
                "sameSite": "Strict",
                "secure": origin.startswith("https:"),
                "path": "/",
            }
            self.cdp("Network.setCookie", url=origin, **more, **cookie)

    def until(self, condition: Callable[[], Any], what: str, seconds: float = PATIENCE_S) -> Any:
        """Ask until the answer is true; the answer. Elements may go while they are looked at."""
        gone = (NoSuchElementException, StaleElementReferenceException)
        wait = WebDriverWait(self.driver, seconds, poll_frequency=0.05, ignored_exceptions=gone)
        return wait.until(lambda _: condition(), f"waited {seconds} s in vain for {what}")

    def find(self, selector: str) -> WebElement:
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def all(self, selector: str) -> list[WebElement]:
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def run(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    def frame_texts(self) -> list[str]:
        """What the frames of the page show, also those of other origins."""
        texts = []
        for frame in self.all("iframe"):
            self.driver.switch_to.frame(frame)
            texts.append(str(self.run("return document.documentElement?.textContent ?? ''")))
            self.driver.switch_to.default_content()
        return texts

    def close_others(self) -> None:
        """Close all windows but the current one."""
        ours = self.driver.current_window_handle
        for window in set(self.driver.window_handles) - {ours}:
            self.driver.switch_to.window(window)
            self.driver.close()
        self.driver.switch_to.window(ours)

    def text(self, selector: str) -> str:
        """All of the text, also what is scrolled away; empty if there is no such element."""
        return str(self.run("return document.querySelector(arguments[0])?.textContent ?? ''", selector))

    def connection(self) -> str:
        return self.text("connection-state > span")

    def fill(self, selector: str, text: str) -> None:
        field = self.find(selector)
        field.clear()
        field.send_keys(text)

    def press(self, key: str) -> None:
        """A key, wherever the focus is."""
        self.driver.switch_to.active_element.send_keys(key)

    def tab(self) -> None:
        """The Tab key, also where nothing has the focus."""
        ActionChains(self.driver, duration=0).send_keys(Keys.TAB).perform()

    def choose_type(self, name: str) -> None:
        self.go("#/new")
        option = f"#type option[value='{name}']"
        self.until(lambda: self.find(option).is_displayed(), f"the type {name}")
        self.find(option).click()

    def submit(self) -> str:
        """Press the button; the id of the job that it made, whose page is open now."""
        self.find("[data-part=submit]").click()

        def page() -> str | None:
            problem = self.text("[data-part=problem]")
            assert not problem, problem
            return cast("str | None", self.run("return document.querySelector('job-page')?.dataset.id"))

        return str(self.until(page, "the page of the new job"))

    def go(self, address: str) -> None:
        """Another page of the dashboard, such as `#/new`."""
        self.run("location.hash = arguments[0]", address)

    def details(self, job_id: str) -> None:
        """Open the job's page."""
        self.go(f"#/jobs/{job_id}")
        self.until(lambda: self.all(page(job_id)), "the job's page")

    def state(self, job_id: str) -> str:
        """As its card says it, or its page, if that is open."""
        return self.text(f"[data-id='{job_id}'] .state")

    def until_state(self, job_id: str, *states: str) -> str:
        return str(
            self.until(lambda: (s := self.state(job_id)) in states and s, f"{job_id} to be {states}")
        )

    def values(self, job_id: str) -> Callable[[], list[str]]:
        """Watch the bar of the job's page from now on: call for the values that it has had."""
        self.run(
            """
            const [selector] = arguments;
            const bar = document.querySelector(`${selector} [role=progressbar]`);
            const seen = (window.seen ??= {});
            seen[selector] = [bar.getAttribute("aria-valuenow")];
            new MutationObserver(() => seen[selector].push(bar.getAttribute("aria-valuenow")))
              .observe(bar, {attributes: true, attributeFilter: ["aria-valuenow"]});
            """,
            page(job_id),
        )
        return lambda: list(self.run("return window.seen[arguments[0]]", page(job_id)))

    def looks(self, width: int, scheme: str, height: int = 800) -> None:
        """As on a screen of that width, in these colours (`light`, `dark`); a narrow one is a phone's."""
        phone = width < 500
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": phone}
        self.cdp("Emulation.setDeviceMetricsOverride", **size)
        self.cdp("Emulation.setTouchEmulationEnabled", enabled=phone)
        self.cdp("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def looks_itself(self) -> None:
        """Take back what `looks` did."""
        self.cdp("Emulation.clearDeviceMetricsOverride")
        self.cdp("Emulation.setTouchEmulationEnabled", enabled=False)
        self.cdp("Emulation.setEmulatedMedia", features=[])

    def until_still(self) -> None:
        """Wait for two frames, in which what was changed is drawn."""
        frames = "const [done] = arguments; requestAnimationFrame(() => requestAnimationFrame(done))"
        self.driver.execute_async_script(frames)

    def cdp(self, command: str, **parameters: Any) -> Any:
        """A command of the Chrome DevTools Protocol."""
        return self.driver.execute_cdp_cmd(command, parameters)

    def console_errors(self) -> list[str]:
        """What the console has said since the last call that is an error or a warning."""
        return [
            entry["message"]
            for entry in self.driver.get_log("browser")  # type: ignore[no-untyped-call]
            if entry["level"] in ("SEVERE", "WARNING")
        ]

    def requests(self) -> list[dict[str, Any]]:
        """All requests of the page since the last call, as Network.Request has them: url, headers, …"""
        entries = self.driver.get_log("performance")  # type: ignore[no-untyped-call]
        said = [json.loads(entry["message"])["message"] for entry in entries]
        sent = [one["params"]["request"] for one in said if one["method"] == "Network.requestWillBeSent"]
        return [one for one in sent if urlsplit(one["url"]).scheme not in ("data", "blob", "chrome")]

    def requested_origins(self) -> set[str]:
        """The origins of all requests of the page since the last call."""
        urls = [urlsplit(request["url"]) for request in self.requests()]
        return {f"{url.scheme}://{url.netloc}" for url in urls}


def card(job_id: str) -> str:
    """The selector of a job's card in the list."""
    return f'job-card[data-id="{job_id}"]'


def page(job_id: str) -> str:
    """The selector of a job's page."""
    return f'job-page[data-id="{job_id}"]'

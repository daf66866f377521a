"""Pictures of every page of the dashboard, wide and narrow, light and dark: `make screenshots`.

Real jobs of a real worker, so that a picture shows what people will see. With `--full` whole pages,
however long, to be looked at.
"""

from __future__ import annotations

import argparse
import base64
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.support.browser import Browser, card, page
from tests.support.stack import Stack
from tests.support.wait import until

SCREENS = {"desktop": (1280, 860), "phone": (360, 740)}
SCHEMES = ("light", "dark")
BATCH = [
    ("nightly", "Ünal & Sons"),
    ("nightly", "Kestrel Films"),
    ("thumbnails", "Kestrel Films"),
    ("nightly", "Mirador"),
]
READY = """
const there = document.querySelector(arguments[0]);
return there && (there.readyState ?? 1) > 0;
"""
"""Whether there is such an element; a player also has to know its film."""


class Show:
    """Jobs of every kind, and the pages that show them."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack

    def prepare(self) -> None:
        """What has happened before anybody looks."""
        submit, wait = self._stack.submit, self._stack.wait_ended
        for group, customer in BATCH:
            params = {"duration_s": 0.4, "stages": 2}
            wait(submit("simulate", params, group=group, labels={"customer": customer})["id"])
        wait(submit("file.checksum", {"input": "sample:1"}, group="nightly")["id"])
        canceled = submit("simulate", {"duration_s": 60}, group="thumbnails")["id"]
        until(lambda: self._state(canceled) == "running", what="the job to run")
        self._stack.call("POST", f"/jobs/{canceled}/cancel")
        wait(canceled)
        params = {"duration_s": 8, "stages": 3, "fail_at": 0.55, "fail_attempts": 2, "log_every": 4}
        labels = {"customer": "Mirador", "retry": "yes"}
        self.failed = submit("simulate", params, group="nightly", labels=labels, max_attempts=2)["id"]
        wait(self.failed)
        params = {"input": "sample:20", "preset": "mp4", "width": 640}
        labels = {"customer": "Kestrel Films", "title": "The holiday"}
        self.encoded = submit("video.encode", params, group="films", labels=labels)["id"]
        assert wait(self.encoded, 120)["state"] == "succeeded"

    def begin(self) -> None:
        """What runs and waits while pictures are taken."""
        submit = self._stack.submit
        labels = {"customer": "Kestrel Films", "title": "The voyage home"}
        params: dict[str, Any] = {"input": "sample:600", "preset": "mp4", "width": 1280}
        self.running = submit("video.encode", params, group="films", labels=labels)["id"]
        params = {"duration_s": 600, "fail_at": 0.003, "fail_attempts": 1, "log_every": 10}
        self.other = submit("simulate", params, group="nightly", max_attempts=3)["id"]
        until(lambda: self._progress(self.running) > 0.01, what="the film to get on")
        until(lambda: self._stack.get(f"/jobs/{self.other}")[1]["attempt"] == 2, what="the second attempt")
        until(lambda: self._progress(self.other) > 0.004, what="it to get on")
        self.waiting = ""
        for group, customer in BATCH[:2]:
            labels = {"customer": customer}
            self.waiting = submit("simulate", {"duration_s": 5}, group=group, labels=labels)["id"]

    def pages(self) -> Iterator[tuple[str, str, list[str]]]:
        """Name, address, and what is there when it is drawn."""
        reason = f"{card(self.waiting)} .about-job:not([hidden])"
        yield "list", "#/", [reason, card(self.encoded)]
        yield "job", f"#/jobs/{self.running}", [f"{page(self.running)} rate-chart .curve"]
        encoded = page(self.encoded)
        yield "job-succeeded", f"#/jobs/{self.encoded}", [f"{encoded} video", f"{encoded} job-stages li"]
        yield "job-failed", f"#/jobs/{self.failed}", [f"{page(self.failed)} job-attempts tr:nth-child(2)"]
        yield "new", f"#/new?from={self.encoded}", ["[data-part=options][open] [data-field=labels]"]
        yield "workers", "#/workers", ["workers-page .held a"]

    def _state(self, job_id: str) -> str:
        return str(self._stack.get(f"/jobs/{job_id}")[1]["state"])

    def _progress(self, job_id: str) -> float:
        progress = self._stack.get(f"/jobs/{job_id}")[1]["progress"]
        return float(progress["fraction"] or 0) if progress else 0


def take(browser: Browser, path: Path, *, full: bool = False) -> None:
    """A picture in the format that the path's suffix names."""
    size = browser.cdp("Page.getLayoutMetrics")["cssContentSize"]
    all_of_it = {"clip": {**size, "scale": 1}, "captureBeyondViewport": True} if full else {}
    shot = browser.cdp("Page.captureScreenshot", format=path.suffix[1:], **all_of_it)
    path.write_bytes(base64.b64decode(shot["data"]))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.e2e.screenshots", description=__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--full", action="store_true", help="all of a page, not a screen of it")
    parser.add_argument("--format", default="webp", choices=["webp", "png"])
    arguments = parser.parse_args()
    arguments.directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="headway-screenshots-") as directory:
        here = Path(directory)
        stack = Stack(here / "stack", AUTH="none", WORKER_CONCURRENCY="2")
        browser = Browser(here / "browser")
        try:
            stack.start_web()
            stack.start_worker()
            show = Show(stack)
            show.prepare()
            show.begin()
            browser.open(stack.url)
            for screen, (width, height) in SCREENS.items():
                for scheme in SCHEMES:
                    browser.looks(width, scheme, height)
                    for name, address, there in show.pages():
                        browser.go(address)
                        for one in there:
                            browser.until(lambda one=one: browser.run(READY, one), f"{one} on {address}")
                        browser.until_still()
                        path = arguments.directory / f"{name}-{screen}-{scheme}.{arguments.format}"
                        take(browser, path, full=arguments.full)
        finally:
            browser.close()
            stack.close()


if __name__ == "__main__":
    main()

"""docs/frontends.md, "A page of another origin": what it says, done word for word in a checkout of its own.

Only ports differ. What is typed into a terminal, and each file, is taken from the document.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.browser import Browser
from tests.support.checkout import ROOT
from tests.support.firefox import Firefox
from tests.support.programs import program
from tests.support.stack import free_port
from tests.support.wait import until

pytestmark = pytest.mark.long

DOCS = (ROOT / "docs" / "frontends.md").read_text("utf-8")
FILES = ("app.py", "page.html")
BAR = """
const bar = document.querySelector("job-progress")?.shadowRoot?.querySelector("[part=bar]");
return Number(bar?.getAttribute("aria-valuenow") ?? 0);
"""


def recipe(name: str) -> str:
    """A block of the document, without the line that names it."""
    marks = rf"(?:# recipe: {name}|<!-- recipe: {name} -->)\n"
    found = re.search(rf"```\w+\n{marks}(.*?)```", DOCS, re.DOTALL)
    assert found, name
    return found[1]


class Newcomer:
    """Types what the document says, in terminals whose directory is a fresh checkout."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        # Those that the document names, and that of Caddy's own API.
        self._ports = {port: str(free_port()) for port in ("8000", "8080", "3000", "2019")}
        known = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
        for name in known.stdout.splitlines():
            if (ROOT / name).is_file() and not name.startswith("tests/"):
                (directory / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, directory / name)
        # It is set up: a minute that has tests of its own.
        (directory / ".venv").symlink_to(ROOT / ".venv")
        os.utime(directory / "requirements.txt", (0, 0))
        config = directory / "deploy" / "Caddyfile"
        text = self.with_ports(config.read_text())
        config.write_text(text.replace("{\n", f"{{\n\tadmin 127.0.0.1:{self._ports['2019']}\n", 1))
        for name in FILES:
            (directory / name).write_text(self.with_ports(recipe(re.escape(name))))

    def with_ports(self, text: str) -> str:
        return re.sub(r"\b(8000|8080|3000)\b", lambda found: self._ports[found[1]], text)

    @contextmanager
    def terminal(self, name: str, ready: str) -> Iterator[None]:
        """A command that goes on, once it has said that it is ready."""
        log = self.directory.parent / f"{name}.log"
        environ = {key: value for key, value in os.environ.items() if not key.startswith("HEADWAY_")}
        environ |= {
            "PORT": self._ports["8000"],
            "HOME": str(self.directory.parent),
            "PYTHONUNBUFFERED": "1",
            "REDIS_URL": "",
        }
        with log.open("wb") as out:
            process = subprocess.Popen(
                ["sh", "-c", self.with_ports(recipe(name))],
                cwd=self.directory,
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        try:

            def said() -> bool:
                assert process.poll() is None, log.read_text()
                return ready in log.read_text()

            until(said, what=lambda: f"{ready!r} in {log.read_text()}")
            yield
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    @property
    def page(self) -> str:
        return f"http://localhost:{self._ports['3000']}"


@pytest.fixture(scope="module")
def newcomer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Newcomer]:
    program("caddy")
    newcomer = Newcomer(tmp_path_factory.mktemp("newcomer") / "headway")
    with (
        newcomer.terminal("service", "Headway is ready"),
        newcomer.terminal("proxy", "serving initial configuration"),
        newcomer.terminal("backend", newcomer.page),
    ):
        yield newcomer


@pytest.mark.parametrize("kind", [Browser, Firefox])
def test_the_page_has_a_bar_that_moves(
    newcomer: Newcomer, kind: type[Browser | Firefox], tmp_path: Path
) -> None:
    with kind(tmp_path) as browser:
        browser.signs_in = False
        browser.load(newcomer.page)
        first = browser.until(lambda: browser.run(BAR), "the bar to move")
        browser.until(lambda: browser.run(BAR) > first, "the bar to move on")
        assert browser.run("return document.documentElement.outerHTML").count("hw_") == 0

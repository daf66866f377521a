"""Fixtures: a Chromium for the whole session, and the dashboard in it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.browser import Browser
from tests.support.firefox import Firefox
from tests.support.stack import Stack


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("browser")) as browser:
        yield browser


@pytest.fixture(scope="module", params=["chromium", "firefox"])
def either_browser(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Browser | Firefox]:
    made = Browser if request.param == "chromium" else Firefox
    with made(tmp_path_factory.mktemp("browser")) as browser:
        yield browser


@pytest.fixture
def browser(chromium: Browser, stack: Stack) -> Iterator[Browser]:
    """The page, connected. Whatever a test does, it asks no one else for anything, and the console
    stays empty."""
    chromium.load("about:blank")
    chromium.console_errors()
    chromium.requested_origins()
    chromium.open(stack.url)
    yield chromium
    assert chromium.requested_origins() <= {stack.url}
    assert chromium.console_errors() == []

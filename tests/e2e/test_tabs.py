"""Many tabs, one connection: who holds it may go, be frozen or stand still; nobody misses anything."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from headway.contract.states import State
from headway.contract.store import Claim
from tests.support.browser import Browser
from tests.support.fake_worker import claim, create
from tests.support.manual_jobs import log
from tests.support.stack import Stack
from tests.support.tabs import Tabs, renderer
from tests.support.wait import until

TABS = 20
"""As many jobs, too. On HTTP/1.1 a browser has six connections to a host."""
LINE_S = 0.1


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("browser")) as browser:
        yield browser


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A web process that keeps all that is said."""
    with Stack(tmp_path_factory.mktemp("service"), HEARTBEAT_S="1", DRAIN_S="0") as stack:
        stack.start_web()
        yield stack


@pytest.fixture
def tabs(browser: Browser, service: Stack) -> Iterator[Tabs]:
    tabs = Tabs(browser, service.url)
    yield tabs
    tabs.close_all()


@contextmanager
def talking(stack: Stack, claims: list[Claim], every_s: float = LINE_S) -> Iterator[None]:
    """Each job says a number, one more each time, until the block is left; then they end."""
    stop = threading.Event()

    def talk() -> None:
        n = 0
        while not stop.wait(every_s):
            n += 1
            for held in claims:
                stack.store.append(held, n, [log(str(n))])
        for held in claims:
            stack.store.end(held, State.SUCCEEDED)

    talker = threading.Thread(target=talk)
    talker.start()
    try:
        yield
    finally:
        stop.set()
        talker.join()


def working(stack: Stack, count: int) -> list[Claim]:
    return [claim(stack.store, create(stack.store)) for _ in range(count)]


COUNT_STEALS = """(() => {
  window.steals = 0;
  const request = navigator.locks.request.bind(navigator.locks);
  navigator.locks.request = (name, options, then) => {
    if (options.steal) steals += 1;
    return request(name, options, then);
  };
})()"""


def nothing_was_missed(tabs: Tabs) -> None:
    for tab in tabs.open:
        tabs.until(tab, "job.state?.state === 'succeeded'")
        lines = tabs.ask(tab, "lines")
        assert lines == list(range(lines[0], lines[0] + len(lines)))
        assert tabs.ask(tab, "gaps") == 0


@pytest.mark.timeout(240)
def test_20_tabs_have_one_connection_and_miss_nothing_when_it_moves(
    browser: Browser, tabs: Tabs, service: Stack
) -> None:
    claims = working(service, TABS)
    with talking(service, claims):
        for held in claims:
            tabs.follow(held.ref.id)
        # Copied once a second: it may be from when the connection was made anew for the last of them.
        until(lambda: service.metric("headway_streams_open") == 1, 3, "one connection")
        for how in ("closed", "killed", "closed"):
            leader = tabs.leader
            if how == "killed":
                os.kill(renderer(browser, leader), signal.SIGKILL)
                tabs.open.remove(leader)
            else:
                tabs.close(leader)
            for tab in tabs.open[:3]:
                tabs.until(tab, "stream.status === 'live'")
        until(lambda: service.metric("headway_streams_open") == 1, what="one connection")
    nothing_was_missed(tabs)


def test_a_tab_whose_lock_comes_late_is_not_taken_for_one_that_is_gone(tabs: Tabs, service: Stack) -> None:
    claims = working(service, 3)
    with talking(service, claims):
        tabs.follow(claims[0].ref.id)
        tabs.follow(claims[1].ref.id, late_ms=500)
        # What is watched is asked for anew.
        tabs.follow(claims[2].ref.id)
        tabs.close(tabs.leader)
        for tab in tabs.open:
            before = tabs.ask(tab, "lines.length")
            tabs.until(tab, f"lines.length > {before}")
    nothing_was_missed(tabs)


def test_a_tab_that_is_frozen_hands_the_connection_over(tabs: Tabs, service: Stack) -> None:
    claims = working(service, 3)
    with talking(service, claims):
        for held in claims:
            tabs.follow(held.ref.id)
        first = tabs.leader
        others = [tab for tab in tabs.open if tab != first]
        with tabs.frozen(first):
            until(lambda: any(tabs.ask(tab, "stream.leads") for tab in others), what="another to lead")
            second = next(tab for tab in others if tabs.ask(tab, "stream.leads"))
            tabs.until(second, "stream.status === 'live'")
            # What is frozen is not elected either.
            tabs.close(second)
            (third,) = [tab for tab in others if tab != second]
            tabs.until(third, "stream.leads && stream.status === 'live'")
        tabs.until(first, "stream.status === 'live' && !stream.leads")
        assert tabs.ask(first, "statuses.filter(([, status]) => status === 'stale').length") >= 1
        # It stands for election again.
        tabs.close(third)
        tabs.until(first, "stream.leads && stream.status === 'live'")
    nothing_was_missed(tabs)


def test_a_tab_that_has_the_lock_leads_even_if_one_that_lost_it_speaks_up_later(
    tabs: Tabs, service: Stack
) -> None:
    claims = working(service, 2)
    # So often that some lines are under way when the leader is overruled.
    with talking(service, claims, every_s=0.004):
        for held in claims:
            tabs.follow(held.ref.id)
        leader = tabs.leader
        began = "statuses.filter(([, status]) => status === 'live').length"
        before = tabs.ask(leader, began)
        for tab in tabs.open:
            tabs.ask(tab, COUNT_STEALS)
        late = "{ type: 'nothing', from: 0, term: Date.now() + 60_000 }"
        tabs.ask(leader, f"new BroadcastChannel(`headway 3 ${{location.origin}}/ `).postMessage({late})")
        tabs.until(leader, f"stream.leads && {began} > {before}")
        assert [tabs.ask(tab, "steals") for tab in tabs.open] == [0, 0], "nobody had to wait for it in vain"
        for tab in tabs.open:
            heard = tabs.ask(tab, "lines.length")
            tabs.until(tab, f"lines.length > {heard}")
    nothing_was_missed(tabs)


def test_a_tab_that_stands_still_is_relieved_of_the_connection(tabs: Tabs, service: Stack) -> None:
    claims = working(service, 3)
    with talking(service, claims):
        for held in claims:
            tabs.follow(held.ref.id)
        first = tabs.leader
        others = [tab for tab in tabs.open if tab != first]
        heard = "stream.status === 'live' && statuses.some(([, , leads]) => leads)"
        with tabs.standing_still(first):
            until(lambda: any(tabs.ask(tab, heard) for tab in others), what="another to lead")
            for tab in others:
                tabs.until(tab, "stream.status === 'live'")
            resumed = time.time() * 1000
        # It hears of what it missed before it is live again, and does not lead.
        tabs.until(first, "stream.status === 'live' && !stream.leads")
        after = tabs.ask(first, f"statuses.filter(([at]) => at >= {resumed:.0f}).map((one) => one[1])")
        assert "live" in after[1:]
        assert after[0] != "live"
        until(lambda: service.metric("headway_streams_open") == 1, what="one connection")
    nothing_was_missed(tabs)

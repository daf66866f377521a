"""The dashboard with authentication: who signs in, what is offered, and how one gets out."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium.webdriver.common.keys import Keys

from headway.contract.states import State
from tests.support.browser import Browser, card, page
from tests.support.manual_jobs import log, progress, running_by_hand
from tests.support.stack import Stack

pytestmark = pytest.mark.long

PICTURE = """
const [src, done] = arguments;
Object.assign(new Image(), {src, onerror: () => done(0), onload: ({target}) => done(target.naturalWidth)});
"""


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A service that asks for keys, with its worker."""
    with Stack(tmp_path_factory.mktemp("closed"), AUTH="keys", HEARTBEAT_S="2") as stack:
        stack.start_web()
        stack.start_worker()
        yield stack


@pytest.fixture
def browser(chromium: Browser, closed: Stack) -> Iterator[Browser]:
    # Other modules' tests may run in between (xdist), and leave the cookies of their own services.
    chromium.load("about:blank")
    chromium.cdp("Network.clearBrowserCookies")
    chromium.signs_in = False
    yield chromium
    chromium.signs_in = True
    chromium.cdp("Network.clearBrowserCookies")
    chromium.load("about:blank")
    chromium.console_errors()


def key(stack: Stack, owner: str, *roles: str) -> str:
    return stack.store.access.create(owner, roles)[1]


def sign_in(browser: Browser, text: str) -> None:
    browser.until(lambda: browser.find("#sign-in").is_displayed(), "the sign-in")
    browser.fill("#key", text)
    browser.find("#sign-in [type=submit]").click()


def signed_in(browser: Browser) -> tuple[str, str]:
    browser.until(lambda: browser.connection() == "Live", "the page to be live")
    return browser.text("#who bdi"), browser.text("#who .note")


def shown(browser: Browser, selector: str) -> bool:
    return any(found.is_displayed() for found in browser.all(selector))


def test_a_key_opens_the_page_where_one_wanted_to_be(browser: Browser, closed: Stack) -> None:
    held = running_by_hand(closed, owner="acme")
    foreign = running_by_hand(closed, owner="other")
    browser.load(f"{closed.url}/#/jobs/{held.ref.id}")
    sign_in(browser, "hw_abcdefgh_" + "x" * 43)
    browser.until(lambda: "unknown" in browser.text("#sign-in .problem"), "the refusal")
    assert not shown(browser, "job-page")
    sign_in(browser, key(closed, "acme", "read", "submit", "cancel", "ops"))
    browser.until(lambda: browser.all(page(held.ref.id)), "the page of the job")
    assert signed_in(browser) == ("acme", "cancel, ops, read, submit")
    assert not shown(browser, "#sign-in")
    for selector in (".actions .cancel", "[data-view=new]", "[data-view=workers]"):
        assert shown(browser, selector), selector
    browser.go("#/")
    browser.until(lambda: browser.all(card(held.ref.id)), "the job in the list")
    assert not browser.all(card(foreign.ref.id))
    cookies = browser.cdp("Network.getAllCookies")["cookies"]
    assert [(one["httpOnly"], one["sameSite"]) for one in cookies] == [(True, "Strict")]
    # A reload stays in.
    browser.open(f"{closed.url}/")
    assert signed_in(browser)[0] == "acme"


def test_a_link_signs_in_and_its_token_is_gone_from_the_address(browser: Browser, closed: Stack) -> None:
    text = key(closed, "acme", "read")
    browser.load(f"{closed.url}/#token={text}")
    assert signed_in(browser) == ("acme", "read")
    assert text not in browser.run("return location.href + document.documentElement.outerHTML")


def test_a_link_of_another_owners_asks_before_it_takes_the_place_of_a_session(
    browser: Browser, closed: Stack
) -> None:
    """Or a link could have somebody work under the name of whoever sent it."""

    def follow(token: str) -> str:
        browser.load("about:blank")
        browser.load(f"{closed.url}/#token={token}")
        browser.until(lambda: shown(browser, "#other-session"), "the question")
        assert token not in browser.run("return location.href")
        return browser.text("#other-session p")

    browser.load(f"{closed.url}/#token={key(closed, 'acme', 'read')}")
    assert signed_in(browser) == ("acme", "read")
    other = key(closed, "other", "read")
    assert follow(other) == "This link signs in as other. You are signed in as acme."
    cookies = browser.cdp("Network.getAllCookies")["cookies"]
    browser.find("#other-session [value=stay]").click()
    assert signed_in(browser) == ("acme", "read")
    assert browser.cdp("Network.getAllCookies")["cookies"] == cookies, "nothing was replaced"
    # The Escape key is no yes.
    follow(other)
    browser.press(Keys.ESCAPE)
    assert signed_in(browser) == ("acme", "read")
    assert "unknown" in follow("hw_abcdefgh_" + "x" * 43)
    assert not shown(browser, "#other-session [value=change]")
    browser.find("#other-session [value=stay]").click()
    assert signed_in(browser) == ("acme", "read")
    follow(other)
    browser.find("#other-session [value=change]").click()
    assert signed_in(browser) == ("other", "read")
    # One's own key asks nothing.
    browser.load("about:blank")
    browser.load(f"{closed.url}/#token={key(closed, 'other', 'read', 'submit')}")
    assert signed_in(browser) == ("other", "read, submit")


def test_what_one_may_not_do_is_not_offered(browser: Browser, closed: Stack) -> None:
    live, ended = running_by_hand(closed, owner="acme"), running_by_hand(closed, owner="acme")
    closed.store.append(live, 1, [progress(0.4), log("a line")])
    closed.store.end(ended, State.SUCCEEDED)
    browser.load(f"{closed.url}/#token={key(closed, 'acme', 'read')}")
    signed_in(browser)
    browser.until(lambda: browser.all(card(live.ref.id)), "the list")
    assert not shown(browser, ".cancel")
    assert not shown(browser, "[data-view=new]")
    assert not shown(browser, "[data-view=workers]")
    assert not shown(browser, "#many-open")
    for job_id in (live.ref.id, ended.ref.id):
        browser.details(job_id)
        assert not any(shown(browser, f".actions {one}") for one in (".cancel", ".again", ".change"))
        assert not shown(browser, "message-form")
    # By the address, and by the keyboard.
    for address, role in (("#/workers", "ops"), ("#/new", "submit")):
        browser.go(address)
        browser.until(lambda role=role: f'role "{role}"' in browser.text("#notice"), "why not")
        assert shown(browser, "#jobs-view")
        assert not shown(browser, "#workers-view, #new-view")
    # Of what is done to many, only what one may do to one.
    browser.load("about:blank")
    browser.load(f"{closed.url}/#token={key(closed, 'acme', 'read', 'submit')}")
    browser.until(lambda: shown(browser, "#many-open"), "the button")
    browser.find("#many-open").click()
    assert [shown(browser, f"#many [value={one}]") for one in ("cancel", "retry", "delete")] == [
        False,
        True,
        False,
    ]
    assert browser.find("#many [value=retry]").is_selected()


def test_files_play_and_load_by_the_cookie(browser: Browser, closed: Stack) -> None:
    text = key(closed, "acme", "read", "submit")
    body = {"type": "video.encode", "params": {"input": "sample:1", "width": 160}}
    made = json.loads(closed.call("POST", "/jobs", body, {"Authorization": f"Bearer {text}"})[2])
    browser.load(f"{closed.url}/#token={text}")
    browser.details(made["id"])
    browser.until_state(made["id"], "succeeded")
    video = "return document.querySelector('video')?.readyState >= 1"
    browser.until(lambda: browser.run(video), "the film to be loaded")
    poster = browser.run("return document.querySelector('video').poster")
    assert browser.driver.execute_async_script(PICTURE, poster) == 160
    link = browser.find("artifact-list a[download='video.mp4']")
    link.click()
    file = browser.downloads / "video.mp4"
    browser.until(lambda: file.exists() and file.stat().st_size, "the download")


def test_a_session_that_ends_leads_to_the_sign_in_and_back(browser: Browser, closed: Stack) -> None:
    made, text = closed.store.access.create("acme", ("read", "submit", "cancel"))
    again = key(closed, "acme", "read", "submit", "cancel")
    browser.load(f"{closed.url}/#token={text}")
    signed_in(browser)
    browser.choose_type("simulate")
    browser.fill("[name='duration_s']", "7")
    closed.store.access.revoke(made.id)
    # The stream ends with the session, and nobody has to press anything.
    browser.until(lambda: shown(browser, "#sign-in"), "the sign-in", 90)
    assert "ended" in browser.text("#sign-in .problem")
    sign_in(browser, again)
    assert signed_in(browser)[0] == "acme"
    assert browser.find("[name='duration_s']").get_attribute("value") == "7", "the form is still there"


def test_signing_out_leaves_nothing_on_any_tab(browser: Browser, closed: Stack) -> None:
    held = running_by_hand(closed, owner="acme")
    text = key(closed, "acme", "read")
    browser.load(f"{closed.url}/#token={text}")
    signed_in(browser)
    first = browser.driver.current_window_handle
    browser.driver.switch_to.new_window("tab")
    try:
        browser.open(f"{closed.url}/")
        browser.until(lambda: browser.all(card(held.ref.id)), "the list")
        browser.driver.switch_to.window(first)
        browser.find("#who button").click()
        for tab in browser.driver.window_handles:
            browser.driver.switch_to.window(tab)
            browser.until(lambda: shown(browser, "#sign-in"), "the sign-in")
            assert not browser.all("job-card")
        assert browser.cdp("Network.getAllCookies")["cookies"] == []
        # Another owner signs in: this tab is theirs, too, and nothing of the first one's remains.
        sign_in(browser, key(closed, "other", "read"))
        assert signed_in(browser) == ("other", "read")
        browser.driver.switch_to.window(first)
        assert signed_in(browser) == ("other", "read")
    finally:
        for tab in set(browser.driver.window_handles) - {first}:
            browser.driver.switch_to.window(tab)
            browser.driver.close()
        browser.driver.switch_to.window(first)


def test_without_authentication_nothing_of_this_shows(chromium: Browser, tmp_path: Path) -> None:
    with Stack(tmp_path, AUTH="none", DRAIN_S="0") as stack:
        stack.start_web()
        chromium.open(stack.url)
        assert not shown(chromium, "#sign-in")
        assert not shown(chromium, "#who")
        for selector in ("[data-view=new]", "[data-view=workers]"):
            assert shown(chromium, selector)
        chromium.load("about:blank")

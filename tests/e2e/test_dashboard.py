"""The dashboard in a real Chromium, on the real stack."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from service.contract.events import EventType, dumps
from service.contract.states import ErrorCode, State
from service.contract.store import Claim, NewJob, Report
from tests.conftest import missing
from tests.e2e.browser import Browser, card, installed
from tests.stack import Stack

HOSTILE = '<img src=x onerror="window.hacked=1"><script>window.hacked=1</script>'


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    if installed() is None:
        missing("chromium with chromedriver")
    browser = Browser(tmp_path_factory.mktemp("profile"), tmp_path_factory.mktemp("downloads"))
    yield browser
    browser.close()


@pytest.fixture
def browser(chromium: Browser, stack: Stack) -> Iterator[Browser]:
    """The page, connected. Whatever a test does, it asks no one else for anything, and the console
    stays empty."""
    chromium.driver.get("about:blank")
    chromium.console_errors()
    chromium.requested_origins()
    chromium.open(stack.url)
    yield chromium
    assert chromium.requested_origins() <= {stack.url}
    assert chromium.console_errors() == []


def running_by_hand(stack: Stack, **more: Any) -> Claim:
    """A job of a type that no worker serves, claimed by the test."""
    fields = {"owner": "local", "type": "by.hand", "params": {}, "queue": "nobody", "max_attempts": 1}
    job_id = stack.store.create(NewJob(**{**fields, **more}))[0]
    ref = stack.store.ref(job_id)
    assert ref is not None
    claim = stack.store.claim(ref, token="by hand", lease_s=60, worker="test")
    assert claim is not None
    return claim


def progress(fraction: float | None, message: str = "") -> Report:
    body = dumps({"fraction": fraction, "message": message})
    return Report(EventType.PROGRESS, body, "progress", body)


def log(message: str) -> Report:
    return Report(EventType.LOG, dumps({"level": "info", "message": message}))


def test_a_job_submitted_with_the_form_moves_its_bar_until_it_succeeds(browser: Browser) -> None:
    browser.choose_type("simulate")
    browser.fill("[data-field=duration_s] input", "3")
    browser.fill("[data-field=stages] input", "2")
    browser.fill("[data-field=log_every] input", "10")
    job_id = browser.submit()
    browser.until(lambda: browser.all(card(job_id)), "the job to appear")
    values = browser.values(job_id)
    browser.until_state(job_id, "running")
    browser.until(lambda: "(2/2)" in browser.text(f"{card(job_id)} .stage"), "the second stage")
    browser.until_state(job_id, "succeeded")
    seen = [int(value) for value in values() if value is not None]
    assert len(set(seen)) >= 5
    assert seen == sorted(seen)
    assert seen[-1] == 100
    assert 100 not in seen[:-1]


def test_the_log_of_a_job_is_read_from_its_beginning_and_follows(browser: Browser, stack: Stack) -> None:
    claim = running_by_hand(stack)
    stack.store.append(claim, 1, [log("the first line")])
    browser.until(lambda: browser.all(card(claim.ref.id)), "the job to appear")
    browser.details(claim.ref.id)
    lines = f"{card(claim.ref.id)} job-log"
    browser.until(lambda: "the first line" in browser.text(lines), "what was said before")
    stack.store.append(claim, 2, [log(f"line {n}") for n in range(1200)])
    browser.until(lambda: "line 1199" in browser.text(lines), "the last line")
    assert len(browser.all(f"{lines} li")) == 1000
    assert "earlier lines are not shown" in browser.text(lines)
    stack.store.end(claim, State.SUCCEEDED, result={"answer": 42})
    browser.until_state(claim.ref.id, "succeeded")
    browser.until(lambda: "succeeded" in browser.text(f"{lines} li:last-child"), "the end in the log")
    assert '"answer": 42' in browser.text(f"{card(claim.ref.id)} job-details")


def test_a_job_that_somebody_else_submitted_appears_by_itself(browser: Browser, stack: Stack) -> None:
    job = stack.submit("simulate", {"duration_s": 1}, group="elsewhere", labels={"who": "cron"})
    browser.until(lambda: browser.all(card(job["id"])), "the job to appear")
    browser.until_state(job["id"], "succeeded")
    assert browser.text(f"{card(job['id'])} .group") == "elsewhere"
    assert browser.text(f"{card(job['id'])} .labels") == "who: cron"


def test_a_job_is_canceled_with_its_button(browser: Browser, stack: Stack) -> None:
    job = stack.submit("simulate", {"duration_s": 60})
    browser.until(lambda: browser.all(card(job["id"])), "the job to appear")
    browser.until_state(job["id"], "running")
    browser.find(f"{card(job['id'])} .cancel").click()
    browser.until_state(job["id"], "canceled")
    assert not browser.find(f"{card(job['id'])} .cancel").is_displayed()
    assert stack.wait_ended(job["id"])["state"] == "canceled"


def test_a_job_that_is_asked_to_stop_says_so_until_it_has(browser: Browser, stack: Stack) -> None:
    claim = running_by_hand(stack)
    button = f"{card(claim.ref.id)} .cancel"
    browser.until(lambda: browser.all(button), "the job to appear")
    stack.store.cancel(claim.ref.id)
    browser.until(lambda: browser.text(button) == "canceling…", "the button to say so")
    assert not browser.find(button).is_enabled()
    stack.store.end(claim, State.CANCELED, error=(ErrorCode.CANCELED, "the job was canceled"))
    browser.until_state(claim.ref.id, "canceled")


def test_a_failing_job_shows_its_attempts_and_its_error(browser: Browser, stack: Stack) -> None:
    job = stack.submit("simulate", {"duration_s": 0.5, "fail_at": 0.5}, max_attempts=2)
    browser.until(lambda: browser.all(card(job["id"])), "the job to appear")
    browser.until_state(job["id"], "failed")
    error = stack.wait_ended(job["id"])["error"]
    assert browser.text(f"{card(job['id'])} .error") == f"{error['code']}: {error['message']}"
    assert browser.text(f"{card(job['id'])} .attempt") == "attempt 2 of 2"
    assert browser.find(f"{card(job['id'])} [role=progressbar]").get_attribute("aria-valuenow") != "100"


def test_a_bar_whose_total_is_unknown_names_no_value(browser: Browser, stack: Stack) -> None:
    claim = running_by_hand(stack)
    bar = f"{card(claim.ref.id)} [role=progressbar]"
    stack.store.append(claim, 1, [progress(0.25)])
    browser.until(lambda: browser.find(bar).get_attribute("aria-valuenow") == "25", "a quarter")
    stack.store.append(claim, 2, [progress(None)])
    browser.until(lambda: browser.find(bar).get_attribute("aria-valuenow") is None, "no value")
    stack.store.append(claim, 3, [progress(1)])
    browser.until(lambda: browser.find(bar).get_attribute("aria-valuenow") == "99", "not yet all")
    stack.store.end(claim, State.SUCCEEDED)
    browser.until(lambda: browser.find(bar).get_attribute("aria-valuenow") == "100", "all of it")


def test_hostile_text_is_text_and_runs_nothing(browser: Browser, stack: Stack) -> None:
    claim = running_by_hand(
        stack, group=HOSTILE, labels={HOSTILE: "\u202ereversed"}, params={"text": HOSTILE}
    )
    here = card(claim.ref.id)
    browser.until(lambda: browser.all(here), "the job to appear")
    browser.details(claim.ref.id)
    url = "javascript:window.hacked=1"
    artifact = {"name": HOSTILE, "media_type": "text/html", "size": 1, "url": url, "attempt": 1}
    stack.store.append(
        claim,
        1,
        [
            progress(0.5, HOSTILE),
            log(f"{HOSTILE} \x1b[31m\u202e {'x' * 8000}"),
            Report(EventType.ARTIFACT, dumps(artifact), "artifacts", dumps([artifact])),
        ],
    )
    browser.until(lambda: HOSTILE in browser.text(f"{here} .message"), "the message")
    browser.until(lambda: HOSTILE in browser.text(f"{here} job-log"), "the log")
    browser.until(lambda: HOSTILE in browser.text(f"{here} artifact-list"), "the artifact")
    assert not browser.all(f"{here} artifact-list a"), "what leads elsewhere is no link"
    stack.store.end(claim, State.FAILED, error=(ErrorCode.ERROR, HOSTILE))
    browser.until(lambda: HOSTILE in browser.text(f"{here} .error"), "the error")
    assert browser.text(f"{here} .group") == HOSTILE
    assert browser.run("return window.hacked") is None
    assert not browser.all(f"{here} img, {here} script")
    assert browser.run("return document.documentElement.scrollWidth <= window.innerWidth")


def test_what_the_service_refuses_is_said_beside_its_field(browser: Browser) -> None:
    browser.choose_type("simulate")
    # The browser would say this itself; the service has the last word.
    browser.run("document.querySelector('#submit-form').noValidate = true")
    browser.fill("[data-field=stages] input", "0")
    browser.find("[data-part=submit]").click()
    error = "[data-field=stages] .field-error"
    browser.until(lambda: browser.text(error), "the error")
    assert browser.find("[data-field=stages] input").get_attribute("aria-invalid") == "true"
    assert browser.run("return document.activeElement.name") == "stages"
    browser.fill("[data-field=stages] input", "1")
    browser.fill("[data-field=duration_s] input", "0.2")
    browser.submit()
    assert browser.text(error) == ""
    # The console reports every answer that is an error; this one was asked for.
    refused = browser.console_errors()
    assert len(refused) == 1
    assert "422" in refused[0]


def test_a_job_is_opened_and_closed_with_the_keyboard(browser: Browser, stack: Stack) -> None:
    job = stack.submit("simulate", {"duration_s": 0.2})
    title = f"{card(job['id'])} .title"
    browser.until(lambda: browser.all(title), "the job to appear")
    browser.run("document.querySelector(arguments[0]).focus()", title)
    browser.find(title).send_keys("\ue007")
    browser.until(lambda: browser.all(f"{card(job['id'])} job-details"), "the details to open")
    assert browser.find(title).get_attribute("aria-expanded") == "true"
    browser.find(title).send_keys("\ue007")
    browser.until(lambda: not browser.all("job-details"), "the details to close")


def test_the_address_of_a_job_opens_it_and_of_none_says_so(browser: Browser, stack: Stack) -> None:
    job = stack.submit("simulate", {"duration_s": 0.2})
    browser.open(f"{stack.url}/#/jobs/{job['id']}")
    browser.until(lambda: browser.all(f"{card(job['id'])} job-details"), "the details to open")
    browser.run("location.hash = '#/jobs/0-AAAAAAAAAAAAAAAAAAAAAA'")
    browser.until(lambda: "There is no job" in browser.text("#notice"), "the notice")
    missing_job = browser.console_errors()
    assert len(missing_job) == 1
    assert "404" in missing_job[0]


def test_the_page_comes_with_a_policy_that_allows_nothing_inline(stack: Stack) -> None:
    _, headers, page = stack.call("GET", "/")
    assert "script-src 'self'" in headers["content-security-policy"]
    assert "unsafe" not in headers["content-security-policy"]
    assert b" style=" not in page


def test_pages_that_were_left_hold_no_connection(browser: Browser, stack: Stack) -> None:
    # A browser has six connections to a host: with the seventh page nothing would load any more.
    for _ in range(8):
        browser.driver.get("about:blank")
        browser.open(stack.url)
    browser.driver.get("about:blank")
    browser.driver.back()
    browser.until(lambda: browser.connection() == "Live", "the page to be live again")
    job = stack.submit("simulate", {"duration_s": 0.2})
    browser.until_state(job["id"], "succeeded")


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """A small real video with sound."""
    from worker.ffmpeg import locate

    path = tmp_path / "a small clip.mp4"
    sources = ["-f", "lavfi", "-i", "testsrc2=duration=2:size=320x180:rate=25"]
    sources += ["-f", "lavfi", "-i", "sine=duration=2"]
    command = [locate("ffmpeg"), "-nostdin", "-v", "error", *sources, "-shortest", str(path)]
    subprocess.run(command, check=True, timeout=60)
    return path


def test_an_uploaded_video_is_encoded_played_and_downloaded(
    browser: Browser, stack: Stack, clip: Path
) -> None:
    browser.choose_type("video.encode")
    browser.find("[data-field=input] input[value=upload]").click()
    browser.find("[data-field=input] input[type=file]").send_keys(str(clip))
    job_id = browser.submit()
    browser.details(job_id)
    browser.until_state(job_id, "succeeded", "failed")
    assert browser.state(job_id) == "succeeded", browser.text(f"{card(job_id)} .error")
    video = browser.until(lambda: browser.find(f"{card(job_id)} video"), "the player")
    browser.run("arguments[0].muted = true; arguments[0].play()", video)
    browser.until(
        lambda: browser.run("return arguments[0].readyState >= 2 && arguments[0].currentTime > 0.2", video),
        "the video to play",
    )
    assert browser.run("return arguments[0].error", video) is None
    artifact = next(a for a in stack.get(f"/jobs/{job_id}")[1]["artifacts"] if a["name"].endswith(".mp4"))
    link = browser.find(f"{card(job_id)} artifact-list a[download='{artifact['name']}']")
    link.click()
    saved = browser.downloads / artifact["name"]
    browser.until(lambda: saved.exists() and saved.stat().st_size == artifact["size"], "the download")


def test_while_the_service_is_away_the_page_says_so_and_then_goes_on(
    chromium: Browser, own_stack: Stack
) -> None:
    own_stack.start_web()
    chromium.open(own_stack.url)
    claim = running_by_hand(own_stack)
    here = card(claim.ref.id)
    own_stack.store.append(claim, 1, [progress(0.2)])
    chromium.until(lambda: chromium.text(f"{here} .percent") == "20 %", "the job")
    ended_meanwhile = running_by_hand(own_stack)
    chromium.until(lambda: chromium.all(card(ended_meanwhile.ref.id)), "the other job")

    own_stack.stop("web", signal.SIGKILL)
    chromium.until(lambda: chromium.connection().startswith("Reconnecting since"), "the page to say so")
    assert chromium.run("return document.body.classList.contains('out-of-date')")
    own_stack.store.append(claim, 2, [progress(0.6)])
    own_stack.store.end(ended_meanwhile, State.FAILED, error=(ErrorCode.ERROR, "while nobody looked"))
    created_meanwhile = running_by_hand(own_stack)
    own_stack.start_web()

    chromium.until(lambda: chromium.connection() == "Live", "the page to be live again")
    chromium.until(lambda: chromium.text(f"{here} .percent") == "60 %", "what it missed")
    chromium.until_state(ended_meanwhile.ref.id, "failed")
    chromium.until_state(created_meanwhile.ref.id, "running")
    own_stack.store.end(claim, State.SUCCEEDED)
    chromium.until_state(claim.ref.id, "succeeded")


def test_a_connection_that_is_silent_is_out_of_date(chromium: Browser, own_stack: Stack) -> None:
    own_stack.start_web()
    chromium.open(own_stack.url)
    claim = running_by_hand(own_stack)
    chromium.until(lambda: chromium.all(card(claim.ref.id)), "the job")
    # Until it has heard a heartbeat, the page does not know how long silence may last.
    before = own_stack.store.redis.time()[0]
    chromium.until(lambda: own_stack.store.redis.time()[0] > before + 2, "two heartbeats")
    os.killpg(own_stack.pid("web"), signal.SIGSTOP)
    try:
        chromium.until(lambda: chromium.connection().startswith("Out of date"), "the page to say so")
    finally:
        os.killpg(own_stack.pid("web"), signal.SIGCONT)
    own_stack.store.append(claim, 1, [progress(0.5)])
    chromium.until(lambda: chromium.connection() == "Live", "the page to be live again")
    chromium.until(lambda: chromium.text(f"{card(claim.ref.id)} .percent") == "50 %", "what it missed")

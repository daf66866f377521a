"""The dashboard in a real Chromium, on the real stack."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from selenium.webdriver.common.keys import Keys

from headway.contract.encoding import dumps
from headway.contract.events import EventType
from headway.contract.messages import message_body
from headway.contract.new_job import NewJob
from headway.contract.states import ErrorCode, State
from headway.contract.store import Report
from tests.support.browser import Browser, card, page
from tests.support.manual_jobs import HOSTILE, log, progress, running_by_hand
from tests.support.stack import Stack


def test_a_job_submitted_with_the_form_moves_its_bar_until_it_succeeds(browser: Browser) -> None:
    browser.choose_type("simulate")
    browser.fill("[data-field=duration_s] input", "3")
    browser.fill("[data-field=stages] input", "2")
    browser.fill("[data-field=log_every] input", "10")
    job_id = browser.submit()
    values = browser.values(job_id)
    browser.until_state(job_id, "running")
    browser.until(lambda: "(2/2)" in browser.text(f"{page(job_id)} .stage"), "the second stage")
    browser.until_state(job_id, "succeeded")
    seen = [int(value) for value in values() if value is not None]
    assert len(set(seen)) >= 5
    assert seen == sorted(seen)
    assert seen[-1] == 100
    assert 100 not in seen[:-1]


def test_the_log_of_a_job_is_read_from_its_beginning_and_follows(browser: Browser, stack: Stack) -> None:
    claim = running_by_hand(stack)
    stack.store.append(claim, 1, [log("the first line")])
    browser.details(claim.ref.id)
    lines = f"{page(claim.ref.id)} .log-section"
    browser.until(lambda: "the first line" in browser.text(lines), "what was said before")
    stack.store.append(claim, 2, [log(f"line {n}") for n in range(1200)])
    browser.until(lambda: "line 1199" in browser.text(lines), "the last line")
    assert len(browser.all(f"{lines} li")) == 1000
    assert "earlier lines are not shown" in browser.text(lines)
    at_end = """
        const {scrollHeight, scrollTop, clientHeight} = document.querySelector("job-page .log");
        return scrollHeight - scrollTop - clientHeight < 24;
    """
    browser.until(lambda: browser.run(at_end), "the log to be at its end")

    # Who scrolls up reads in peace, until the button is pressed.
    browser.run("document.querySelector('job-page .log').scrollTop = 100")
    follow = f"{lines} .follow"
    browser.until(lambda: browser.find(follow).is_displayed(), "the button")
    stack.store.append(claim, 3, [log("one more")])
    browser.until(lambda: browser.text(follow) == "Follow (1 new)", "the button to say how much is new")
    assert not browser.run(at_end)
    browser.find(follow).click()
    browser.until(lambda: browser.run(at_end), "the log to follow again")

    stack.store.end(claim, State.SUCCEEDED, result={"answer": 42})
    browser.until_state(claim.ref.id, "succeeded")
    browser.until(lambda: "succeeded" in browser.text(f"{lines} li:last-child"), "the end in the log")
    assert '"answer": 42' in browser.text(f"{page(claim.ref.id)} .result-section")


def test_messages_are_in_the_log_and_are_sent_from_the_page(browser: Browser, stack: Stack) -> None:
    claim = running_by_hand(stack)
    job_id = claim.ref.id
    question = message_body("task", "question", {"text": HOSTILE})
    said = dumps({"text": HOSTILE})
    stack.store.append(claim, 1, [Report(EventType.MESSAGE, question)])
    browser.details(job_id)
    lines = f"{page(job_id)} .log-section"
    browser.until(lambda: f"question: {said}" in browser.text(lines), "the question")
    assert not browser.run("return window.hacked")
    browser.find("message-form summary").click()
    data = browser.find("message-form [aria-label=Message]")
    data.send_keys('{"text": "yes"}', Keys.ENTER)
    browser.until(lambda: 'message: {"text":"yes"}' in browser.text(f"{lines} li:last-child"), "the answer")
    assert [m.data for m in stack.store.messages.unread(job_id)] == [{"text": "yes"}]
    browser.until(lambda: not data.get_attribute("value"), "room for the next")
    stack.store.end(claim, State.SUCCEEDED)
    browser.until(lambda: not browser.find("message-form").is_displayed(), "nothing to send to")


def test_a_job_that_somebody_else_submitted_appears_by_itself(browser: Browser, stack: Stack) -> None:
    job = stack.submit("simulate", {"duration_s": 1}, group="elsewhere", labels={"who": "cron"})
    browser.until(lambda: browser.all(card(job["id"])), "the job to appear")
    browser.until_state(job["id"], "succeeded")
    assert browser.text(f"{card(job['id'])} .group") == "elsewhere"
    assert browser.text(f"{card(job['id'])} .label") == "who: cron"


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
    browser.until(lambda: browser.text(button) == "Canceling…", "the button to say so")
    assert browser.find(button).get_attribute("aria-disabled") == "true"
    stack.store.end(claim, State.CANCELED, error=(ErrorCode.CANCELED, "the job was canceled"))
    browser.until_state(claim.ref.id, "canceled")


def test_a_failing_job_shows_its_attempts_and_its_error(browser: Browser, stack: Stack) -> None:
    job = stack.submit("simulate", {"duration_s": 0.5, "fail_at": 0.5}, max_attempts=2)
    browser.until(lambda: browser.all(card(job["id"])), "the job to appear")
    browser.until_state(job["id"], "failed")
    error = stack.wait_ended(job["id"])["error"]
    assert browser.text(f"{card(job['id'])} .about-job.error") == f"{error['code']}: {error['message']}"
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
    labels = {HOSTILE: "\u202ereversed"}
    claim = running_by_hand(stack, group=HOSTILE, labels=labels, params={"text": HOSTILE})
    url = "javascript:window.hacked=1"
    artifact = {"name": HOSTILE, "media_type": "text/html", "size": 1, "url": url, "attempt": 1}
    body = dumps({"fraction": 0.5, "message": HOSTILE, "stage": {"name": HOSTILE, "index": 1, "count": 2}})
    stack.store.append(
        claim,
        1,
        [
            Report(EventType.PROGRESS, body, "progress", body),
            log(f"{HOSTILE} \x1b[31m\u202e {'x' * 8000}"),
            Report(EventType.ARTIFACT, dumps(artifact), "artifacts", dumps([artifact])),
        ],
    )
    stays_within = "return document.documentElement.scrollWidth <= window.innerWidth"
    browser.until(lambda: HOSTILE in browser.text(f"{card(claim.ref.id)} .message"), "the message")
    assert browser.text(f"{card(claim.ref.id)} .group") == HOSTILE
    assert browser.text(f"{card(claim.ref.id)} .label") == f"{HOSTILE}: \u202ereversed"
    assert browser.run(stays_within)

    browser.details(claim.ref.id)
    here = page(claim.ref.id)
    for part in (
        ".log-section",
        "artifact-list",
        "job-stages",
        "job-timeline",
        ".parameters-section",
        "job-tags",
    ):
        selector = f"{here} {part}"
        said = HOSTILE if part != ".parameters-section" else HOSTILE.replace('"', '\\"')
        browser.until(lambda selector=selector, said=said: said in browser.text(selector), part)
    assert not browser.all(f"{here} artifact-list a"), "what leads elsewhere is no link"
    stack.store.end(claim, State.FAILED, error=(ErrorCode.ERROR, HOSTILE))
    browser.until(lambda: HOSTILE in browser.text(f"{here} > .error"), "the error")
    browser.until(lambda: HOSTILE in browser.text(f"{here} job-attempts"), "the attempt's end")
    assert browser.run("return window.hacked") is None
    assert not browser.all("main img, main script")
    assert browser.run(stays_within)


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
    browser.until_state(browser.submit(), "succeeded")
    browser.go("#/new")
    assert browser.text(error) == ""
    # The console reports every answer that is an error; this one was asked for.
    refused = browser.console_errors()
    assert len(refused) == 1
    assert "422" in refused[0]


def test_the_list_is_gone_through_with_the_keyboard(browser: Browser, stack: Stack) -> None:
    older, newer = [stack.submit("simulate", {"duration_s": 0.2})["id"] for _ in range(2)]
    browser.until(lambda: browser.all(card(newer)), "the jobs to appear")
    focused = "return document.activeElement.closest('job-card')?.dataset.id"
    browser.press("j")
    browser.until(lambda: browser.run(focused) == newer, "the newest job to be next")
    browser.press("j")
    browser.until(lambda: browser.run(focused) == older, "the job before that to be next")
    browser.press("k")
    browser.until(lambda: browser.run(focused) == newer, "to be back at the newest")
    browser.press(Keys.ENTER)
    browser.until(lambda: browser.all(page(newer)), "the job's page")
    assert browser.run("return document.activeElement.tagName") == "H2"
    browser.press(Keys.ESCAPE)
    browser.until(lambda: browser.all(card(newer)), "the list again")
    browser.press("/")
    browser.until(lambda: browser.run("return document.activeElement.type") == "search", "the search")
    browser.press("j")
    assert browser.run("return document.activeElement.value") == "j", "in a field a key is a letter"
    browser.press(Keys.ESCAPE)
    browser.press("?")
    browser.until(lambda: browser.find("#help").is_displayed(), "the list of keys")
    browser.press(Keys.ESCAPE)
    browser.until(lambda: not browser.find("#help").is_displayed(), "it to close")


def test_the_address_of_a_job_opens_it_and_of_none_says_so(browser: Browser, stack: Stack) -> None:
    job = stack.submit("simulate", {"duration_s": 0.2})
    browser.open(f"{stack.url}/#/jobs/{job['id']}")
    browser.until(lambda: browser.all(page(job["id"])), "the job's page")
    browser.go("#/jobs/0-AAAAAAAAAAAAAAAAAAAAAA")
    browser.until(lambda: "No such job" in browser.text("#notice"), "the notice")
    assert not browser.all("job-page")
    missing_job = browser.console_errors()
    assert len(missing_job) == 1
    assert "404" in missing_job[0]


def test_jobs_are_found_by_state_type_group_and_words(browser: Browser, stack: Stack) -> None:
    def by_hand(**more: Any) -> str:
        return running_by_hand(stack, **more).ref.id

    one = by_hand(type="find.me", group="haystack", labels={"customer": "Ünal & Sons"})
    two = running_by_hand(stack, type="find.me", group="haystack")
    stack.store.append(two, 1, [progress(0.5, "looking for the needle")])
    stack.store.end(two, State.FAILED, error=(ErrorCode.ERROR, "it broke"))
    other = by_hand(type="find.other", group="barn")

    def finds(*ids: str, of: tuple[str, ...] = (one, two.ref.id, other)) -> None:
        expected = {job_id: job_id in ids for job_id in of}
        browser.until(lambda: {i: bool(browser.all(card(i))) for i in of} == expected, f"only {ids}")

    finds(one, two.ref.id, other)
    for words, ids in {
        "needle": [two.ref.id],
        "ünal customer": [one],
        other: [other],
        "find.me": [one, two.ref.id],
        "it broke": [two.ref.id],
        "find.me barn": [],
    }.items():
        browser.fill("[data-part=search]", words)
        finds(*ids)
    browser.go("#/?group=haystack&state=failed")
    finds(two.ref.id)
    assert browser.run("return document.querySelector('[name=state]:checked').value") == "failed"
    browser.find("[name=state][value='']").click()
    finds(one, two.ref.id)
    assert browser.run("return location.hash") == "#/?group=haystack"
    browser.find("[data-part=group] option[value='']").click()
    browser.find("[data-part=type] option[value='find.other']").click()
    finds(other)


def test_a_group_has_a_bar_and_all_of_it_is_canceled_and_retried(browser: Browser, stack: Stack) -> None:
    name = f"<b>group</b> {secrets.token_hex(4)}"
    stack.store.groups.put("local", name, expected=4, title=HOSTILE)
    claims = [running_by_hand(stack, group=name) for _ in range(2)]
    stack.store.append(claims[0], 1, [progress(0.5)])
    stack.store.end(claims[1], State.FAILED, error=(ErrorCode.ERROR, "x"))
    browser.go(f"#/?{urlencode({'group': name})}")
    summary = "group-summary"
    browser.until(lambda: "2 of 4 jobs: 1 running, 1 failed" in browser.text(summary), "the counts")
    assert HOSTILE in browser.text(f"{summary} h3")
    assert not browser.run("return window.hacked")
    bar = f"return document.querySelector('{summary} [role=progressbar]').ariaValueNow"
    assert browser.run(bar) == "37"
    browser.find(f"{summary} .again").click()
    browser.until(lambda: "2 of 4 jobs: 1 running, 1 queued" in browser.text(summary), "the retry")
    browser.find(f"{summary} .cancel").click()
    browser.until(lambda: "1 running, 1 canceled" in browser.text(summary), "the cancellation")
    assert stack.store.renew(claims[0], lease_s=60), "the one that runs is asked to stop"
    stack.store.end(claims[0], State.CANCELED)
    stack.store.groups.put("local", name, expected=2, title=None)
    browser.until(lambda: "2 of 2 jobs: 2 canceled" in browser.text(summary), "the end")
    assert not browser.find(f"{summary} .cancel").is_displayed()
    browser.go("#/")
    browser.until(lambda: not browser.find(summary).is_displayed(), "all jobs")


def test_a_job_that_was_retried_shows_its_attempts_stages_and_pace(browser: Browser, stack: Stack) -> None:
    params = {"duration_s": 6, "stages": 2, "fail_at": 0.2, "fail_attempts": 1, "log_every": 5}
    job_id = stack.submit("simulate", params, max_attempts=2)["id"]
    browser.details(job_id)
    browser.until_state(job_id, "succeeded")
    rows = f"{page(job_id)} job-attempts tbody tr"
    browser.until(lambda: len(browser.all(rows)) == 2, "both attempts")
    assert "retrying" in browser.text(f"{rows}:first-child")
    assert "asked to fail at 0.2" in browser.text(f"{rows}:first-child")
    assert "succeeded" in browser.text(f"{rows}:last-child")
    stages = browser.all(f"{page(job_id)} job-stages li")
    assert [stage.get_attribute("data-state") for stage in stages] == ["done", "done"]
    kinds = [one.get_attribute("data-kind") for one in browser.all(f"{page(job_id)} job-timeline li")]
    assert kinds[0] == "queued"
    assert kinds[-1] == "succeeded"
    assert kinds.count("running") == 2
    assert kinds.index("retrying") < kinds.index("running", 2)
    curve = browser.find(f"{page(job_id)} rate-chart .curve").get_attribute("d")
    assert str(curve).count("L") >= 3
    # What was followed is what is there to be read by somebody who comes later.
    followed = browser.text(f"{page(job_id)} job-timeline")
    browser.open(f"{stack.url}/#/jobs/{job_id}")
    browser.until(lambda: browser.text(f"{page(job_id)} job-timeline") == followed, "the same timeline")


def test_a_job_is_done_again_and_again_with_changes(browser: Browser, stack: Stack) -> None:
    params = {"duration_s": 0.3, "stages": 2, "rate": 20}
    first = stack.submit("simulate", params, group="again", labels={"try": "1"}, timeout_s=30)["id"]
    browser.details(first)
    browser.until_state(first, "succeeded")
    browser.find(f"{page(first)} .again").click()
    second = browser.until(lambda: browser.run(OTHER_PAGE, first), "the new job's page")
    assert stack.get(f"/jobs/{second}")[1]["retry_of"] == first
    browser.until_state(second, "succeeded")
    browser.find(f"{page(second)} .change").click()
    stages = "[data-field=stages] input"
    browser.until(lambda: browser.find(stages).get_attribute("value") == "2", "the form to be filled in")
    browser.fill(stages, "3")
    third = stack.get(f"/jobs/{browser.submit()}")[1]
    assert third["params"].items() >= {**params, "stages": 3}.items()
    assert (third["group"], third["labels"], third["timeout_s"]) == ("again", {"try": "1"}, 30)
    browser.until_state(third["id"], "succeeded")


OTHER_PAGE = """
const id = document.querySelector("job-page")?.dataset.id;
return id && id !== arguments[0] ? id : null;
"""

DROP = """
const held = new DataTransfer();
held.items.add(new File(["dropped"], "dropped <b>file</b>.txt"));
document.body.dispatchEvent(new DragEvent("drop", {bubbles: true, cancelable: true, dataTransfer: held}));
"""


def test_a_file_that_is_dropped_on_the_page_is_uploaded(browser: Browser, stack: Stack) -> None:
    browser.choose_type("file.checksum")
    browser.run(DROP)
    upload = "[data-field=input] input[type=file]"
    browser.until(
        lambda: browser.run("return document.querySelector(arguments[0]).files.length", upload), "it"
    )
    job_id = browser.submit()
    browser.until_state(job_id, "succeeded")
    assert stack.get(f"/jobs/{job_id}")[1]["result"]["size"] == len("dropped")


def test_a_job_that_waits_says_why(browser: Browser, stack: Stack) -> None:
    job_id = stack.store.create(
        NewJob(owner="local", type="by.nobody", params={}, queue="nobody", max_attempts=1)
    )[0]
    reason = "no living worker serves by.nobody"
    browser.until(lambda: browser.text(f"{card(job_id)} .about-job") == reason, "the reason in the list")
    browser.details(job_id)
    browser.until(lambda: browser.text(f"{page(job_id)} .waiting") == reason, "the reason on its page")
    stack.store.cancel(job_id)
    browser.until_state(job_id, "canceled")
    assert browser.text(f"{page(job_id)} .waiting") == ""


def test_the_workers_page_shows_who_does_what(browser: Browser, stack: Stack) -> None:
    job = stack.submit("simulate", {"duration_s": 60})
    browser.go("#/workers")
    held = f"workers-page .held a[href='#/jobs/{job['id']}']"
    browser.until(lambda: browser.all(held), "the job beside its worker")
    assert "of 2 slots busy" in browser.text("workers-page > .note")
    assert browser.all("workers-page table tbody tr")
    stack.call("POST", f"/jobs/{job['id']}/cancel")
    browser.until(lambda: not browser.all(held), "the job to go")
    browser.find("workers-page .free")


def test_a_notification_tells_of_an_end_while_nobody_looks(browser: Browser, stack: Stack) -> None:
    browser.driver.execute_cdp_cmd(
        "Browser.grantPermissions", {"origin": stack.url, "permissions": ["notifications"]}
    )
    assert browser.text("#notices") == "Notify me"
    browser.find("#notices").click()
    browser.until(lambda: browser.text("#notices") == "Notify me ✓", "the button to say so")
    # The real thing, with an ear at it: nothing tells a page what the system has shown.
    browser.run(
        """
        window.told = [];
        window.Notification = new Proxy(Notification, {
          construct(real, [title, options]) {
            window.told.push(`${title}: ${options.body}`);
            return new real(title, options);
          },
        });
        Object.defineProperty(document, "hidden", {get: () => window.away, configurable: true});
        """
    )
    seen = running_by_hand(stack)
    browser.until(lambda: browser.state(seen.ref.id) == "running", "the first job")
    stack.store.end(seen, State.SUCCEEDED)
    browser.until_state(seen.ref.id, "succeeded")
    browser.run("window.away = true")
    unseen = running_by_hand(stack)
    browser.until(lambda: browser.state(unseen.ref.id) == "running", "the second job")
    stack.store.end(unseen, State.FAILED, error=(ErrorCode.ERROR, HOSTILE))
    browser.until(lambda: browser.run("return window.told"), "the notification")
    assert browser.run("return window.told") == [f"by.hand failed: {HOSTILE}"]
    browser.find("#notices").click()
    assert browser.text("#notices") == "Notify me"


@pytest.mark.long
def test_thousands_of_jobs_are_a_few_cards_and_all_can_be_reached(
    chromium: Browser, own_stack: Stack
) -> None:
    own_stack.start_web()
    fields = {"owner": "local", "type": "by.hand", "params": {}, "queue": "nobody", "max_attempts": 1}
    ids = [own_stack.store.create(NewJob(**fields, group=f"g{n % 10}"))[0] for n in range(2000)]
    chromium.open(own_stack.url)
    chromium.until(lambda: chromium.text(".chip[data-state=queued] .count") == "2,000", "all of them", 60)
    count = "return document.querySelectorAll('job-card').length"
    nodes = "return document.querySelectorAll('job-list *').length"
    assert 0 < chromium.run(count) < 40
    assert chromium.run(nodes) < 1000
    chromium.find(card(ids[-1]))
    chromium.run("scrollTo(0, document.documentElement.scrollHeight / 2)")
    chromium.until(lambda: not chromium.all(card(ids[-1])), "the first ones to go")
    held = chromium.run(
        """
        const cards = [...document.querySelectorAll("job-card")];
        const card = cards.find((one) => one.getBoundingClientRect().top > 100);
        window.held = card.dataset.id;
        return card.getBoundingClientRect().top;
        """
    )
    # What comes in above does not move what is looked at.
    newest = own_stack.store.create(NewJob(**fields))[0]
    chromium.until(lambda: chromium.text(".chip[data-state=queued] .count") == "2,001", "one more")
    top = "return document.querySelector(`[data-id='${window.held}']`).getBoundingClientRect().top"
    assert abs(chromium.run(top) - held) < 1
    chromium.run("scrollTo(0, document.documentElement.scrollHeight)")
    chromium.until(lambda: chromium.all(card(ids[0])), "the last one")
    assert chromium.run(count) < 40
    chromium.run("scrollTo(0, 0)")
    chromium.until(lambda: chromium.all(card(newest)), "the newest one")
    chromium.fill("[data-part=search]", ids[17])
    chromium.until(lambda: chromium.run(count) == 1 and chromium.all(card(ids[17])), "the one")


@pytest.mark.long
def test_a_page_that_is_open_all_day_does_not_grow(chromium: Browser, own_stack: Stack) -> None:
    own_stack.start_web()
    chromium.open(own_stack.url)
    store = own_stack.store
    running_by_hand(own_stack)
    padding = "x" * 8000

    def pass_through(count: int) -> str:
        """So many jobs come, run and end, in eight groups a hundred; the last one's id."""
        for n in range(count):
            claim = running_by_hand(own_stack, params={"padding": padding}, group=f"g{n // 12}")
            store.end(claim, State.SUCCEEDED if n % 10 else State.FAILED)
        chromium.until(lambda: chromium.all(card(claim.ref.id)), "the last one")
        chromium.until_state(claim.ref.id, "succeeded", "failed")
        return claim.ref.id

    def measured() -> tuple[float, int]:
        """MB of live objects of the page, and its nodes."""
        chromium.driver.execute_cdp_cmd("HeapProfiler.collectGarbage", {})
        heap = chromium.driver.execute_cdp_cmd("Runtime.getHeapUsage", {})["usedSize"]
        return heap / 1e6, chromium.run("return document.querySelectorAll('*').length")

    # By now a thousand are held, and a hundred were let go of.
    pass_through(1150)
    megabytes, nodes = measured()
    pass_through(350)
    later, nodes_later = measured()
    assert later - megabytes < 1.4, f"{megabytes} MB, then {later} MB: 350 jobs are 2.8 MB"
    assert nodes_later - nodes < 300
    # The service counts, and the page asks it now and then.
    running = ".chip[data-state=running] .count"
    chromium.until(lambda: chromium.text(running) == "1", "what lives to be counted still")


@pytest.mark.long
def test_pages_that_were_left_hold_no_connection(browser: Browser, stack: Stack) -> None:
    # A browser has six connections to a host: with the seventh page nothing would load any more.
    for _ in range(8):
        browser.load("about:blank")
        browser.open(stack.url)
    browser.load("about:blank")
    browser.driver.back()
    browser.until(lambda: browser.connection() == "Live", "the page to be live again")
    job = stack.submit("simulate", {"duration_s": 0.2})
    browser.until_state(job["id"], "succeeded")


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """A small real video with sound."""
    from worker.media.ffmpeg import locate

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
    browser.until_state(job_id, "succeeded", "failed")
    assert browser.state(job_id) == "succeeded", browser.text(f"{page(job_id)} > .error")
    video = browser.until(lambda: browser.find(f"{page(job_id)} video"), "the player")
    browser.run("arguments[0].muted = true; arguments[0].play()", video)
    browser.until(
        lambda: browser.run("return arguments[0].readyState >= 2 && arguments[0].currentTime > 0.2", video),
        "the video to play",
    )
    assert browser.run("return arguments[0].error", video) is None
    artifact = next(a for a in stack.get(f"/jobs/{job_id}")[1]["artifacts"] if a["name"].endswith(".mp4"))
    link = browser.find(f"{page(job_id)} artifact-list a[download='{artifact['name']}']")
    link.click()
    saved = browser.downloads / artifact["name"]
    browser.until(lambda: saved.exists() and saved.stat().st_size == artifact["size"], "the download")


@pytest.mark.long
def test_while_the_service_is_away_the_page_says_so_and_then_goes_on(
    chromium: Browser, own_stack: Stack
) -> None:
    own_stack.start_web()
    chromium.open(own_stack.url)
    claim = running_by_hand(own_stack)
    here = card(claim.ref.id)
    own_stack.store.append(claim, 1, [progress(0.2, eta_s=40)])
    chromium.until(lambda: chromium.text(f"{here} .percent") == "20 %", "the job")
    assert "40 s left" in chromium.text(f"{here} .pace")
    ended_meanwhile = running_by_hand(own_stack)
    chromium.until(lambda: chromium.all(card(ended_meanwhile.ref.id)), "the other job")

    own_stack.stop("web", signal.SIGKILL)
    chromium.until(lambda: chromium.connection().startswith("Reconnecting for"), "the page to say so")
    assert chromium.run("return document.body.classList.contains('out-of-date')")
    assert "left" not in chromium.text(f"{here} .pace"), "nobody knows whether it goes on"
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


@pytest.mark.long
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

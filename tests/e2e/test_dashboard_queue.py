"""The dashboard's places for what a queue does: labels, many jobs at once, pauses, priorities and times."""

from __future__ import annotations

import secrets
from datetime import datetime
from urllib.parse import parse_qs, urlsplit

from selenium.webdriver.common.keys import Keys

from headway.contract.new_job import NewJob
from tests.support.browser import Browser, card, page
from tests.support.manual_jobs import HOSTILE
from tests.support.stack import Stack


def test_a_label_leads_to_its_jobs_and_all_of_them_are_canceled_at_once(
    browser: Browser, stack: Stack
) -> None:
    def queued(label: str) -> str:
        new = NewJob("local", "by.nobody", {}, "nobody", 1, labels={"customer": label})
        return stack.store.create(new)[0]

    name = f"<b>{secrets.token_hex(4)}</b>: {HOSTILE}"
    mine, other = [queued(name) for _ in range(3)], queued("other")
    browser.until(lambda: browser.all(card(other)), "the list")
    browser.find(f"{card(mine[0])} .label").click()
    browser.until(lambda: not browser.all(card(other)), "those with the label alone")
    assert all(browser.all(card(job_id)) for job_id in mine)
    assert parse_qs(urlsplit(browser.run("return location.hash.slice(1)")).query) == {
        "label": [f"customer:{name}"]
    }
    browser.find("#many-open").click()
    assert name in browser.text("#many [data-part=which]")
    browser.find("#many [data-part=act]").click()
    act = "Cancel 3 jobs"
    browser.until(lambda: browser.text("#many [data-part=act]") == act, "what would be done")
    assert {stack.document(job_id)["state"] for job_id in mine} == {"queued"}
    browser.find("#many [data-part=act]").click()
    browser.until(lambda: browser.text("#many [data-part=said]") == "3 canceled.", "what was done")
    browser.press(Keys.ESCAPE)
    for job_id in mine:
        browser.until_state(job_id, "canceled")
    assert stack.document(other)["state"] == "queued"
    browser.find("#filters .labels button").click()
    browser.until(lambda: browser.all(card(other)), "all jobs again")
    browser.until(lambda: browser.text("[data-state=canceled] .count"), "how many were canceled")
    stack.store.cancel(other)


def test_queues_types_and_workers_are_paused_and_resumed(browser: Browser, stack: Stack) -> None:
    def paused() -> set[str]:
        return {pause["kind"] for pause in stack.get("/workers")[1]["paused"]}

    def press(selector: str) -> None:
        # A card is drawn anew every two seconds.
        browser.until(lambda: browser.find(selector).click() is None, f"a click on {selector}")

    buttons = ["[value='/queues/video/{}']", "[value='/types/file.checksum/{}']", ".worker [value$='/{}']"]
    browser.go("#/workers")
    verbs = ["pause", "pause", "drain"]
    try:
        for button, verb in zip(buttons, verbs, strict=True):
            selector = f"workers-page {button.format(verb)}"
            press(selector)
            undo = f"workers-page {button.format('resume')}"
            browser.until(lambda undo=undo: browser.all(undo), "it to be paused")
        assert paused() == {"queue", "type", "worker"}
        assert browser.text("workers-page .worker .free") == "takes no more jobs"
        assert len(browser.all("workers-page .paused")) == 3
        for button in buttons:
            press(f"workers-page {button.format('resume')}")
        browser.until(lambda: not browser.all("workers-page .paused"), "all to be resumed")
        assert paused() == set()
    finally:
        for pause in stack.get("/workers")[1]["paused"]:
            stack.call("POST", f"/{pause['kind']}s/{pause['name']}/resume")


def test_a_job_is_asked_for_later_with_a_priority_and_a_key(browser: Browser, stack: Stack) -> None:
    browser.choose_type("simulate")
    browser.find("[data-part=options] summary").click()
    key = secrets.token_hex(4)
    for field, value in (("priority", "7"), ("expires_s", "60"), ("unique", key)):
        browser.fill(f"[data-field={field}] input", value)
    browser.run(
        "document.querySelector('[data-field=run_at] input').value = arguments[0]", "2027-03-04T05:06"
    )
    browser.find("[data-field=unique] option[value=queued]").click()
    job_id = browser.submit()
    job = stack.document(job_id)
    assert (job["priority"], job["unique"]) == (7, {"key": key, "while": "queued"})
    local = browser.run("return new Date('2027-03-04T05:06').toISOString()")
    assert datetime.fromisoformat(job["run_at"]) == datetime.fromisoformat(local)
    facts = browser.text(f"{page(job_id)} .facts")
    assert all(text in facts for text in ("Priority7", "Not before", "Expires", f"{key}, until it begins"))
    browser.go(f"#/new?from={job_id}")
    filled = "return document.querySelector('[data-field=unique] input').value"
    browser.until(lambda: browser.run(filled) == key, "the form to be filled in")
    assert browser.submit() == job_id, "there is one job of the key"
    stack.store.cancel(job_id)

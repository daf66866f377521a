"""Uploads by `web/jobs.js` in a real Chromium: what docs/uploads.md promises of them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.browser import Browser
from tests.support.client_page import Page
from tests.support.faulty_proxy import FaultyProxy
from tests.support.stack import Stack


@pytest.fixture
def page(chromium: Browser, stack: Stack) -> Iterator[Page]:
    chromium.driver.set_script_timeout(60)
    page = Page(chromium, stack.url)
    yield page
    page.leave()


def kept(stack: Stack) -> int:
    """How many uploads the service has, also those that are still coming in."""
    return sum(1 for _ in (stack.directory / "uploads").glob("*"))


def test_a_file_is_uploaded_with_its_progress_and_the_job_gets_it(page: Page) -> None:
    size = 3_000_000
    page.network(upload_bytes_s=3_000_000)
    job = page.run(
        """
        const file = new File([new Uint8Array(arguments[0]).fill(7)], "sevens.bin");
        window.told = [];
        const onUpload = (fraction, of) => told.push([fraction, of === file]);
        return headway.job(await headway.submit("file.checksum", {input: file}, {onUpload})).done;
        """,
        size,
    )
    assert job["state"] == "succeeded", job
    assert hashlib.sha256(b"\x07" * size).hexdigest() in str(job["result"])
    told = page.browser.run("return told")
    fractions = [fraction for fraction, _ in told]
    assert all(ours for _, ours in told)
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1
    assert any(0 < fraction < 1 for fraction in fractions), "the way there is shown, too"


def test_an_upload_that_is_too_large_says_so(chromium: Browser, tmp_path: Path) -> None:
    stack = Stack(tmp_path, MAX_UPLOAD_BYTES="1000000", DRAIN_S="0")
    try:
        stack.start_web()
        page = Page(chromium, stack.url)
        said = page.refusal("await headway.upload(new File([new Uint8Array(20e6)], 'large.bin'))")
        assert (said["name"], said["status"]) == ("Problem", 413), said
        assert (
            said["message"] == "the file is larger than 1000000 bytes (MAX_UPLOAD_BYTES); nothing was kept"
        )
        assert not any((tmp_path / "uploads").glob("*"))
        page.leave()
    finally:
        stack.close()


def test_an_upload_that_its_signal_stopped_goes_on_when_it_is_asked_for_again(page: Page) -> None:
    page.network(upload_bytes_s=4_000_000)
    said = page.refusal(
        """
        window.data = new Blob([new Uint8Array(8e6).fill(5)]);
        const stop = new AbortController();
        const onUpload = (sent) => sent > 0.4 && stop.abort(new DOMException("enough", "AbortError"));
        await headway.submit("file.checksum", {input: data}, {signal: stop.signal, onUpload});
        """
    )
    assert (said["name"], said["message"]) == ("AbortError", "enough")
    page.network()
    job, told = page.run(
        """
        const told = [], onUpload = (sent) => told.push(sent);
        const job = headway.job(await headway.submit("file.checksum", {input: data}, {onUpload}));
        return [await job.done, told];
        """
    )
    assert job["result"]["hexdigest"] == hashlib.sha256(b"\x05" * 8_000_000).hexdigest()
    assert told[0] > 0, "it went on, and did not begin again"
    assert told[-1] == 1


def test_an_upload_survives_cuts_and_a_service_that_is_killed(chromium: Browser, own_stack: Stack) -> None:
    own_stack.start_web()
    data = os.urandom(12_000_000)
    source = own_stack.directory / "film.mp4"
    source.write_bytes(data)
    with FaultyProxy(own_stack.port) as between:
        page = Page(chromium, f"http://127.0.0.1:{between.port}")
        give(page, source)
        page.network(upload_bytes_s=3_000_000)
        page.run(
            """
            Object.assign(window, {sent: 0, most: 0, steps: []});
            const onProgress = (fraction) => {
              if (fraction < sent) steps.push([sent, fraction]);
              sent = fraction;
            };
            headway.upload(input.files[0], {onProgress})
              .then((made) => (window.made = made), (error) => (window.failed = error));
            """
        )
        page.until("sent > 0.25", "the first of it to be sent")
        between.cut()
        page.until("steps.length === 1 && sent > 0.45", "it to go on after a cut")
        own_stack.restart_web()
        page.until("steps.length === 2 && sent > 0.6", "it to go on at a new service")
        page.network()
        made = page.until("window.made ?? window.failed", "all of it")
        steps = page.run("return steps")
        page.leave()
    assert (made["name"], made["size"], made["media_type"]) == ("film.mp4", len(data), "video/mp4")
    assert all(after > 0 for _, after in steps), "what had arrived is not sent again"
    assert kept(own_stack) == 1
    (found,) = (own_stack.directory / "uploads").glob("*/data")
    assert found.read_bytes() == data


def test_after_a_reload_the_same_file_goes_on_where_it_was(
    page: Page, stack: Stack, tmp_path: Path
) -> None:
    data = os.urandom(8_000_000)
    source = tmp_path / "film.mp4"
    source.write_bytes(data)
    before = kept(stack)
    page.network(upload_bytes_s=4_000_000)
    give(page, source)
    page.run("headway.upload(input.files[0], {onProgress: (fraction) => (window.sent = fraction)})")
    page.until("window.sent > 0.5", "half of it to be sent")
    page.reload()
    page.network()
    give(page, source)
    job, other, told = page.run(
        """
        const told = [], onProgress = (fraction) => told.push(fraction), [file] = input.files;
        // Of two at once, one goes on, and the other sends its own.
        const both = [headway.upload(file, {onProgress}), headway.upload(file)];
        const [first, other] = await Promise.all(both);
        const job = headway.job(await headway.submit("file.checksum", {input: `upload:${first.id}`}));
        return [await job.done, other, told];
        """
    )
    assert job["result"]["hexdigest"] == hashlib.sha256(data).hexdigest()
    assert told[0] > 0, "it went on, and did not begin again"
    assert kept(stack) == before + 2
    assert job["params"]["input"] != f"upload:{other['id']}"
    # Nothing of it stays in the browser.
    assert (
        page.run("return Object.keys(localStorage).filter((key) => key.startsWith('headway upload'))") == []
    )


def give(page: Page, file: Path) -> None:
    """Choose a file, as a user does."""
    page.run(
        "window.input = document.createElement('input'); input.type = 'file'; document.body.append(input)"
    )
    page.browser.find("input[type=file]").send_keys(str(file))

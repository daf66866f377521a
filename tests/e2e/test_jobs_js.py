"""`web/jobs.js` in a real Chromium, before the real service: what docs/frontends.md promises of it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from headway.contract.events import EventType
from headway.contract.messages import message_body
from headway.contract.states import ErrorCode, State
from headway.contract.store import Report
from tests.support import credentials
from tests.support.browser import Browser
from tests.support.client_page import Page
from tests.support.faulty_proxy import FaultyProxy
from tests.support.manual_jobs import log, progress, running_by_hand
from tests.support.stack import Stack
from tests.support.wait import until


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("browser")) as browser:
        browser.driver.set_script_timeout(60)
        yield browser


@pytest.fixture
def page(chromium: Browser, stack: Stack) -> Iterator[Page]:
    page = Page(chromium, stack.url)
    yield page
    page.leave()


def lines(stack: Stack, job_id: str) -> list[str]:
    """The ids of all that is kept of the job."""
    found = stack.get(f"/jobs/{job_id}/events?after=0&limit=1000", headers={"Accept": "application/json"})
    return [event["id"] for event in found[1]["events"]]


def test_a_handle_hears_messages_and_sends_them(page: Page, stack: Stack) -> None:
    claim = running_by_hand(stack)
    page.run(
        """
        window.heard = [];
        window.job = headway.job(arguments[0]);
        job.addEventListener("message", ({detail}) => heard.push([detail.from, detail.name, detail.data]));
        """,
        claim.ref.id,
    )
    page.until("job.state", "the job")
    stack.store.append(claim, 1, [Report(EventType.MESSAGE, message_body("task", "question", [1]))])
    page.run("await job.send('answer', {yes: true}); await headway.send(job.id, 'more')")
    page.until("heard.length === 3", "the messages")
    assert page.run("return heard") == [
        ["task", "question", [1]], ["client", "answer", {"yes": True}], ["client", "more", None],
    ]  # fmt: skip
    stack.store.end(claim, State.SUCCEEDED)
    assert page.refusal("await job.send('late')")["status"] == 409


def test_what_is_told_of_a_group_is_an_event_and_no_job(page: Page, stack: Stack) -> None:
    claim = running_by_hand(stack, group="told")
    page.run(
        """
        Object.assign(window, {told: [], changed: []});
        window.feed = headway.watch({group: "told"});
        feed.addEventListener("event", ({detail}) => told.push([detail.event, detail.data.state]));
        feed.addEventListener("change", ({detail}) => changed.push(detail.id));
        """
    )
    page.until("told.some(([event]) => event === 'group')", "the group")
    assert page.run("return headway.putGroup('told', {expected: 1})")["expected"] == 1
    stack.store.end(claim, State.SUCCEEDED)
    page.until("told.at(-1)[0] === 'group-end'", "the end of the group")
    assert page.run("return told.at(-1)") == ["group-end", "ended"]
    assert set(page.run("return changed")) == {claim.ref.id}
    page.run("feed.stop()")


# -- submissions ------------------------------------------------------------------------------------------


def test_one_key_is_one_job_and_a_refusal_says_where_it_is_wrong(page: Page, stack: Stack) -> None:
    first, second, other = page.run(
        """
        const key = newKey();
        const submit = (idempotencyKey) => headway.submit("simulate", {duration_s: 0.1}, {idempotencyKey});
        return [await submit(key), await submit(key), await submit()];
        """
    )
    assert first["id"] == second["id"] != other["id"]
    errors = page.run(
        "return headway.submit('simulate', {duration_s: -1, x: 2}).catch((e) => [e.status, ...e.errors])"
    )
    assert errors[0] == 422
    assert {error["pointer"] for error in errors[1:]} == {"/params/x", "/params/duration_s"}
    for job_id in (first["id"], other["id"]):
        stack.wait_ended(job_id)


def test_a_submission_takes_all_that_the_service_does_and_many_go_in_one_request(
    page: Page, stack: Stack
) -> None:
    made, same, many, counts, found, counted, done = page.run(
        """
        const [label] = arguments, labels = {made_by: label};
        const soon = new Date(Date.now() + 3600_000);
        const unique = {key: label}, more = {labels, size: 2, timeout_s: 9};
        const how = {priority: 9, run_at: soon, expires_s: 60, unique, ...more};
        const made = await headway.submit("simulate", {}, how);
        const same = await headway.submit("simulate", {}, {unique: {key: label}});
        const later = {type: "simulate", params: {}, run_at: soon, labels};
        const many = await headway.submitMany([later, {...later, unique: {key: label}}, later]);
        const counts = await headway.counts();
        const found = await headway.list({labels, state: "queued", limit: 9});
        const counted = await headway.job(await headway.cancelMany({labels, dry_run: true})).done;
        const done = await headway.job(await headway.cancelMany({labels})).done;
        return [made, same, many, counts, found, counted, done];
        """,
        "page",
    )
    assert (made["priority"], made["size"], made["timeout_s"]) == (9, 2, 9)
    assert made["run_at"] < made["expires_at"]
    assert same["id"] == made["id"]
    assert [one["created"] for one in many] == [True, False, True]
    ids = {made["id"], *(one["id"] for one in many)}
    assert {job["id"] for job in found["items"]} == ids
    assert counts["types"]["simulate"]["queued"] >= 3
    assert counted["result"] == {"matched": 3, "done": 0, "skipped": 0, "dry_run": True}
    assert done["result"] == {"matched": 3, "done": 3, "skipped": 0, "dry_run": False}
    assert {stack.document(job_id)["state"] for job_id in ids} == {"canceled"}


# -- one job ----------------------------------------------------------------------------------------------


def test_done_tells_each_outcome(page: Page) -> None:
    succeeded, failed, canceled, gone, closed = page.run(
        """
        const start = async (duration_s, params = {}) =>
          headway.job(await headway.submit("simulate", {duration_s, ...params}, {max_attempts: 1}));
        const good = await start(0.2), bad = await start(0.2, {fail_at: 0.5});
        const long = await start(60), left = await start(0.1);
        await long.cancel();
        const unknown = headway.job("0-AAAAAAAAAAAAAAAAAAAAAA");
        const said = (e) => [e.name, e.status ?? null];
        const ends = left.done.catch(said);
        left.close();
        return Promise.all([good.done, bad.done, long.done, unknown.done.catch(said), ends]);
        """
    )
    assert (succeeded["state"], succeeded["progress"]["fraction"]) == ("succeeded", 1)
    assert (failed["state"], failed["error"]["code"]) == ("failed", ErrorCode.ERROR)
    assert (canceled["state"], canceled["error"]["code"]) == ("canceled", ErrorCode.CANCELED)
    assert gone == ["Problem", 404]
    assert closed == ["AbortError", None]


def test_a_loop_over_a_job_yields_each_event_until_its_end(page: Page, stack: Stack) -> None:
    params = {"duration_s": 0.5, "rate": 20, "log_every": 1}
    job_id, events, last, status = page.run(
        """
        const job = headway.job(await headway.submit("simulate", arguments[0]));
        const events = [];
        for await (const {id, event, data} of job) events.push([id, event, data.message ?? null]);
        return [job.id, events, job.state, job.status];
        """,
        params,
    )
    kept = lines(stack, job_id)
    seen = [event_id for event_id, name, _ in events if name != "snapshot"]
    assert seen == kept[-len(seen) :], "nothing missed and nothing twice, to the end"
    assert len([name for _, name, _ in events if name == "log"]) >= 5
    assert events[-1][1] == "end"
    assert last["state"] == "succeeded"
    assert status == "closed"
    # One that has ended already ends the loop, and so does one that there is not.
    assert page.run("for await (const _ of headway.job(arguments[0])); return 'over'", job_id) == "over"
    said = page.refusal("for await (const _ of headway.job('0-AAAAAAAAAAAAAAAAAAAAAA'));")
    assert (said["name"], said["status"]) == ("Problem", 404)


def test_a_loop_may_be_left_and_the_events_have_listeners_of_their_own(page: Page, stack: Stack) -> None:
    claim = running_by_hand(stack)
    page.run(
        """
        window.job = headway.job(arguments[0]);
        window.heard = [];
        const hear = ({type, detail}) =>
          heard.push([type, detail?.fraction ?? detail?.message ?? job.status]);
        for (const type of ["progress", "log", "end", "change", "status"]) job.addEventListener(type, hear);
        const line = async () => {
          for await (const {event, data} of job) if (event === "log") return data.message;
        };
        window.left = line();
        """,
        claim.ref.id,
    )
    page.until("job.state?.state === 'running'", "the job to be read")
    stack.store.append(claim, 1, [progress(0.25), log("a line")])
    assert page.run("return left") == "a line"
    stack.store.end(claim, State.SUCCEEDED)
    assert page.run("return (await job.done).state") == "succeeded"
    heard = page.browser.run("return heard")
    assert ["progress", 0.25] in heard
    assert ["log", "a line"] in heard
    assert [name for name, _ in heard].count("end") == 1
    assert ["status", "live"] in heard


def test_retry_is_another_job_that_does_the_same(page: Page) -> None:
    first, live, second = page.run(
        """
        const params = {duration_s: 0.2, fail_at: 0.5};
        const job = headway.job(await headway.submit("simulate", params, {max_attempts: 1}));
        const early = await job.retry().catch((e) => e.status);
        await job.done;
        const again = await job.retry();
        const known = again.state.retry_of;
        return [[job.id, known], early, await again.done];
        """
    )
    assert first == [second["retry_of"], second["retry_of"]]
    assert live == 409
    assert (second["state"], second["params"]["fail_at"]) == ("failed", 0.5)


def test_many_are_watched_on_one_connection(page: Page, stack: Stack) -> None:
    group = f"many {time.time()}"
    ours = [running_by_hand(stack, group=group) for _ in range(3)]
    other = running_by_hand(stack)
    ids = [claim.ref.id for claim in ours]
    page.run(
        """
        const [ids, group] = arguments;
        window.feeds = {
          jobs: headway.watch({jobs: new Set(ids.slice(0, 2))}),
          group: headway.watch({group}),
          mine: headway.watch(),
        };
        window.held = (name) => [...feeds[name].jobs.values()].map(({id, state}) => [id, state]);
        """,
        ids,
        group,
    )

    def held(name: str) -> dict[str, str]:
        return dict(page.browser.run("return held(arguments[0])", name))

    until(lambda: set(held("jobs")) == set(ids[:2]), what="those that were named")
    until(lambda: set(held("group")) == set(ids), what="the group's")
    until(lambda: {*ids, other.ref.id} <= set(held("mine")), what="all")
    for claim in (*ours, other):
        stack.store.end(claim, State.SUCCEEDED)
    for name, count in (("jobs", 2), ("group", 3)):
        until(
            lambda n=name, c=count: list(held(n).values()) == ["succeeded"] * c, what=f"the end of {name}"
        )
    until(lambda: held("mine")[other.ref.id] == "succeeded", what="the end of the other")
    page.run("for (const feed of Object.values(feeds)) feed.stop()")
    page.until("headway.stream().status === 'closed'", "the connection that nobody needs to be closed")


def test_the_token_goes_with_every_request(page: Page, stack: Stack) -> None:
    claim = running_by_hand(stack)
    page.browser.driver.get_log("performance")
    page.run(
        """
        const headway = new Headway({base: location.origin, token: arguments[1]});
        await headway.upload(new File(["x"], "x.txt"));
        window.job = headway.job(arguments[0]);
        job.open();
        """,
        claim.ref.id,
        credentials.KEY,
    )
    page.until("job.status === 'live' && job.state", "the job")
    stack.store.end(claim, State.SUCCEEDED)
    page.run("return job.done.then(() => job.retry())")
    asked = page.browser.requests()
    streams = [request for request in asked if urlsplit(request["url"]).path == "/events"]
    assert streams
    assert {"/uploads", f"/jobs/{claim.ref.id}/retry"} <= {urlsplit(one["url"]).path for one in asked}
    for request in asked:
        if urlsplit(request["url"]).path.startswith("/web/"):
            continue
        headers = {name.lower(): value for name, value in request["headers"].items()}
        assert headers["authorization"] == f"Bearer {credentials.KEY}", request
        assert credentials.KEY not in request["url"]


# -- connections that end ---------------------------------------------------------------------------------

KEEP = """
const [id] = arguments;
window.job = headway.job(id);
const noted = JSON.parse(sessionStorage.getItem(id) ?? "[]");
const note = (what) => {
  noted.push(what);
  sessionStorage.setItem(id, JSON.stringify(noted));
};
job.addEventListener("log", ({detail}) => note(detail.message));
for (const type of ["gap", "reset", "end"]) job.addEventListener(type, () => note(type));
"""


def test_a_reload_that_is_to_remember_misses_and_doubles_nothing(chromium: Browser, stack: Stack) -> None:
    claim = running_by_hand(stack)
    page = Page(chromium, stack.url, "{remember: true}")
    page.run(KEEP, claim.ref.id)
    page.until("job.status === 'live' && job.state", "the job")
    ready = threading.Event()

    def work() -> None:
        for n in range(1, 101):
            stack.store.append(claim, n, [log(f"line {n}")])
            if n == 100:
                ready.set()
            time.sleep(0.03)

    worker = threading.Thread(target=work)
    worker.start()
    reloads = 0
    while not ready.is_set():
        page.reload()
        page.run(KEEP, claim.ref.id)
        reloads += 1
    worker.join()
    assert reloads >= 2
    # And what happened while there was no page at all.
    chromium.load("about:blank")
    stack.store.append(claim, 101, [log("line 101")])
    page.load()
    page.run(KEEP, claim.ref.id)
    stack.store.append(claim, 102, [log("line 102")])
    noted = "JSON.parse(sessionStorage.getItem(job.id))"
    page.until(f"{noted}.includes('line 102')", "the last line")
    assert page.browser.run(f"return {noted}") == [f"line {n}" for n in range(1, 103)]
    # The end, too, and what led to it.
    chromium.load("about:blank")
    stack.store.append(claim, 103, [log("line 103")])
    stack.store.end(claim, State.SUCCEEDED)
    page.load()
    page.run(KEEP, claim.ref.id)
    assert page.run("return (await job.done).state") == "succeeded"
    page.until(f"{noted}.includes('end')", "the end")
    assert page.browser.run(f"return {noted}.slice(102)") == ["line 103", "end"]
    page.leave()


def test_without_being_asked_a_reload_begins_anew(page: Page, stack: Stack) -> None:
    claim = running_by_hand(stack)
    page.run(KEEP, claim.ref.id)
    page.until("job.status === 'live' && job.state", "the job")
    stack.store.append(claim, 1, [log("before")])
    page.until("sessionStorage.getItem(job.id)?.includes('before')", "the line")
    page.browser.load("about:blank")
    stack.store.append(claim, 2, [log("meanwhile"), progress(0.5)])
    page.load()
    page.run(KEEP, claim.ref.id)
    page.until("job.state?.progress?.fraction === 0.5", "the state of now")
    stack.store.append(claim, 3, [log("after")])
    page.until("sessionStorage.getItem(job.id).includes('after')", "the line")
    assert page.browser.run("return JSON.parse(sessionStorage.getItem(job.id))") == ["before", "after"]
    stack.store.end(claim, State.SUCCEEDED)


WATCH = """
const [id, attempts] = arguments;
window.client = new Headway({attempts, share: false});
window.job = client.job(id);
window.heard = [];
const hear = ({type, detail}) => heard.push(detail?.message ?? type);
for (const type of ["log", "gap", "reset"]) job.addEventListener(type, hear);
job.addEventListener("status", () => heard.push(job.status));
"""


@pytest.fixture
def far(chromium: Browser, stack: Stack) -> Iterator[tuple[Page, FaultyProxy]]:
    """A page, and what its connections go through."""
    between = FaultyProxy(stack.port)
    page = Page(chromium, f"http://127.0.0.1:{between.port}")
    yield page, between
    page.leave()
    between.close()


def cut(page: Page, between: FaultyProxy) -> None:
    """The network goes. Chromium, when it is told so, would leave open what is open."""
    page.network(offline=True)
    between.cut()


def test_without_a_network_nothing_looks_fresh_and_then_nothing_is_missing(
    far: tuple[Page, FaultyProxy], stack: Stack
) -> None:
    page, between = far
    claim = running_by_hand(stack)
    page.run(WATCH, claim.ref.id, 30)
    page.until("job.status === 'live' && job.state", "the job")
    cut(page, between)
    page.until("job.status !== 'live'", "the page to know")
    stack.store.append(claim, 1, [log("unheard"), progress(0.5)])
    assert page.browser.run("return job.state.progress?.fraction ?? null") is None
    page.network()
    page.until("job.status === 'live' && job.state.progress?.fraction === 0.5", "what happened meanwhile")
    heard = page.browser.run("return heard")
    assert [one for one in heard if one in ("unheard", "gap", "reset")] == ["unheard"]
    stack.store.end(claim, State.SUCCEEDED)


def test_it_gives_up_says_so_and_tries_again_when_told_to(chromium: Browser, own_stack: Stack) -> None:
    own_stack.start_web()
    claim = running_by_hand(own_stack)
    page = Page(chromium, own_stack.url)
    page.run(WATCH, claim.ref.id, 2)
    page.until("job.status === 'live' && job.state", "the job")
    own_stack.stop("web", 9)
    page.until("job.status === 'gave-up'", "it to give up")
    assert page.browser.run("return Date.now() - job.since") > 0
    assert page.browser.run("return heard.at(-1)") == "gave-up", "an event says it"
    own_stack.store.append(claim, 1, [log("unheard"), progress(0.5)])
    own_stack.start_web()
    assert page.browser.run("return job.status") == "gave-up", "until it is told to"
    page.browser.run("job.again()")
    page.until("job.status === 'live' && job.state.progress?.fraction === 0.5", "what happened meanwhile")
    heard = page.browser.run("return heard")
    assert [one for one in heard if one in ("unheard", "gap", "reset")] == ["unheard"]
    own_stack.store.end(claim, State.SUCCEEDED)
    assert page.run("return (await job.done).state") == "succeeded"
    page.leave()


def test_when_the_network_is_back_it_tries_again_though_it_gave_up(
    far: tuple[Page, FaultyProxy], stack: Stack
) -> None:
    page, between = far
    claim = running_by_hand(stack)
    page.run(WATCH, claim.ref.id, 1)
    page.until("job.status === 'live' && job.state", "the job")
    cut(page, between)
    page.until("job.status === 'gave-up'", "it to give up")
    page.network()
    page.until("job.status === 'live'", "it to come back by itself")
    stack.store.end(claim, State.SUCCEEDED)
    assert page.run("return (await job.done).state") == "succeeded"


def test_the_end_is_told_once_whoever_is_faster(page: Page, stack: Stack) -> None:
    """On a stream that was open before: the document may tell of the end sooner than the stream."""
    held = running_by_hand(stack)
    page.run("window.other = headway.job(arguments[0]); other.open()", held.ref.id)
    page.until("other.status === 'live'", "the stream")
    for n in range(10):
        claim = running_by_hand(stack)
        page.run(
            """
            window.told = [];
            window.job = headway.job(arguments[0]);
            job.addEventListener("event", ({detail}) => told.push(detail.event));
            """,
            claim.ref.id,
        )
        if n % 2:
            page.until("job.state", "the job")
        stack.store.append(claim, 1, [log("last words")])
        stack.store.end(claim, State.SUCCEEDED)
        page.run("await job.done")
        page.until("told.includes('end')", "the end")
        told = page.browser.run("return told")
        assert told[-1] == "end"
        assert told.count("end") == 1
        if n % 2:
            assert told.count("log") == 1
    # One that had ended before anybody asked has nothing but its end, and the document tells it.
    said = page.run(
        """
        const said = [];
        for await (const {event, data} of headway.job(arguments[0])) said.push([event, data.state]);
        return said;
        """,
        claim.ref.id,
    )
    assert said == [["end", "succeeded"]]
    stack.store.end(held, State.SUCCEEDED)

"""AsyncClient against a real service: what its transport does. The tests of Client show the rest."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from headway import AsyncClient
from headway.client import (
    AsyncAttempt,
    Attempt,
    BadAnswer,
    Client,
    Conflict,
    Event,
    Invalid,
    NotFound,
    Problem,
    Unreachable,
    WaitTimeout,
)
from headway.contract.states import State
from tests.support import credentials
from tests.support.fake_worker import claim, create, log, stored
from tests.support.faulty_proxy import FaultyProxy, unavailable
from tests.support.stack import Stack, free_port


@pytest.fixture
def door(lasting: Stack) -> Iterator[FaultyProxy]:
    with FaultyProxy(lasting.port) as door:
        yield door


async def true(condition: Callable[[], object], what: str = "") -> None:
    """Wait, with the event loop running, until the condition holds."""
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.01)


class Reading:
    """A task that reads a watch, and what it has read."""

    def __init__(self, events: AsyncIterator[Event]) -> None:
        self.seen: list[tuple[str, str]] = []
        self.task = asyncio.create_task(self._read(events))

    async def _read(self, events: AsyncIterator[Event]) -> None:
        async for event in events:
            self.seen.append((event.id, event.event))


def sockets() -> int:
    """How many this process has open."""
    found = 0
    for fd in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            found += str(fd.readlink()).startswith("socket:")
    return found


def test_it_has_the_calls_of_the_client_with_the_same_parameters() -> None:
    def calls(kind: type) -> dict[str, list[str]]:
        return {
            name: list(inspect.signature(value).parameters)
            for name, value in inspect.getmembers(kind, inspect.isfunction)
            if not name.startswith("_")
        }

    assert calls(AsyncClient) == calls(Client)
    assert calls(AsyncAttempt) == calls(Attempt)


def test_a_job_is_done_by_tasks_that_share_its_attempt(lasting: Stack, tmp_path: Path) -> None:
    (tmp_path / "said.txt").write_text("all of it")

    async def work() -> tuple[str, Any]:
        client = AsyncClient(lasting.url, token=credentials.KEY)
        await client.declare("async.count", title="Count")
        submitted = await client.submit("async.count")
        attempt = await client.claim(["async.count"], wait_s=0)
        assert attempt is not None
        assert attempt.job["id"] == submitted["id"]
        assert await client.claim(["async.count"], wait_s=0) is None
        lines = [{"type": "log", "message": f"line {n}"} for n in range(8)]
        await asyncio.gather(*(attempt.report(line) for line in lines))
        await attempt.artifact(tmp_path / "said.txt")
        await client.cancel(submitted["id"])
        assert await attempt.report()
        assert attempt.cancel_requested
        await attempt.succeed({"lines": 8})
        with pytest.raises(Conflict):
            await attempt.report({"type": "log", "message": "too late"})
        begun = await client.begin("async.script", lease_s=5, labels={"of": "a task"})
        failed = await begun.fail("no such file", code="invalid_input")
        return submitted["id"], failed

    job_id, failed = asyncio.run(work())
    assert (failed["error"]["code"], failed["labels"]) == ("invalid_input", {"of": "a task"})
    client = Client(lasting.url, token=credentials.KEY)
    ended = client.job(job_id)
    assert (ended["state"], [a["name"] for a in ended["artifacts"]]) == ("succeeded", ["said.txt"])
    logged = [event.data["message"] for event in client.logs(job_id)]
    assert sorted(logged) == [f"line {n}" for n in range(8)]


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"type": "progress", "current": -1}, Invalid),
        ({"type": "log", "message": "x" * 300_000}, Invalid),
        ({"type": "log", "message": object()}, TypeError),
    ],
)
def test_a_report_that_is_refused_holds_up_none_after_it(
    lasting: Stack, wrong: dict[str, Any], error: type[Exception]
) -> None:
    attempt = Client(lasting.url, token=credentials.KEY).begin("refused")
    attempt.report({"type": "log", "message": "before"})
    with pytest.raises(error):
        attempt.report(wrong)
    attempt.report({"type": "log", "message": "after"})
    attempt.succeed()
    logged = Client(lasting.url, token=credentials.KEY).logs(attempt.job["id"])
    assert [event.data["message"] for event in logged] == ["before", "after"]


def test_each_event_comes_once_however_often_the_stream_is_cut(lasting: Stack, door: FaultyProxy) -> None:
    job_id = create(lasting.store)

    async def main() -> None:
        reading = Reading(AsyncClient(door.url).watch(job_id, cursor="0"))
        held = claim(lasting.store, job_id)
        for n in range(1, 5):
            await true(lambda: reading.seen == stored(lasting.store, job_id))
            lasting.store.append(held, 2 * n, [log(n)])
            door.cut()
            lasting.store.append(held, 2 * n + 1, [log(n)])
        lasting.store.end(held, State.SUCCEEDED)
        await asyncio.wait_for(reading.task, 30)
        assert reading.seen == stored(lasting.store, job_id)
        assert len(door.opened) > 2

    asyncio.run(main())


def test_a_killed_server_that_is_started_again_is_read_on_from(own_stack: Stack) -> None:
    own_stack.start_web()
    store = own_stack.store
    job_id = create(store)

    async def main() -> None:
        watch = AsyncClient(own_stack.url).watch(job_id, cursor="0")
        reading = Reading(watch)
        await true(lambda: reading.seen)
        held = claim(store, job_id)
        own_stack.stop("web", signal.SIGKILL)
        await true(lambda: watch.status == "reconnecting")
        store.append(held, 1, [log(1)])
        await asyncio.to_thread(own_stack.start_web)
        store.append(held, 2, [log(2)])
        store.end(held, State.SUCCEEDED)
        await asyncio.wait_for(reading.task, 30)
        assert reading.seen == stored(store, job_id)

    asyncio.run(main())


def test_a_function_is_asked_for_a_new_token_after_a_401(lasting: Stack, door: FaultyProxy) -> None:
    job_id = create(lasting.store)
    given: list[str] = []
    keys = iter(["hw_expired1_x", credentials.KEY, "hw_expired2_x", credentials.KEY])

    async def token() -> str:
        given.append(next(keys))
        return given[-1]

    async def main() -> None:
        client = AsyncClient(door.url, token=token)
        assert (await client.job(job_id))["id"] == job_id
        assert len(given) == 2
        await client.job(job_id)
        assert len(given) == 2, "it is kept"
        client._transport._credential = None  # as if it had expired
        reading = Reading(client.watch(job_id, cursor="0"))
        await true(lambda: reading.seen)
        assert len(given) == 4
        lasting.store.end(claim(lasting.store, job_id), State.SUCCEEDED)
        await asyncio.wait_for(reading.task, 30)
        assert reading.seen == stored(lasting.store, job_id)
        with pytest.raises(Problem, match="401"):
            await AsyncClient(door.url, token=lambda: "hw_never_x").job(job_id)

    asyncio.run(main())
    fresh = iter(["hw_expired_x", credentials.KEY])
    assert Client(door.url, token=lambda: next(fresh)).job(job_id)["id"] == job_id


@pytest.mark.parametrize("within", [True, False], ids=["while it waits", "while its loop's body waits"])
def test_a_canceled_task_leaves_no_connection(lasting: Stack, door: FaultyProxy, within: bool) -> None:
    job_id = create(lasting.store)

    async def main() -> None:
        client = AsyncClient(door.url)
        await client.job(job_id)
        before = sockets()
        heard = asyncio.Event()

        async def follow() -> None:
            async with client.watch(job_id, cursor="0") as watch:
                async for _ in watch:
                    heard.set()
                    if not within:
                        await asyncio.sleep(60)

        task = asyncio.create_task(follow())
        await heard.wait()
        assert door._open
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await true(lambda: not door._open)
        assert sockets() <= before

    asyncio.run(main())


def test_a_loop_that_is_left_without_closing_the_watch_leaves_no_connection_either(
    lasting: Stack, door: FaultyProxy
) -> None:
    job_id = create(lasting.store)

    async def first() -> str:
        async for event in AsyncClient(door.url).watch(job_id, cursor="0"):
            return event.event
        return ""

    async def main() -> None:
        assert await first() == "state"
        await true(lambda: not door._open)

    asyncio.run(main())


def test_a_quiet_stream_is_not_cut_when_its_opening_had_little_time(
    lasting: Stack, door: FaultyProxy
) -> None:
    job_id = create(lasting.store)

    async def main() -> None:
        reading = Reading(AsyncClient(door.url).watch(job_id, cursor="0", give_up_s=0.5))
        await true(lambda: reading.seen)
        await asyncio.sleep(1)  # nothing comes: the first heartbeat was with the events
        lasting.store.end(claim(lasting.store, job_id), State.SUCCEEDED)
        await asyncio.wait_for(reading.task, 30)
        assert len(door.opened) == 1

    asyncio.run(main())


def test_files_go_up_and_come_down_and_too_large_ones_are_refused_while_they_go_up(
    own_stack: Stack, tmp_path: Path
) -> None:
    own_stack.environ["MAX_UPLOAD_BYTES"] = "20000000"
    own_stack.start_web()
    large, small, shrinking = tmp_path / "large", tmp_path / "small", tmp_path / "shrinking"
    with large.open("wb") as file:
        file.truncate(200_000_000)
    small.write_bytes(os.urandom(300_000))
    shrinking.write_bytes(b"x" * 1_000_000)
    steps = [0]

    async def main() -> None:
        client = AsyncClient(own_stack.url)
        with pytest.raises(Invalid, match="larger than 20000000 bytes"):
            await client.upload(large, progress=lambda done, _: steps.append(done))
        assert steps[-1] < 100_000_000, "it stopped sending"
        with pytest.raises(Exception, match="became shorter"):
            await client.upload(shrinking, progress=lambda _, __: os.truncate(shrinking, 100_000))
        sent = await client.upload(small)
        assert sent["size"] == 300_000
        # By a program that does the job itself: there is no worker.
        attempt = Client(own_stack.url).begin("copy")
        attempt.artifact(small, "copy.bin")
        attempt.succeed()
        path = await client.download(attempt.job["id"], "copy.bin", tmp_path / "down")
        assert path.read_bytes() == small.read_bytes()

    asyncio.run(main())


def test_jobs_groups_messages_tickets_and_webhooks(lasting: Stack, door: FaultyProxy) -> None:
    async def main() -> None:
        client = AsyncClient(door.url)
        ids = [create(lasting.store, group="g-async") for _ in range(3)]
        door.lose(1)
        assert (await client.put_group("g-async", expected=3))["expected"] == 3
        assert [job["id"] async for job in client.list(group="g-async", limit=2)] == ids[:0:-1]
        assert {job["id"] async for job in client.find(ids)} == set(ids)
        held = claim(lasting.store, ids[0])
        assert (await client.send(ids[0], "answer", {"a": 1})).data["data"] == {"a": 1}
        with pytest.raises(WaitTimeout):
            await client.wait(ids[0], timeout_s=0.2)
        with pytest.raises(Conflict):
            await client.retry(ids[0])
        lasting.store.append(held, 1, [log(1)])
        lasting.store.end(held, State.SUCCEEDED)
        assert [event.data["message"] async for event in client.logs(ids[0], follow=True)] == ["line 1"]
        assert (await client.wait(ids[0]))["state"] == "succeeded"
        assert (await client.cancel(ids[1]))["state"] == "canceled"
        assert (await client.cancel_group("g-async"))["counts"]["canceled"] == 2
        ticket = await client.ticket([ids[0]])
        assert ticket["events_url"].startswith(f"/jobs/{ids[0]}/events?")
        with pytest.raises(NotFound):
            await client.job("..")
        made = await client.put_webhook("async", "https://hooks.example/x")
        assert made["secret"].startswith("whsec_")
        assert [hook["name"] for hook in await client.webhooks()] == ["async"]
        assert await client.deliveries("async") == []
        await client.delete_webhook("async")
        assert await client.webhooks() == []

    asyncio.run(main())


def test_what_is_no_headway_or_not_there_is_said_as_the_client_says_it(lasting: Stack) -> None:
    async def main() -> None:
        with pytest.raises(Unreachable, match=r"does not answer: .*refused") as gone:
            await AsyncClient(f"http://127.0.0.1:{free_port()}").types()
        assert not gone.value.sent

        async def ssh(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"SSH-2.0-OpenSSH_9.6\r\n\r\n")
            writer.close()

        async with await asyncio.start_server(ssh, "127.0.0.1", 0) as server:
            url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            with pytest.raises(BadAnswer, match="is not a Headway: it does not speak HTTP"):
                await AsyncClient(url).types()
        with FaultyProxy(lasting.port) as door:
            door.refuse(unavailable(None))
            told: list[Any] = []
            watch = AsyncClient(door.url).watch(create(lasting.store), lost=told.append, timeout_s=1)
            with pytest.raises(WaitTimeout):
                await anext(watch)
            assert "503" in str(told[0])

    asyncio.run(main())

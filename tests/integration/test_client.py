"""headway.client against the real web process, also while that is killed."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest

import headway.client.listing
from headway.client import Client, Invalid, NotFound, Unreachable, WaitTimeout
from headway.contract.states import State
from tests.support.fake_worker import claim, create, run_jobs
from tests.support.faulty_proxy import FaultyProxy
from tests.support.stack import Stack


@pytest.fixture
def small(own_stack: Stack) -> Stack:
    own_stack.start_web()
    return own_stack


def test_a_list_ends_with_its_last_job_also_when_it_is_resumed_after_an_end(small: Stack) -> None:
    ids = [create(small.store) for _ in range(2)]
    run_jobs(small.store, ids[:1], 2, 0).join()
    client = Client(small.url)
    watch = client.watch(ids)
    assert {next(watch).event, next(watch).event} == {"end", "snapshot"}
    watch.close()
    run_jobs(small.store, ids[1:], 2, 0).join()
    rest = list(client.watch(ids, cursor=watch.cursor, timeout_s=20))
    assert [e.job_id for e in rest if e.event == "end"] == ids[1:]
    assert list(client.watch(ids, cursor=rest[-1].id, timeout_s=20)) == []


def test_a_connection_that_fell_silent_is_given_up_and_nothing_is_missed(small: Stack) -> None:
    job_id = create(small.store)
    proxy = FaultyProxy(small.port)
    try:
        watch = Client(f"http://127.0.0.1:{proxy.port}").watch(job_id, cursor="0", timeout_s=60)
        assert next(watch).event == "state"
        held = claim(small.store, job_id)
        assert next(watch).data["state"] == "running"
        threading.Timer(1.5, proxy.freeze).start()  # after a heartbeat: every second here
        threading.Timer(2.0, lambda: small.store.end(held, State.SUCCEEDED)).start()
        assert [event.event for event in watch] == ["end"]
    finally:
        proxy.close()


def test_waiting_has_a_limit_and_returns_the_ended_job(small: Stack) -> None:
    job_id = create(small.store)
    client = Client(small.url)
    with pytest.raises(WaitTimeout):
        client.wait(job_id, timeout_s=0.3)
    run_jobs(small.store, [job_id], 1, 0).join()
    more = {"waiting_reason": None, "children": None}
    assert {**client.wait(job_id, timeout_s=20), **more} == client.job(job_id)
    assert list(client.watch(job_id, cursor=client.job(job_id)["last_event_id"])) == []


def test_errors_are_typed_and_say_it_in_one_line(small: Stack) -> None:
    client = Client(small.url)
    for ask in (client.job, client.cancel, client.retry, client.wait):
        with pytest.raises(NotFound, match="there is no job"):
            ask("0-nowhere")
    with pytest.raises(Invalid, match="unknown job type") as error:
        client.submit("nothing")
    assert error.value.errors[0][0] == "/type"
    before = time.monotonic()
    for call in (
        lambda: Client("http://127.0.0.1:9").types(),
        lambda: next(Client("http://127.0.0.1:9").watch()),
    ):
        with pytest.raises(Unreachable, match="does not answer"):
            call()
    assert time.monotonic() - before < 5


def test_a_file_goes_up_and_an_artifact_comes_down_from_where_it_broke_off(
    stack: Stack, tmp_path: Path
) -> None:
    client = Client(stack.url)
    clip = tmp_path / "notes.txt"
    clip.write_bytes(b"x" * 200_000)
    steps: list[int] = []
    sent = client.upload(clip, progress=lambda done, _: steps.append(done))
    assert (sent["name"], sent["size"], steps[-1]) == ("notes.txt", 200_000, 200_000)
    job = client.submit("video.encode", {"input": "sample:1", "preset": "mp4"})
    job = client.wait(job["id"], timeout_s=90)
    whole = client.download(job, "video.mp4", tmp_path / "whole").read_bytes()
    with pytest.raises(NotFound, match="has no artifact"):
        client.download(job, "nope.jpg", tmp_path)

    class Cut(Exception):
        pass

    def cut(done: int, total: int) -> None:
        if done > total / 3:
            raise Cut

    with pytest.raises(Cut):
        client.download(job, "video.mp4", tmp_path, progress=cut)
    (partial,) = tmp_path.glob(".video.mp4.*.part")
    have = partial.stat().st_size
    assert have > 0
    seen: list[int] = []
    path = client.download(job, "video.mp4", tmp_path, progress=lambda done, _: seen.append(done))
    assert seen[0] == have
    assert path.read_bytes() == whole
    assert not list(tmp_path.glob(".video.mp4.*"))


def test_many_jobs_are_found_in_few_requests_wherever_they_are_in_the_list(
    small: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(headway.client.listing, "PAGE", 10)
    ids = [create(small.store) for _ in range(50)]
    client = Client(small.url)
    asked: list[str] = []
    ask = client._transport.json

    async def counted(method: str, path: str, *args: Any, **kwargs: Any) -> Any:
        asked.append(path)
        return await ask(method, path, *args, **kwargs)

    monkeypatch.setattr(client._transport, "json", counted)
    assert {job["id"] for job in client.find(ids[-20:])} == set(ids[-20:])
    assert len(asked) == 2
    asked.clear()
    assert {job["id"] for job in client.find([*ids[:4], *ids[-4:]])} == {*ids[:4], *ids[-4:]}
    assert len(asked) == 2 + 4, "two pages, and those that are not on them"
    with pytest.raises(NotFound):
        list(client.find([ids[0], "nope"]))

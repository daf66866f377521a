"""Streams whose sockets the hub owns: many, slow, stalled and vanished readers, and a Redis in trouble."""

from __future__ import annotations

import http.client
import json
import logging
import os
import signal
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
import redis

from headway.contract.encoding import dumps
from headway.contract.events import ZERO, EventId
from headway.contract.settings import Settings
from headway.contract.states import State
from headway.contract.store import JobStore, Report
from service.process import valkey
from service.streaming.hub import Hub
from tests.support import credentials
from tests.support.fake_worker import claim, create, log, progress, run_jobs, stored
from tests.support.faulty_proxy import FaultyProxy
from tests.support.sse import Parser, Reader, Seen, seen
from tests.support.stack import Stack, free_port
from tests.support.wait import until


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with Stack(tmp_path_factory.mktemp("sockets"), HEARTBEAT_S="60", DRAIN_S="2") as stack:
        stack.start_web()
        yield stack


def children(pid: int) -> list[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(child) for child in text.split()]


def descriptors(stack: Stack) -> int:
    return sum(map(open_files, children(stack.pid("web"))))


def open_files(pid: int) -> int:
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())


def resident(stack: Stack) -> int:
    """KiB of the web's worker processes."""
    texts = [Path(f"/proc/{pid}/status").read_text() for pid in children(stack.pid("web"))]
    lines = [line for text in texts for line in text.splitlines()]
    return sum(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))


def raw(stack: Stack, path: str, receive_buffer: int | None = None) -> socket.socket:
    """A request for a stream on a socket that is only read when the test does it."""
    sock = socket.socket()
    if receive_buffer:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    sock.settimeout(20)
    sock.connect(("127.0.0.1", stack.port))
    sock.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n{credentials.LINE}\r\n\r\n".encode())
    return sock


def rest_of(sock: socket.socket, data: bytes = b"") -> list[Seen]:
    """Everything until the connection closes, after what was read before."""
    while chunk := sock.recv(1 << 16):
        data += chunk
    head, _, body = data.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200"), head
    return list(Parser().feed(body))


def test_the_socket_is_handed_over_and_the_end_of_the_connection_is_the_end(web: Stack) -> None:
    job_id = create(web.store)
    with Reader(web.url, f"/jobs/{job_id}/events") as reader:
        assert reader.headers["connection"] == "close"
        assert "transfer-encoding" not in reader.headers
        reader.take(1)
        run_jobs(web.store, [job_id], 3, 0).join()
        assert reader.until_end()[-1].event == "end"


@pytest.mark.parametrize("how", ["FIN", "RST"])
def test_a_reader_that_goes_is_noticed_at_once_and_leaves_nothing(web: Stack, how: str) -> None:
    job_id = create(web.store)
    before = descriptors(web)
    socks = [raw(web, f"/jobs/{job_id}/events") for _ in range(50)]
    for sock in socks:
        sock.recv(10)
    assert descriptors(web) >= before + 50
    for sock in socks:
        if how == "RST":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.close()
    # No event and no heartbeat is needed for it: the kernel tells.
    until(lambda: descriptors(web) <= before + 2, 30, "the descriptors to be closed")
    until(lambda: web.metric("headway_streams_open") == 0, 30, "the streams to be counted off")
    channel = web.store.keys.events(job_id)
    until(lambda: web.store.redis.pubsub_shardnumsub(channel) == [(channel.encode(), 0)], 30)


def test_connects_and_aborts_leave_memory_and_descriptors_where_they_were(web: Stack) -> None:
    job_id = create(web.store)

    def churn(count: int) -> None:
        for _ in range(count):
            sock = raw(web, f"/jobs/{job_id}/events")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            sock.close()
        until(lambda: web.metric("headway_streams_open") == 0)

    def used() -> tuple[int, int, int]:
        return resident(web), descriptors(web), len(web.store.redis.client_list())

    # A burst makes room for as many requests at once, and that room stays: what counts is that it
    # ends. Forgotten streams would show in every round.
    before, grown = used(), [(0, 0, 0)]
    for _ in range(20):
        churn(1500)
        after = used()
        grown.append(tuple(now - then for now, then in zip(after, before, strict=True)))
        before = after
        if grown[-1][0] < 300 and grown[-1][1] <= 0 and grown[-1][2] <= 0:
            return
    pytest.fail(f"KiB, descriptors and connections go on growing: {grown}")


def test_stalled_readers_cost_no_memory_and_get_the_newest_progress_and_all_else(web: Stack) -> None:
    job_id = create(web.store)
    path = f"/jobs/{job_id}/events?last_event_id=0"
    text = "x" * 4000
    held = claim(web.store, job_id)
    with ExitStack() as opened:
        stalled = [opened.enter_context(raw(web, path, receive_buffer=4096)) for _ in range(20)]
        reader = opened.enter_context(Reader(web.url, path))
        got: list[Seen] = []
        reading = threading.Thread(target=lambda: got.extend(reader.until_end()))
        reading.start()
        before = resident(web)
        for batch in range(1, 900):
            line = Report("log", dumps({"level": "info", "message": f"{batch} {text}"}))
            web.store.append(held, batch, [line, progress(batch)])
        assert resident(web) - before < 20 * 1024, "KiB; 20 queues would hold 70 MB"
        web.store.end(held, State.SUCCEEDED)
        reading.join(60)
        expected = stored(web.store, job_id)
        kept = [e for e in expected if e[1] != "progress"]
        lengths = []
        # 7 MB come in a burst: whoever reads may be slow for a moment, too, and then gets less progress.
        for events in (seen(got), *(seen(rest_of(sock)) for sock in stalled)):
            assert [e for e in events if e[1] != "progress"] == kept
            known = iter(expected)
            assert all(e in known for e in events), "in the store's order, and nothing twice"
            assert [e for e in events if e[1] == "progress"][-1] == expected[-2]
            lengths.append(len(events))
        assert max(lengths[1:]) < len(expected), "superseded progress need not be read"


def test_2000_streams_are_told_and_gone_within_the_drain_window(own_stack: Stack) -> None:
    own_stack.environ["DRAIN_S"] = "3"
    own_stack.start_web()
    jobs = [create(own_stack.store) for _ in range(20)]
    with ExitStack() as opened:
        socks = [opened.enter_context(raw(own_stack, f"/jobs/{jobs[n % 20]}/events")) for n in range(2000)]
        for sock in socks:
            sock.recv(10)
        # Whoever is not gone a second after the window is killed by gunicorn, without a word.
        assert own_stack.stop("web") == 0
        retries = set()
        for sock in socks:
            data = b""
            while chunk := sock.recv(1 << 16):
                data += chunk
            assert data.endswith(b"\n\n")
            assert b"event: shutdown\n" in data
            retries.add(data.rpartition(b"retry: ")[2].partition(b"\n")[0])
        assert len(retries) > 500


def test_a_killed_web_process_costs_no_reader_an_event(own_stack: Stack) -> None:
    own_stack.start_web()
    jobs = [create(own_stack.store) for _ in range(5)]
    results: dict[int, list[Seen]] = {}

    def read(n: int) -> None:
        events: list[Seen] = []
        cursor = "0"
        while not (events and events[-1].event == "end"):
            try:
                with Reader(own_stack.url, f"/jobs/{jobs[n % 5]}/events", cursor) as reader:
                    if reader.status == 204:
                        break
                    while not reader.closed:
                        events += reader.receive()
                        cursor = reader.parser.last_event_id or cursor
            except OSError:
                time.sleep(0.05)  # nobody listens yet
        results[n] = events

    readers = [threading.Thread(target=read, args=(n,)) for n in range(60)]
    restarted = threading.Event()
    work = run_jobs(own_stack.store, jobs, 45, 0.08, restarted)
    for reader in readers:
        reader.start()
    for _ in range(2):
        own_stack.restart_web()
    restarted.set()  # however long it took, the ends come after it
    work.join()
    for reader in readers:
        reader.join(60)
    for n, events in results.items():
        assert seen(events) == stored(own_stack.store, jobs[n % 5])
    assert len(results) == 60


def test_a_paused_redis_is_noticed_and_nothing_is_missing_afterwards(own_stack: Stack) -> None:
    own_stack.start_web()
    job_id = create(own_stack.store)
    with Reader(own_stack.url, f"/jobs/{job_id}/events", "0", timeout=120) as reader:
        reader.take(1)
        work = run_jobs(own_stack.store, [job_id], 40, 0.02)
        reader.take(5)
        os.kill(own_stack.valkey.process.pid, signal.SIGSTOP)
        try:
            until(lambda: own_stack.get("/readyz")[0] == 503, 30, "readiness to say so")
            with Reader(own_stack.url, f"/jobs/{job_id}/events", "0") as late:
                assert late.status == 200
        finally:
            os.kill(own_stack.valkey.process.pid, signal.SIGCONT)
        until(lambda: own_stack.get("/readyz")[0] == 200, 30, "readiness to come back")
        rest = reader.until_end()
        work.join()
    expected = stored(own_stack.store, job_id)
    assert seen(rest) == expected[-len(rest) :]
    assert rest[-1].event == "end"


def test_a_connection_that_died_without_a_word_is_found_out_and_nothing_is_missing(
    own_stack: Stack,
) -> None:
    proxy = FaultyProxy(own_stack.valkey.port)
    try:
        own_stack.environ["REDIS_URL"] = f"redis://127.0.0.1:{proxy.port}/0"
        own_stack.start_web()
        job_id = create(own_stack.store)
        with Reader(own_stack.url, f"/jobs/{job_id}/events", "0", timeout=120) as reader:
            held = claim(own_stack.store, job_id)
            reader.take(2)
            proxy.freeze()
            own_stack.store.append(held, 1, [log(1)])
            assert [e.event for e in reader.take(1)] == ["log"]
        # Asked after 2 s of silence, given up after 2 more. The audit, that takes 8 at least, would have
        # left the connection as it was.
        until(lambda: own_stack.metric("headway_hub_reconnections_total") == 1)
    finally:
        own_stack.stop("web")
        proxy.close()


def test_a_killed_redis_that_comes_back_five_times_costs_no_reader_an_event(own_stack: Stack) -> None:
    own_stack.start_web()
    job_id = create(own_stack.store)
    held = claim(own_stack.store, job_id)
    with ExitStack() as opened:
        readers = [
            opened.enter_context(Reader(own_stack.url, f"/jobs/{job_id}/events", "0", timeout=120))
            for _ in range(20)
        ]
        for n in range(5):
            for batch in range(n * 8, n * 8 + 8):
                own_stack.store.append(held, batch + 1, [progress(batch) if batch % 2 else log(batch)])
            own_stack.kill_valkey()
            own_stack.start_valkey()
        own_stack.store.end(held, State.SUCCEEDED)
        expected = stored(own_stack.store, job_id)
        assert len(expected) == 2 + 40 + 1
        for reader in readers:
            assert seen(reader.until_end()) == expected


def test_redis_connections_that_are_killed_cost_no_reader_an_event(own_stack: Stack) -> None:
    own_stack.start_web()
    jobs = [create(own_stack.store) for _ in range(3)]
    path = "/events?" + "&".join(f"job={job_id}" for job_id in jobs)
    with ExitStack() as opened:
        readers = [
            opened.enter_context(Reader(own_stack.url, f"/jobs/{jobs[n % 3]}/events", "0", timeout=120))
            for n in range(12)
        ]
        many = opened.enter_context(Reader(own_stack.url, path, "0", timeout=120))
        work = run_jobs(own_stack.store, jobs, 46, 0.03)  # EVENTS_PER_JOB is 50 here
        for n in range(8):
            readers[0].take(4)
            # All but the one that says so: the hub's, and those of reads and writes, in turn.
            own_stack.store.redis.client_kill_filter(_type="pubsub" if n % 2 else "normal", skipme=True)
        work.join()
        rests = [seen(reader.until_end()) for reader in readers]
        for n, rest in enumerate(rests):
            expected = stored(own_stack.store, jobs[n % 3])
            assert rest == expected[-len(rest) :]
            assert n == 0 or len(rest) == len(expected)
        ends: list[Seen] = []
        got: list[Seen] = []
        while len(ends) < 3:
            got += (new := many.take(1))
            ends += [event for event in new if event.event == "end"]
        every = sorted(
            (event for job_id in jobs for event in stored(own_stack.store, job_id)),
            key=lambda event: EventId.parse(event[0]),
        )
        assert seen(got) == every
    assert own_stack.metric("headway_hub_reconnections_total") >= 4


def test_streams_land_on_all_processes_and_metrics_count_them_all(own_stack: Stack) -> None:
    own_stack.environ["WEB_CONCURRENCY"] = "2"
    own_stack.start_web()
    until(lambda: len(children(own_stack.pid("web"))) == 2)
    job_id = create(own_stack.store)

    def each() -> list[int]:
        return [open_files(pid) for pid in children(own_stack.pid("web"))]

    before = each()
    with ExitStack() as opened:
        path = f"/jobs/{job_id}/events?last_event_id=0"
        socks = []
        for _ in range(300):
            socks.append(opened.enter_context(raw(own_stack, path)))
            socks[-1].recv(1)
        until(lambda: own_stack.metric("headway_streams_open") == 300)
        assert all(now > then + 20 for now, then in zip(each(), before, strict=True))
        run_jobs(own_stack.store, [job_id], 4, 0.01).join()
        expected = stored(own_stack.store, job_id)
        assert all(seen(rest_of(sock, b"H")) == expected for sock in socks)
    until(lambda: own_stack.metric("headway_streams_open") == 0)
    until(lambda: own_stack.metric("headway_events_delivered_total") == 300 * 6)
    for counted in ("opened", "resumed"):
        until(lambda c=counted: own_stack.metric(f"headway_streams_{c}_total") == 300, what=counted)
    assert own_stack.metric("headway_append_to_write_seconds_count") > 0


@pytest.mark.parametrize("limit", ["MAX_STREAMS", "MAX_STREAMS_PER_CALLER"])
def test_a_stream_over_the_limit_is_told_to_come_back_and_not_refused(own_stack: Stack, limit: str) -> None:
    own_stack.environ[limit] = "3"
    own_stack.start_web()
    job_id = create(own_stack.store)
    path = f"/jobs/{job_id}/events"
    with ExitStack() as opened:
        for _ in range(3):
            opened.enter_context(Reader(own_stack.url, path)).take(1)
        with Reader(own_stack.url, path) as late:
            assert late.status == 200, "an error status would stop a browser for good"
            assert late.headers["content-type"] == "text/event-stream"
            assert late.until_end() == []
            assert late.parser.retry_ms is not None
            assert late.parser.retry_ms >= 5000
    assert own_stack.metric("headway_streams_refused_total") == 1
    with Reader(own_stack.url, path) as reader:
        until(lambda: reader.take(1) or reader.closed)


def test_a_long_poll_that_waits_counts_as_a_stream_and_is_refused_over_the_limit(own_stack: Stack) -> None:
    own_stack.environ["MAX_STREAMS"] = "1"
    own_stack.start_web()
    job_id = create(own_stack.store)
    held = claim(own_stack.store, job_id)
    cursor = stored(own_stack.store, job_id)[-1][0]
    path = f"/jobs/{job_id}/events?after={cursor}"
    accepted = {"Accept": "application/json"}
    answers: list[int] = []
    waiting = threading.Thread(
        target=lambda: answers.append(own_stack.get(f"{path}&wait=30", headers=accepted)[0])
    )
    waiting.start()
    try:
        until(lambda: own_stack.metric("headway_streams_open") == 1)
        connection = http.client.HTTPConnection("127.0.0.1", own_stack.port, timeout=10)
        with closing(connection):
            connection.request("GET", f"{path}&wait=30", headers={**accepted, **credentials.BEARER})
            refused = connection.getresponse()
            assert refused.status == 429
            assert refused.headers["Content-Type"] == "application/problem+json"
            assert int(refused.headers["Retry-After"]) > 0
        assert own_stack.get(path, headers=accepted)[0] == 200, "one that does not wait holds nothing"
        with Reader(own_stack.url, f"/jobs/{job_id}/events") as stream:
            assert stream.until_end() == [], "there is no room for a stream either"
    finally:
        own_stack.store.end(held, State.SUCCEEDED)
        waiting.join(30)
    assert answers == [200]
    until(lambda: own_stack.metric("headway_streams_open") == 0)


class Standing:
    """A watcher that counts how often it was told."""

    def __init__(self, topic: str) -> None:
        self.topics = (topic,)
        self.generation = -1
        self.told = threading.Semaphore(0)

    def notify(self) -> None:
        self.told.release()


def test_the_audit_finds_an_event_that_was_never_heard_of(store: JobStore) -> None:
    job_id = create(store)
    hub = Hub(store)
    (link,) = hub.links.values()
    # It goes on for as long as this process does, also when the session's Valkey has gone.
    logging.getLogger("service.streaming.link").addHandler(logging.NullHandler())
    watcher = Standing(store.keys.events(job_id))
    hub.join(watcher)
    hub.start()
    until(lambda: hub.ready(watcher) is not None)
    held = claim(store, job_id)
    until(lambda: hub.topic(watcher.topics[0]).last is not None)
    watcher.generation = link.generation
    seen = (hub.topic(watcher.topics[0]).last or ZERO,)
    assert hub.collect(watcher, seen) == []
    hub.audit(link)
    assert hub.collect(watcher, seen) == [], "nothing is missing yet"
    # An event whose message is lost: the store has it, the channel has not.
    source = store.database.scripts["append"].script
    store.redis.eval(
        source.replace("redis.call('SPUBLISH',", "tostring("),
        len(store.keys.write_set(held.ref)),
        *store.keys.write_set(held.ref),
        *(held.ref.id, 50, 500, 60, held.fence, 1, "log", '{"message":"x"}', "", ""),
    )
    hub.audit(link)
    assert hub.collect(watcher, seen) is None, "it reads the store now"
    hub.leave(watcher)


def test_the_hub_follows_its_address_to_another_server(tmp_path: Path) -> None:
    with ExitStack() as last:
        servers = [valkey.start(tmp_path / name, port=free_port()) for name in ("former", "new")]
        for server in servers:
            last.callback(server.stop)
        address = last.enter_context(FaultyProxy(servers[0].port or 0))
        store = JobStore.of(Settings(redis_url=f"redis://127.0.0.1:{address.port}/0"))
        last.callback(store.redis.close)
        hub = Hub(store)
        (link,) = hub.links.values()
        logging.getLogger("service.streaming.link").addHandler(logging.NullHandler())
        watcher = Standing("topic")
        hub.join(watcher)
        hub.start()
        until(lambda: hub.ready(watcher) is not None)
        first = link.generation
        link.leave_former_primary()
        assert (link.connected, link.generation) == (True, first), "it is the same server"
        # The present connections stay open, at a server that nobody publishes on any more.
        address.move(servers[1].port or 0)
        link.leave_former_primary()
        until(lambda: link.generation > first and hub.ready(watcher) is not None)
        new = redis.Redis.from_url(servers[1].url)
        last.callback(new.close)
        assert new.pubsub_shardnumsub("topic") == [(b"topic", 1)]
        assert store.redis.info("server")["run_id"] == new.info("server")["run_id"]


def test_a_gap_in_what_is_published_sends_the_readers_to_the_store(web: Stack) -> None:
    job_id = create(web.store)
    channel = web.store.keys.events(job_id)
    with Reader(web.url, f"/jobs/{job_id}/events", "0") as reader:
        reader.take(1)
        held = claim(web.store, job_id)
        reader.take(1)
        last = stored(web.store, job_id)[-1][0]
        ms, _, n = last.partition("-")
        # A forged message that claims a predecessor nobody here has heard of.
        lost, forged = f"{ms}-{int(n) + 1}", f"{ms}-{int(n) + 2}"
        frame = f"id: {forged}\nevent: log\ndata: {json.dumps({'forged': True})}\n\n"
        web.store.redis.spublish(channel, f"{lost} log\n{frame}")
        web.store.append(held, 1, [log(1)])
        web.store.end(held, State.SUCCEEDED)
        assert seen(reader.until_end()) == stored(web.store, job_id)[2:]


def test_a_message_that_is_none_of_ours_ends_no_stream(web: Stack) -> None:
    job_id = create(web.store)
    with Reader(web.url, f"/jobs/{job_id}/events", "0") as reader:
        reader.take(1)
        web.store.redis.spublish(web.store.keys.events(job_id), b"rubbish")
        run_jobs(web.store, [job_id], 3, 0.01).join()
        assert seen(reader.until_end()) == stored(web.store, job_id)[1:]

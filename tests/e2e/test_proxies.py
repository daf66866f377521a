"""The configurations of deploy/ under the real nginx, Caddy and HAProxy, before the real service."""

from __future__ import annotations

import json
import socket
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import httpx
import pytest

from headway.contract.encoding import dumps
from headway.contract.records import Artifact, artifacts_json
from headway.contract.states import State
from headway.contract.store import Report
from service.api.file_body import CHUNK
from tests.support import credentials
from tests.support.browser import Browser
from tests.support.fake_worker import claim, create, log, stored
from tests.support.faulty_proxy import FaultyProxy
from tests.support.programs import program
from tests.support.reverse_proxies import PROGRAMS, ReverseProxy
from tests.support.sse import Parser, Seen, seen
from tests.support.stack import Stack, free_port
from tests.support.wait import until

pytestmark = pytest.mark.long

MAX_UPLOAD = 3_000_000
STREAMS = 130
"""More than nginx (128) and HAProxy (100) allow a connection by themselves."""


@pytest.fixture(scope="module", params=PROGRAMS)
def name(request: pytest.FixtureRequest) -> str:
    program(request.param)
    return str(request.param)


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Two web processes. No heartbeat comes to the help of whoever waits for something to be written."""
    with Stack(
        tmp_path_factory.mktemp("web"),
        WEB_CONCURRENCY="2",
        HEARTBEAT_S="600",
        DRAIN_S="0",
        MAX_UPLOAD_BYTES=str(MAX_UPLOAD),
    ) as stack:
        stack.start_web()
        yield stack


@pytest.fixture(scope="module")
def edge(name: str, web: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReverseProxy]:
    with ReverseProxy(name, tmp_path_factory.mktemp(name), web.port) as edge:
        yield edge


def client(edge: ReverseProxy, *, http2: bool = True, address: str | None = None) -> httpx.Client:
    """A client that speaks HTTP/2, and asks from that address of this machine."""
    trust = ssl.create_default_context(cafile=edge.certificate)
    transport = httpx.HTTPTransport(verify=trust, http1=not http2, http2=http2, local_address=address)
    return httpx.Client(transport=transport, base_url=edge.url, timeout=60, headers=credentials.BEARER)


class Stream:
    """An event stream through a proxy, piece by piece as it comes."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self.parser = Parser()
        self._pieces = response.iter_raw()

    def take(self, count: int) -> list[Seen]:
        """The next so many events, not a piece further."""
        found: list[Seen] = []
        while len(found) < count:
            found += self.parser.feed(next(self._pieces))
        return found

    def take_heartbeats(self, count: int) -> list[Seen]:
        """What came until there were so many."""
        found: list[Seen] = []
        while self.parser.comments < count:
            found += self.parser.feed(next(self._pieces))
        return found

    def until_end(self) -> list[Seen]:
        return [event for piece in self._pieces for event in self.parser.feed(piece)]


@contextmanager
def stream(asks: httpx.Client, path: str, **headers: str) -> Iterator[Stream]:
    accept = {"Accept": "text/event-stream", "Accept-Encoding": "gzip, zstd", **headers}
    with asks.stream("GET", path, headers=accept) as response:
        yield Stream(response)


def test_tls_is_of_today_and_offers_http2(edge: ReverseProxy) -> None:
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        trust = ssl.create_default_context(cafile=edge.certificate)
        trust.minimum_version = trust.maximum_version = version
        trust.set_alpn_protocols(["h2", "http/1.1"])
        with (
            socket.create_connection(("127.0.0.1", edge.port)) as plain,
            trust.wrap_socket(plain, server_hostname="127.0.0.1") as secure,
        ):
            assert secure.version() == version.name.replace("_", ".")
            assert secure.selected_alpn_protocol() == "h2"
    # At a security level at which the client itself would still take it.
    old = ["openssl", "s_client", "-connect", f"127.0.0.1:{edge.port}", "-tls1_1"]
    command = [*old, "-cipher", "DEFAULT@SECLEVEL=0"]
    tried = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=20)
    assert "alert protocol version" in tried.stderr


@pytest.mark.parametrize("http2", [True, False])
def test_each_event_arrives_by_itself_and_at_once(web: Stack, edge: ReverseProxy, http2: bool) -> None:
    job_id = create(web.store)
    with client(edge, http2=http2) as asks, stream(asks, f"/jobs/{job_id}/events") as reader:
        assert reader.response.http_version == ("HTTP/2" if http2 else "HTTP/1.1")
        assert reader.response.headers["content-type"] == "text/event-stream"
        assert "content-encoding" not in reader.response.headers
        got = reader.take(1)
        held = claim(web.store, job_id)
        got += reader.take(1)
        for n in range(1, 21):
            # The next is written only when this one has come through: a buffer would wait for ever.
            web.store.append(held, n, [log(n)])
            got += reader.take(1)
        web.store.end(held, State.SUCCEEDED)
        got += reader.until_end()
    assert got[0].event == "snapshot"
    assert seen(got[1:]) == stored(web.store, job_id)[1:]


def test_the_cursor_of_a_browser_comes_through(web: Stack, edge: ReverseProxy) -> None:
    job_id = create(web.store)
    web.store.end(claim(web.store, job_id), State.SUCCEEDED)
    ids = [event_id for event_id, _ in stored(web.store, job_id)]
    with client(edge) as asks:
        with stream(asks, f"/jobs/{job_id}/events", **{"Last-Event-ID": ids[0]}) as reader:
            assert [event.id for event in reader.until_end()] == ids[1:]
        assert asks.get(f"/jobs/{job_id}/events", headers={"Last-Event-ID": ids[-1]}).status_code == 204


def test_a_client_that_goes_is_gone_at_the_service_too(web: Stack, edge: ReverseProxy) -> None:
    job_id = create(web.store)
    with ExitStack() as opened:
        for _ in range(10):
            asks = opened.enter_context(client(edge))
            opened.enter_context(stream(asks, f"/jobs/{job_id}/events")).take(1)
        until(lambda: web.metric("headway_streams_open") == 10, what="the streams to be counted")
    # No event and no heartbeat fails on its way to them.
    until(lambda: web.metric("headway_streams_open") == 0, what="the service to notice")


def test_a_quiet_stream_lives_on_its_heartbeats_and_a_silent_one_is_ended(
    name: str, tmp_path: Path
) -> None:
    stack = Stack(tmp_path / "stack", HEARTBEAT_S="0.25", DRAIN_S="0")
    between = FaultyProxy(stack.port)
    edge = None
    try:
        stack.start_web()
        edge = ReverseProxy(name, tmp_path / "edge", between.port, idle="2s")
        job_id = create(stack.store)
        with client(edge) as asks, stream(asks, f"/jobs/{job_id}/events") as reader:
            reader.take(1)
            # For longer than any silence may last: each heartbeat is 0.25 s after the one before.
            assert reader.take_heartbeats(14) == []
            between.freeze()
            # Some say that it broke off and some that it ended: it is over either way.
            with suppress(httpx.RemoteProtocolError):
                reader.until_end()
    finally:
        if edge is not None:
            edge.close()
        between.close()
        stack.close()


def test_a_service_that_is_away_ends_no_event_source_for_good(name: str, tmp_path: Path) -> None:
    edge = ReverseProxy(name, tmp_path, free_port())
    try:
        with client(edge) as asks:
            for path in ("/jobs/0-AAAAAAAAAAAAAAAAAAAAAA/events", "/events?group=g"):
                with stream(asks, path) as reader:
                    assert reader.response.status_code == 200
                    assert reader.response.headers["content-type"] == "text/event-stream"
                    assert reader.until_end() == []
                    assert 2000 <= (reader.parser.retry_ms or 0) <= 5000
            assert asks.get("/jobs").status_code in (502, 503)
        waits = set()
        for _ in range(16):
            with client(edge) as asks, stream(asks, "/events") as reader:
                reader.until_end()
                waits.add(reader.parser.retry_ms)
        assert len(waits) > 1, "not all come back at the same moment"
    finally:
        edge.close()


def test_the_services_own_errors_pass_as_they_are(edge: ReverseProxy) -> None:
    with client(edge) as asks:
        for path in ("/jobs/0-AAAAAAAAAAAAAAAAAAAAAA/events", "/jobs/0-AAAAAAAAAAAAAAAAAAAAAA"):
            answer = asks.get(path)
            assert (answer.status_code, answer.json()["status"]) == (404, 404)


def test_an_upload_reaches_the_service_while_it_is_sent(web: Stack, edge: ReverseProxy) -> None:
    uploads = web.directory / "uploads"
    body = bytes(range(256)) * 8000  # 2 MB: more than a proxy's defaults allow

    before = set(uploads.glob("*"))

    def partial() -> int:
        return sum((path / "data").stat().st_size for path in set(uploads.glob("*")) - before)

    def pieces() -> Iterator[bytes]:
        yield body[:1_500_000]
        # The rest is sent only when this has arrived: a proxy that collects it all would wait for ever.
        until(lambda: partial() >= CHUNK, what="the first part at the service")
        yield body[1_500_000:]

    with client(edge) as asks:
        answer = asks.put("/uploads/clip.mp4", content=pieces())
        assert answer.status_code == 201, answer.text
    made = answer.json()
    assert made["size"] == len(body)
    assert (uploads / made["id"] / "data").read_bytes() == body


def test_a_part_of_an_artifact_can_be_asked_for(web: Stack, edge: ReverseProxy) -> None:
    job_id = create(web.store)
    data = bytes(range(256)) * 4000
    place = web.directory / "artifacts" / job_id / "1"
    place.mkdir(parents=True)
    (place / "video.mp4").write_bytes(data)
    url = f"/jobs/{job_id}/artifacts/video.mp4"
    made = Artifact(name="video.mp4", media_type="video/mp4", size=len(data), url=url, attempt=1)
    report = Report("artifact", dumps(made.model_dump()), "artifacts", artifacts_json([made]))
    web.store.append(claim(web.store, job_id), 1, [report])
    with client(edge) as asks:
        whole = asks.get(url)
        assert (whole.status_code, whole.content) == (200, data)
        part = asks.get(url, headers={"Range": "bytes=1000-1999"})
        assert (part.status_code, part.content) == (206, data[1000:2000])
        assert part.headers["content-range"] == f"bytes 1000-1999/{len(data)}"
        assert asks.get(url, headers={"If-None-Match": whole.headers["etag"]}).status_code == 304


def test_a_caller_is_whom_the_proxy_sees_and_not_whom_the_client_claims_to_be(
    name: str, tmp_path: Path
) -> None:
    """As on several machines, with an address for each."""
    source = "127.0.0.1" if name == "caddy" else "127.0.0.9"
    trusted = {"HOST": "0.0.0.0", "TRUSTED_PROXIES": source}
    stack = Stack(tmp_path / "stack", MAX_STREAMS_PER_CALLER="2", DRAIN_S="0", **trusted)
    edge = None
    try:
        stack.start_web()
        edge = ReverseProxy(name, tmp_path / "edge", stack.port, source=source)
        path = f"/jobs/{create(stack.store)}/events"
        with ExitStack() as opened:
            one = opened.enter_context(client(edge, address="127.0.0.2"))
            other = opened.enter_context(client(edge, address="127.0.0.3"))
            for n in range(2):
                claimed = {"X-Forwarded-For": f"203.0.113.{n}"}
                opened.enter_context(stream(one, path, **claimed)).take(1)
            refused = opened.enter_context(stream(one, path, **{"X-Forwarded-For": "203.0.113.9"}))
            assert refused.until_end() == []
            assert (refused.parser.retry_ms or 0) >= 5000
            assert [event.event for event in opened.enter_context(stream(other, path)).take(1)] == [
                "snapshot"
            ]
            lies = {"X-Forwarded-For": "203.0.113.9", "X-Forwarded-Host": "evil.example"}
            signed_in = one.post("/session", headers={**lies, "Origin": edge.url})
            assert (signed_in.status_code, "Secure;" in signed_in.headers["set-cookie"]) == (200, True)
        # From an address that is not in the list, though it is this machine's.
        lies["X-Forwarded-Proto"] = "https"
        with httpx.Client(transport=httpx.HTTPTransport(local_address="127.0.0.4")) as near:
            direct = near.post(f"{stack.url}/session", headers={**credentials.BEARER, **lies})
        assert (direct.status_code, "Secure;" in direct.headers["set-cookie"]) == (200, False)
        lines = [json.loads(line) for line in stack.log("web").splitlines() if '"sign_in"' in line]
        assert [line["ip"] for line in lines] == ["127.0.0.2", "127.0.0.4"]
    finally:
        if edge is not None:
            edge.close()
        stack.close()


@pytest.mark.parametrize("name", ["nginx", "haproxy"], indirect=True, scope="module")
def test_plain_http_is_sent_to_https(edge: ReverseProxy) -> None:
    """Caddy does it by itself, on port 80 only."""
    answer = httpx.get(f"http://127.0.0.1:{edge.plain_port}/jobs?limit=1", follow_redirects=False)
    assert answer.status_code == 308
    assert answer.headers["location"].startswith("https://127.0.0.1")
    assert answer.headers["location"].endswith("/jobs?limit=1")


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("browser")) as browser:
        browser.driver.execute_cdp_cmd("Security.setIgnoreCertificateErrors", {"ignore": True})
        yield browser


OPEN = """
const [jobs] = arguments;
window.streams = jobs.map((job) => new EventSource(`/jobs/${job}/events`));
window.heard = {};
window.streams.forEach((stream, n) =>
  stream.addEventListener("log", (event) => (window.heard[jobs[n]] = JSON.parse(event.data).message)));
"""
LIVE = "return window.streams.filter((stream) => stream.readyState === EventSource.OPEN).length"
CLOSE = "window.streams.forEach((stream) => stream.close())"


def test_130_streams_are_live_in_one_page_over_http2(
    web: Stack, edge: ReverseProxy, browser: Browser
) -> None:
    jobs = [create(web.store) for _ in range(STREAMS)]
    browser.load(f"{edge.url}/healthz")
    browser.run(OPEN, jobs)
    browser.until(lambda: browser.run(LIVE) == STREAMS, "all streams to be open")
    # And there is room for a request beside them.
    browser.run("fetch('/healthz').then((answer) => (window.answered = answer.status))")
    browser.until(lambda: browser.run("return window.answered") == 200, "a request beside them")
    for job_id in jobs:
        web.store.append(claim(web.store, job_id), 1, [log(7)])
    browser.until(lambda: len(browser.run("return window.heard")) == STREAMS, "each to hear of its job")
    browser.run(CLOSE)
    # The connection stays: each stream is told off by itself.
    until(lambda: web.metric("headway_streams_open") == 0, what="the service to notice")


def test_over_http1_the_seventh_stream_waits_for_one_to_close(web: Stack, browser: Browser) -> None:
    """Why HTTP/2: the same page without a proxy."""
    jobs = [create(web.store) for _ in range(7)]
    browser.load(f"{web.url}/healthz")
    browser.run(OPEN, jobs)
    browser.until(lambda: browser.run(LIVE) == 6, "six to be open")
    browser.run("window.streams.find((stream) => stream.readyState === EventSource.OPEN).close()")
    browser.until(
        lambda: browser.run("return window.streams.every((s) => s.readyState > 0)"), "the seventh"
    )
    assert browser.run(LIVE) == 6
    browser.run(CLOSE)


def test_a_browser_hears_that_its_upload_is_too_large_before_it_is_sent(
    edge: ReverseProxy, browser: Browser
) -> None:
    browser.load(f"{edge.url}/healthz")
    browser.run(
        """
        fetch("/uploads", {method: "POST", body: new Uint8Array(arguments[0])})
          .then(async (answer) => (window.refused = [answer.status, await answer.text()]))
          .catch((error) => (window.refused = [0, `${error}`]));
        """,
        MAX_UPLOAD + 1,
    )
    status, text = browser.until(lambda: browser.run("return window.refused"), "an answer")
    assert status == 413, text
    assert "nothing was kept" in text


def test_no_proxy_logs_a_ticket(name: str, tmp_path: Path) -> None:
    """Not even when it has something to complain of: nobody listens behind it."""
    with ReverseProxy(name, tmp_path, free_port()) as proxy:
        trust = ssl.create_default_context(cafile=str(proxy.certificate))
        for path in ("/events?ticket=hwt1.secret", "/jobs?limit=1&ticket=hwt1.secret&x=%00"):
            httpx.get(proxy.url + path, verify=trust, headers={"Referer": proxy.url + path})
    log = proxy.log.read_text()
    assert "secret" not in log


SMUGGLED = "POST /jobs/{job} HTTP/1.1\r\nHost: 127.0.0.1\r\n{line}\r\nContent-Length: 0\r\n\r\n"
"""What none of these requests is to become: a request of its own. It stands where a body stands."""
AMBIGUOUS = {
    "both lengths": "Content-Length: {size_line}\r\nTransfer-Encoding: chunked",
    "two lengths": "Content-Length: 0\r\nContent-Length: {size}",
    "a list of lengths": "Content-Length: 0, {size}",
    "a length with a sign": "Content-Length: +{size}",
    "a space before the colon": "Content-Length: {size}\r\nTransfer-Encoding : chunked",
    "an unknown coding": "Content-Length: {size}\r\nTransfer-Encoding: xchunked",
    "a vertical tab": "Content-Length: {size}\r\nTransfer-Encoding:\x0bchunked",
    "chunked is not the last": "Content-Length: {size}\r\nTransfer-Encoding: chunked, identity",
    "a folded line": "Content-Length: {size}\r\nTransfer-Encoding:\r\n chunked",
    "an underscore": "Content-Length: {size}\r\nTransfer_Encoding: chunked",
    "a bare line feed": "Content-Length: {size}\nTransfer-Encoding: chunked\nX: y",
}


def raw(edge: ReverseProxy, request: bytes) -> bytes:
    """What a proxy answers to these bytes, over HTTP/1.1, until it closes or waits for more."""
    trust = ssl.create_default_context(cafile=edge.certificate)
    with (
        socket.create_connection(("127.0.0.1", edge.port), timeout=60) as plain,
        trust.wrap_socket(plain, server_hostname="127.0.0.1") as secure,
    ):
        secure.sendall(request)
        secure.settimeout(0.5)
        answer = b""
        with suppress(OSError):
            while piece := secure.recv(65536):
                answer += piece
        return answer


@pytest.mark.parametrize("kind", AMBIGUOUS)
def test_no_request_is_smuggled_past_a_proxy(web: Stack, edge: ReverseProxy, kind: str) -> None:
    job_id = create(web.store)
    inner = SMUGGLED.format(job=f"{job_id}/cancel", line=credentials.LINE)
    in_chunk = f"{len(inner):x}\r\n{inner}\r\n0\r\n\r\n"
    body = in_chunk if kind == "both lengths" else f"0\r\n\r\n{inner}"
    lengths = AMBIGUOUS[kind].format(size=len(body), size_line=len(f"{len(inner):x}\r\n"))
    head = f"POST /jobs HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: text/plain\r\n{lengths}\r\n\r\n"
    answer = raw(edge, (head + body).encode("latin-1"))
    # A proxy that reads what is unusual as two requests, and answers both, has hidden none from itself.
    state = "canceled" if answer.count(b"HTTP/1.1 ") == 2 else "queued"
    # Whoever comes next over the same connection to the service gets an answer to what they have asked.
    with client(edge, http2=False) as asks:
        for _ in range(4):
            assert asks.get("/healthz").status_code == 200
            assert asks.get(f"/jobs/{job_id}").json()["state"] == state, answer


def test_no_header_moves_a_path_past_a_proxy(edge: ReverseProxy) -> None:
    with client(edge) as asks:
        for name in ("SCRIPT_NAME", "Script-Name", "PATH_INFO", "X-Forwarded-Prefix", "X-Script-Name"):
            assert asks.get("/x/metrics", headers={name: "/x"}).status_code == 404
            assert asks.get("/metrics", headers={name: "/x"}).status_code == 200

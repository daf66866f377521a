"""One POST to where a stranger wants it: what is refused, and that nothing there holds it up."""

from __future__ import annotations

import ipaddress
import ssl
import subprocess
import sys
import time
from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path

import pytest

from headway.contract.webhooks import sign
from service.scheduling import webhook_post
from service.scheduling.webhook_post import Answer, Poster, Refused, check, permitted
from service.scheduling.webhooks import DELAYS_S, judge
from tests.support.checkout import ROOT
from tests.support.receiver import Receiver, answer

LOOPBACK = [ipaddress.ip_network("127.0.0.0/8")]


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with Receiver() as receiver:
        yield receiver


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook_post, "LIMIT_S", 2.0)


def post(url: str, poster: Poster | None = None) -> Answer:
    return (poster or Poster(LOOPBACK)).post(url, b"{}", {"webhook-id": "x"})


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.0.0.1",
        "172.16.3.4",
        "192.168.1.1",
        "100.64.0.1",
        "169.254.169.254",
        "0.0.0.0",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "198.18.0.1",
        "::1",
        "::",
        "fe80::1",
        "fec0::1",
        "fc00::1",
        "fd00:ec2::254",
        "ff02::1",
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "::127.0.0.1",
        "2002:7f00:1::",
        "2002:a9fe:a9fe::1",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b::10.0.0.1",
        "64:ff9b:1::1",
        "2001:0:a9fe:a9fe::1",
        "2001:db8::1",
        "192.0.0.192",
        "192.88.99.1",
        "3fff::1",
        "168.63.129.16",
        "::ffff:168.63.129.16",
        "2002:a83f:8110::",
    ],
)
def test_what_is_not_public_is_refused(address: str) -> None:
    assert not permitted(ipaddress.ip_address(address), [])


@pytest.mark.parametrize("address", ["1.1.1.1", "93.184.216.34", "2606:4700::1111", "::ffff:1.1.1.1"])
def test_what_is_public_is_permitted(address: str) -> None:
    assert permitted(ipaddress.ip_address(address), [])


def test_what_is_allowed_is_permitted_and_nothing_beside_it() -> None:
    allowed = [ipaddress.ip_network("10.1.0.0/16"), ipaddress.ip_network("fd00::/64")]
    for address, expected in {
        "10.1.2.3": True,
        "::ffff:10.1.2.3": True,
        "fd00::5": True,
        "10.2.0.1": False,
        "fd00:0:0:1::5": False,
        "127.0.0.1": False,
    }.items():
        assert permitted(ipaddress.ip_address(address), allowed) is expected, address


def test_a_bad_address_is_refused_before_anything_is_sent() -> None:
    for url in ("http://example.org/", "https://127.0.0.1/", "https://[::1]:8443/", "http://1.1.1.1/"):
        with pytest.raises(Refused):
            check(url, [])
    check("https://example.org/", [])
    check("http://127.0.0.1:8000/", LOOPBACK)


def test_a_name_with_one_address_that_is_refused_is_refused(receiver: Receiver) -> None:
    before = len(receiver.received)
    for found in (["127.0.0.1"], ["1.1.1.1", "169.254.169.254"], ["::ffff:7f00:1"], ["fe80::1%lo"]):
        got = post(f"https://rebound.example:{receiver.port}/", Poster([], lambda *_, found=found: found))
        assert got.status is None
        assert "not a public address" in got.error, found
    assert len(receiver.received) == before


def test_a_name_is_resolved_once_and_that_address_is_connected_to(receiver: Receiver) -> None:
    """A name server that says something else each time leads nowhere else."""
    asked = []

    def rebinding(host: str, port: int) -> list[str]:
        asked.append(host)
        return ["127.0.0.1"] if len(asked) == 1 else ["169.254.169.254"]

    got = post(f"http://rebound.example:{receiver.port}/ok/once", Poster(LOOPBACK, rebinding))
    assert (got.status, asked) == (204, ["rebound.example"])
    assert receiver.at("/ok/once")[0].headers["host"] == f"rebound.example:{receiver.port}"


def test_plain_http_is_only_for_what_is_allowed() -> None:
    got = post("http://public.example/", Poster(LOOPBACK, lambda *_: ["1.1.1.1"]))
    assert "must be https://" in got.error


@pytest.mark.parametrize("path", ["/hang", "/drip", "/continue", "/head", "/huge", "/close"])
def test_a_receiver_that_is_slow_or_lies_ends_in_time_with_little_read(
    receiver: Receiver, path: str
) -> None:
    began = time.monotonic()
    got = post(receiver.url(path))
    assert time.monotonic() - began < 20
    assert not got.accepted
    assert got.error
    assert len(got.text) <= webhook_post.MAX_TEXT_BYTES
    assert ("longer than 65536 bytes" in got.error) == (path in ("/continue", "/head"))


def test_a_body_that_drips_changes_nothing_about_the_status(receiver: Receiver) -> None:
    receiver.answers["/half"] = [b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"]
    assert post(receiver.url("/half")).accepted


def test_redirects_are_not_followed(receiver: Receiver) -> None:
    receiver.answers["/moved"] = [answer(307, Location=receiver.url("/ok/moved"))]
    got = post(receiver.url("/moved"))
    assert (got.status, got.accepted) == (307, False)
    assert "redirects are not followed" in got.error
    assert not receiver.at("/ok/moved")


def test_nobody_there_is_an_answer_too() -> None:
    assert post("http://127.0.0.1:1/").error.startswith("no connection")
    assert "no address" in post("https://x.example/", Poster([], lambda *_: [])).error
    assert post("http://nothing.invalid:99/").error.startswith("no connection")


@pytest.mark.parametrize(
    ("status", "given", "expected"),
    [(429, "30", 30), (503, "99999999999", 3600), (503, "soon", 0), (503, "-5", 0), (500, "30", 0)],
)
def test_retry_after_is_honoured_within_bounds(
    receiver: Receiver, status: int, given: str, expected: float
) -> None:
    receiver.answers["/later"] = [answer(status, b"later", Retry_After=given)]
    got = post(receiver.url("/later"))
    assert (got.retry_after_s, got.text) == (expected, "later")


def test_a_certificate_is_verified_by_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("good.example", "other.example"):
        subprocess.run(
            [
                *("openssl", "req", "-x509", "-nodes", "-days", "2", "-subj", f"/CN={name}"),
                *("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
                *("-keyout", str(tmp_path / f"{name}.key"), "-out", str(tmp_path / f"{name}.pem")),
                *("-addext", f"subjectAltName=DNS:{name}"),
            ],
            check=True,
            capture_output=True,
        )
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "good.example.pem"))
    poster = Poster(LOOPBACK, lambda *_: ["127.0.0.1"])
    for name, accepted in {"good.example": True, "other.example": False}.items():
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tmp_path / f"{name}.pem", tmp_path / f"{name}.key")
        with Receiver(tls=context) as secure:
            got = poster.post(f"https://good.example:{secure.port}/ok", b"{}", {})
            assert got.accepted is accepted, got
            assert accepted or "certificate" in got.error.lower()
            assert len(secure.received) == accepted


def test_a_handshake_that_never_comes_ends_in_time(receiver: Receiver) -> None:
    """A receiver without TLS waits for a request, and TLS for an answer."""
    began = time.monotonic()
    assert not post(receiver.url("/ok", "https")).accepted
    assert time.monotonic() - began < 20


def test_a_signature_is_that_of_the_standard() -> None:
    """The example of Standard Webhooks' own libraries."""
    key = b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    text = b'{"test": 2432232314}'
    signature = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    assert sign([key], "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, text) == signature
    both = sign([b"new", key], "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, text).split(" ")
    assert (len(both), both[1]) == (2, signature)


def test_tries_are_spread_over_a_day_and_then_given_up() -> None:
    failed = Answer(500)
    delays = [judge(failed, tries) for tries in range(len(DELAYS_S))]
    assert {outcome for outcome, _ in delays} == {"failed"}
    assert 0.8 * 86_400 < sum(delay for _, delay in delays) < 1.1 * 86_400
    assert judge(failed, len(DELAYS_S)) == ("given_up", 0)
    assert judge(Answer(410), 0)[0] == "gone"
    assert judge(Answer(299), 5)[0] == "delivered"
    assert judge(Answer(503, retry_after_s=3000), 0)[1] == 3000


def test_what_a_thread_of_gevents_raises_is_raised_here_and_written_nowhere() -> None:
    code = """
from gevent import monkey; monkey.patch_all()
from service.scheduling.blocking import file_threads, off_the_loop
from service.scheduling.outgoing import resolve
for work in (
    lambda: resolve("nowhere.invalid", 443, 5),
    lambda: off_the_loop(lambda: open("/no/such")),
    lambda: file_threads()(lambda: open("/no/such")),
):
    try:
        work()
    except OSError:
        print("raised")
"""
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (ran.stdout, ran.stderr) == ("raised\n" * 3, "")

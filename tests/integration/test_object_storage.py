"""Files in an object storage: two web hosts and a worker that share no disk, and SeaweedFS."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import obstore
import pytest

from headway import Client
from headway.contract.files import new_files
from headway.contract.object_files import PIECE_BYTES
from headway.contract.resumable import Coming
from service.api.tus import finish
from tests.integration.test_tus import TUS, begin, digest_of, half_sent, offset_of, patch
from tests.support import credentials
from tests.support.seaweed import ACCESS, Seaweed
from tests.support.stack import Stack, free_port
from tests.support.wait import until
from worker.media import ffmpeg

pytestmark = pytest.mark.long

PREFIX = "a service/files"


class Hosts(Stack):
    """`url` is the host that redirects, `other` the one that streams. Each has its own DATA_DIR, and so
    has the worker."""

    def __init__(self, directory: Path, seaweed: Seaweed) -> None:
        super().__init__(
            directory,
            FILES_URL=seaweed.url(PREFIX.replace(" ", "%20")),
            HEARTBEAT_S="1",
            DRAIN_S="0",
            MIN_FREE_BYTES="0",
            **ACCESS,
        )
        self.seaweed = seaweed
        self.objects = seaweed.store(PREFIX)
        self.environ["DATA_DIR"] = str(directory / "host1")
        self.start_web()
        port = free_port()
        self.other = f"http://127.0.0.1:{port}"
        self.second = {"PORT": str(port), "DATA_DIR": str(directory / "host2"), "FILES_REDIRECT": "0"}
        self.start("web2", "-m", "service", "web", **self.second)
        self.environ["DATA_DIR"] = str(directory / "host3")
        self.start_worker()
        until(lambda: self.at(self.other, "/readyz")[0] == 200, what="the second host")

    def at(self, url: str, path: str, **headers: str) -> tuple[int, Any, bytes]:
        """Status, headers and body, with redirects followed as a browser does: without the credential."""
        request = urllib.request.Request(url + path, headers={**self.headers, **headers})
        try:
            with urllib.request.build_opener(Forgetful).open(request, timeout=30) as answer:
                return answer.status, answer.headers, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.headers, error.read()
        except OSError:
            return 0, {}, b""

    def keys(self, below: str) -> list[str]:
        return sorted(each["path"] for page in obstore.list(self.objects, prefix=below) for each in page)


class Forgetful(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *args: Any) -> urllib.request.Request | None:
        made = super().redirect_request(*args)
        if made is not None:
            made.remove_header("Authorization")
        return made


class Untouched(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *args: Any) -> None:
        return None


@pytest.fixture(scope="module")
def seaweed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seaweed]:
    with Seaweed(tmp_path_factory.mktemp("seaweed")) as seaweed:
        yield seaweed


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory, seaweed: Seaweed) -> Iterator[Hosts]:
    with Hosts(tmp_path_factory.mktemp("hosts"), seaweed) as hosts:
        yield hosts


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("film") / "a film.mp4"
    source = ["-f", "lavfi", "-i", "testsrc2=size=160x90:rate=10:duration=2"]
    subprocess.run(
        [ffmpeg.locate("ffmpeg"), "-nostdin", "-loglevel", "error", *source, str(path)], check=True
    )
    return path


@pytest.fixture(scope="module")
def encoded(hosts: Hosts, film: Path) -> dict[str, Any]:
    """A job that was uploaded at one host, and encoded at another, as a tree of segments."""
    sent = Client(hosts.url, token=credentials.KEY).upload(film)
    job = hosts.submit("video.encode", {"input": f"upload:{sent['id']}", "preset": "hls"})
    ended = hosts.wait_ended(job["id"])
    assert ended["state"] == "succeeded", (ended, hosts.log("worker")[-3000:])
    assert ended["attempt"] == 1
    return ended


def redirect(hosts: Hosts, path: str, **headers: str) -> str:
    request = urllib.request.Request(hosts.url + path, headers={**hosts.headers, **headers})
    with pytest.raises(urllib.error.HTTPError) as answer:
        urllib.request.build_opener(Untouched).open(request, timeout=30)
    answer.value.close()
    assert answer.value.code == 302
    return str(answer.value.headers["Location"])


def test_what_one_host_made_every_host_serves(
    hosts: Hosts, encoded: dict[str, Any], tmp_path: Path
) -> None:
    names = [artifact["name"] for artifact in encoded["artifacts"]]
    assert names == ["hls/master.m3u8", "poster.jpg"]
    for name in names:
        path = f"/jobs/{encoded['id']}/artifacts/{name}"
        first, second = hosts.at(hosts.url, path), hosts.at(hosts.other, path)
        assert (first[0], second[0]) == (200, 200)
        assert first[2] == second[2] != b""
        assert first[1]["Content-Type"] == second[1]["Content-Type"]
        assert first[1]["ETag"] == second[1]["ETag"]
        kind = name.rpartition("/")[2]
        for answer in (first, second):
            assert answer[1]["Content-Disposition"] == f"attachment; filename={kind}"
    assert not list((hosts.directory / "host1").rglob("poster.jpg")), "nothing lies on the hosts' disks"
    assert not list((hosts.directory / "host3").rglob("poster.jpg"))
    to = Client(hosts.url, token=credentials.KEY).download(encoded["id"], "hls/master.m3u8", tmp_path)
    assert len(list(to.parent.rglob("*.ts"))) == 1, list(tmp_path.rglob("*"))


def test_ranges_and_etags_are_those_of_the_file(hosts: Hosts, encoded: dict[str, Any]) -> None:
    path = f"/jobs/{encoded['id']}/artifacts/poster.jpg"
    whole = hosts.at(hosts.other, path)[2]
    for url in (hosts.url, hosts.other):
        status, headers, body = hosts.at(url, path, Range="bytes=10-29")
        assert (status, body) == (206, whole[10:30])
        assert headers["Content-Range"] == f"bytes 10-29/{len(whole)}"
    status, headers, body = hosts.at(hosts.other, path, Range=f"bytes={len(whole)}-")
    assert status == 416
    etag = hosts.at(hosts.other, path)[1]["ETag"]
    assert hosts.at(hosts.other, path, **{"If-None-Match": etag})[0] == 304
    assert hosts.at(hosts.other, f"{path}x")[0] == 404
    assert hosts.at(hosts.other, f"/jobs/{encoded['id']}/artifacts/hls/../poster.jpg")[0] in (200, 404)


def test_a_player_finds_each_segment_whichever_way_the_host_serves(
    hosts: Hosts, encoded: dict[str, Any]
) -> None:
    for url in (hosts.url, hosts.other):
        session = urllib.request.Request(f"{url}/session", b"", hosts.headers, method="POST")
        with urllib.request.urlopen(session, timeout=10) as answer:
            cookie = answer.headers["Set-Cookie"].partition(";")[0]
        command = [
            *(ffmpeg.locate("ffprobe"), "-v", "error", "-headers", f"Cookie: {cookie}\r\n"),
            *("-count_packets", "-show_entries", "stream=nb_read_packets", "-of", "json"),
            f"{url}/jobs/{encoded['id']}/artifacts/hls/master.m3u8",
        ]
        ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        assert ran.returncode == 0, ran.stderr
        streams = json.loads(ran.stdout)["streams"]
        assert {stream["nb_read_packets"] for stream in streams} == {"20"}, ran.stdout + ran.stderr


def test_an_address_is_good_for_a_minute_and_for_nothing_else(
    hosts: Hosts, encoded: dict[str, Any]
) -> None:
    path = f"/jobs/{encoded['id']}/artifacts/poster.jpg"
    address = redirect(hosts, path)
    assert "X-Amz-Expires=60" in address
    name, _, signature = address.partition("X-Amz-Signature=")
    assert signature not in hosts.log("web"), "it opens the file to whoever has it"
    other = "0" if signature[0] != "0" else "1"
    key = f"artifacts/{encoded['id']}/1/poster.jpg"
    wrong = {
        "forged": f"{name}X-Amz-Signature={other}{signature[1:]}",
        "of another file": address.replace("poster.jpg", "hls/master.m3u8"),
        "without a signature": address.partition("?")[0],
        "expired": obstore.sign(hosts.objects, "GET", key, timedelta(seconds=1)),
    }
    time.sleep(2)
    refused = {}
    for what, url in wrong.items():
        with pytest.raises(urllib.error.HTTPError) as answer:
            urllib.request.urlopen(url, timeout=10)
        refused[what] = answer.value.code
        answer.value.close()
    assert refused == dict.fromkeys(refused, 403)
    assert urllib.request.urlopen(address, timeout=10).status == 200
    assert hosts.at(hosts.url, path, Authorization="Bearer hw_x_y")[0] == 401, "the gate comes first"


def test_what_is_shown_in_place_is_no_attachment(hosts: Hosts, encoded: dict[str, Any]) -> None:
    path = f"/jobs/{encoded['id']}/artifacts/poster.jpg?play=1"
    status, headers, _ = hosts.at(hosts.url, path, **{"Sec-Fetch-Dest": "document"})
    assert status == 200
    assert "attachment" not in headers.get("Content-Disposition", "")
    assert "sandbox" in headers["Content-Security-Policy"]
    assert "X-Amz-Signature" in redirect(hosts, path, **{"Sec-Fetch-Dest": "image"})
    policy = hosts.at(hosts.url, "/")[1]["Content-Security-Policy"]
    assert f"img-src 'self' data: {hosts.seaweed.endpoint}" in policy, "the dashboard may show it"


def test_what_is_removed_is_removed_from_the_bucket(hosts: Hosts, film: Path) -> None:
    client = Client(hosts.url, token=credentials.KEY)
    sent = client.upload(film)
    assert len(hosts.keys(f"uploads/{sent['id']}")) == 2
    made = hosts.submit("video.encode", {"input": f"upload:{sent['id']}", "width": 64, "height": 36})
    assert hosts.wait_ended(made["id"])["state"] == "succeeded"
    again = hosts.submit(
        "video.encode",
        {"input": f"artifact:{made['id']}/video.mp4", "preset": "webm", "poster": False},
    )
    assert hosts.wait_ended(again["id"])["state"] == "succeeded"
    assert hosts.call("DELETE", f"/uploads/{sent['id']}")[0] == 204
    assert hosts.keys(f"uploads/{sent['id']}") == []
    assert hosts.call("DELETE", f"/jobs/{made['id']}")[0] == 204
    assert hosts.keys(f"artifacts/{made['id']}") == []
    assert hosts.keys(f"artifacts/{again['id']}") == [f"artifacts/{again['id']}/1/video.webm"]
    hosts.store.redis.zadd(hosts.store.keys.expiring(0), {again["id"]: 1})
    until(lambda: not hosts.keys(f"artifacts/{again['id']}"), what="the sweep")


def test_what_one_host_began_to_take_another_goes_on_with(hosts: Hosts) -> None:
    data = os.urandom(20_000_000)
    tus = {"Tus-Resumable": "1.0.0"}

    def ask(url: str, method: str, path: str, body: bytes | None = None, **more: str) -> Any:
        headers = {**hosts.headers, **tus, **more}
        request = urllib.request.Request(url + path, body, headers, method=method)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.headers

    path = ask(hosts.url, "POST", "/uploads", b"", **{"Upload-Length": str(len(data))})["Location"]
    stream = {"Content-Type": "application/offset+octet-stream"}
    ask(hosts.url, "PATCH", path, data[:9_000_000], **stream, **{"Upload-Offset": "0"})
    assert ask(hosts.other, "HEAD", path)["Upload-Offset"] == "9000000"
    ask(hosts.other, "PATCH", path, data[9_000_000:9_000_001], **stream, **{"Upload-Offset": "9000000"})
    ask(hosts.url, "PATCH", path, data[9_000_001:], **stream, **{"Upload-Offset": "9000001"})
    job = hosts.submit("file.checksum", {"input": f"upload:{path.rpartition('/')[2]}"})
    ended = hosts.wait_ended(job["id"])
    assert ended["result"]["hexdigest"] == hashlib.sha256(data).hexdigest(), ended
    assert ended["progress"]["stage"]["count"] == 2, "the download is a stage"


def test_what_comes_slowly_is_kept_before_its_connection_breaks(hosts: Hosts) -> None:
    path = begin(hosts, 1 << 30)
    with half_sent(hosts, path, 0, 1 << 30, b"") as sender:
        until(lambda: sender.send(bytes(2_000)) and offset_of(hosts, path), 60, "some of it to be kept")
        assert offset_of(hosts, path) < PIECE_BYTES  # type: ignore[operator]


def test_who_sees_last_that_all_has_come_changes_nothing(
    hosts: Hosts, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = begin(hosts, 10)
    upload_id = path.rpartition("/")[2]
    assert patch(hosts, path, 0, b"abcde")[0] == 204
    assert patch(hosts, path, 5, b"fghij")[0] == 204
    # As a HEAD finds it, which asks just before the last PATCH is done.
    for name, value in ACCESS.items():
        monkeypatch.setenv(name, value)
    files = new_files(hosts.environ["FILES_URL"], Path())
    here: Any = SimpleNamespace(files=files, store=hosts.store)
    finish(here, "local", Coming(upload_id, 10, 10, "upload", "a/b", "", 0))
    assert digest_of(hosts, path) == hashlib.sha256(b"abcdefghij").hexdigest()


def test_an_upload_that_is_under_way_when_the_files_move_begins_again(
    seaweed: Seaweed, tmp_path: Path
) -> None:
    with Stack(tmp_path, DRAIN_S="0") as stack:
        stack.start_web()
        path = begin(stack, 10)
        assert patch(stack, path, 0, b"abcde")[0] == 204
        stack.stop("web")
        bucket = seaweed.store("moved")
        for file in tmp_path.glob("[au]*/**/*"):
            if file.is_file():
                bucket.put(file.relative_to(tmp_path).as_posix(), file)
        stack.environ |= {**ACCESS, "FILES_URL": seaweed.url("moved")}
        stack.start_web()
        status, _, body = patch(stack, path, 5, b"fghij")
        assert (status, b"begin it anew" in body) == (410, True), body
        assert stack.call("HEAD", path, headers=TUS)[0] == 404


def test_a_storage_that_is_away_fails_no_job(hosts: Hosts, tmp_path: Path) -> None:
    big = tmp_path / "big"
    big.write_bytes(os.urandom(30 << 20))
    sent = Client(hosts.other, token=credentials.KEY).upload(big)
    assert len(hosts.keys(f"uploads/{sent['id']}/data")) == 4
    hosts.seaweed.kill()
    job = hosts.submit("file.checksum", {"input": f"upload:{sent['id']}"})
    status, _, body = hosts.call("GET", f"/jobs/{job['id']}")
    assert status == 200, "what needs no files goes on"
    assert hosts.at(hosts.url, "/readyz")[0] == 200

    def waits() -> bool:
        page = hosts.get(f"/jobs/{job['id']}/events?after=0", headers={"Accept": "application/json"})[1]
        return any("object storage" in event["data"].get("message", "") for event in page["events"])

    until(waits, 90, what="the job to say what it waits for")
    status, headers, body = hosts.call("POST", "/uploads", b"x" * 100, timeout=90)
    assert (status, headers["retry-after"]) == (503, "2"), body
    assert b"object storage" in body
    hosts.seaweed.start()
    ended = hosts.wait_ended(job["id"], 90)
    assert (ended["state"], ended["attempt"]) == ("succeeded", 1), ended
    assert ended["result"]["hexdigest"] == hashlib.sha256(big.read_bytes()).hexdigest()


def test_a_storage_that_hangs_holds_up_nothing_else(hosts: Hosts) -> None:
    os.killpg(hosts.seaweed.pid, signal.SIGSTOP)
    try:
        job = hosts.submit("simulate", {"duration_s": 0.2})
        assert hosts.wait_ended(job["id"], 60)["state"] == "succeeded"
    finally:
        os.killpg(hosts.seaweed.pid, signal.SIGCONT)


def test_an_upload_that_never_was_is_invalid_input(hosts: Hosts) -> None:
    for what in ("upload:AAAAAAAAAAAAAAAAAAAAAA", "artifact:0-AAAAAAAAAAAAAAAAAAAAAA/x"):
        job = hosts.submit("file.checksum", {"input": what})
        ended = hosts.wait_ended(job["id"])
        assert ended["error"]["code"] == "invalid_input"


def test_hosts_that_do_not_share_their_disks_say_so(tmp_path: Path) -> None:
    with Stack(tmp_path, DRAIN_S="0") as stack:
        stack.environ["DATA_DIR"] = str(tmp_path / "one")
        stack.start_web()
        port = free_port()
        stack.start("web2", "-m", "service", "web", PORT=str(port), DATA_DIR=str(tmp_path / "two"))

        def said() -> str:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5).close()
            except urllib.error.HTTPError as error:
                with error:
                    detail = str(json.loads(error.read())["detail"])
                    return detail if "files" in detail else ""
            except OSError:
                return ""
            raise AssertionError("it says that it is ready")

        assert "the same FILES_URL" in until(said, what="the second host to answer")
        ran = subprocess.run(
            [sys.executable, "-m", "worker"],
            env={**stack.environ, "DATA_DIR": str(tmp_path / "three")},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert ran.returncode == 2
        assert "FILES_URL" in ran.stderr.splitlines()[-1]
        assert len(ran.stderr.splitlines()) == 1

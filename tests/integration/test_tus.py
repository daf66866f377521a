"""Uploads by tus 1.0: they go on where they broke off."""

from __future__ import annotations

import base64
import fcntl
import hashlib
import json
import os
import socket
import struct
import subprocess
import termios
import time
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

import headway.client.retrying
from headway import Client
from headway.client import transport
from headway.contract.keys import Keys
from headway.contract.local_files import LocalFiles
from headway.contract.resumable import Coming, WriterReplaced
from headway.contract.store import JobStore
from service.api.file_body import CHUNK
from service.api.problems import Problem
from service.api.upload_quota import UploadQuota
from tests.support import credentials
from tests.support.checkout import ROOT
from tests.support.npm import package
from tests.support.processes import descendants
from tests.support.programs import program
from tests.support.stack import Stack
from tests.support.wait import until

TUS = {"Tus-Resumable": "1.0.0"}
STREAM = "application/offset+octet-stream"


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def begin(stack: Stack, length: int, **more: str) -> str:
    """The path of a new upload."""
    headers = {**TUS, "Upload-Length": str(length), **more}
    status, given, body = stack.call("POST", "/uploads", headers=headers)
    assert status == 201, body
    assert given["tus-resumable"] == "1.0.0"
    assert "upload-expires" in given
    return given["location"]


def patch(
    stack: Stack, path: str, offset: int, data: bytes, **more: str
) -> tuple[int, dict[str, str], bytes]:
    headers = {**TUS, "Upload-Offset": str(offset), "Content-Type": STREAM, **more}
    return stack.call("PATCH", path, data, headers)


def offset_of(stack: Stack, path: str) -> int | None:
    status, headers, _ = stack.call("HEAD", path, headers=TUS)
    if status != 200:
        return None
    assert headers["cache-control"] == "no-store"
    return int(headers["upload-offset"])


def digest_of(stack: Stack, path: str) -> str:
    job = stack.submit("file.checksum", {"input": f"upload:{path.rpartition('/')[2]}"})
    ended = stack.wait_ended(job["id"])
    assert ended["state"] == "succeeded", ended
    return str(ended["result"]["hexdigest"])


def half_sent(stack: Stack, path: str, offset: int, length: int, data: bytes, *lines: str) -> socket.socket:
    """A connection on which a part of `length` bytes was announced, and only `data` of it sent."""
    sender = socket.create_connection(("127.0.0.1", stack.port))
    head = [
        f"PATCH {path} HTTP/1.1",
        "Host: localhost",
        credentials.LINE,
        "Tus-Resumable: 1.0.0",
        f"Content-Type: {STREAM}",
        f"Upload-Offset: {offset}",
        f"Content-Length: {length}",
        *lines,
    ]
    sender.sendall("\r\n".join([*head, "", ""]).encode() + data)
    return sender


def test_an_upload_in_parts_is_the_input_that_it_would_have_been_in_one(stack: Stack) -> None:
    data = os.urandom(3_000_000)
    named = f"filename {b64('ein Fïlm.mp4'.encode())},filetype {b64(b'video/mp4')},empty"
    path = begin(stack, len(data), **{"Upload-Metadata": named})
    offset = 0
    for end in (1, 1_500_000, 3_000_000):
        assert stack.get(path)[1]["size"] == len(data)
        job = stack.submit("file.checksum", {"input": f"upload:{path.rpartition('/')[2]}"})
        assert stack.wait_ended(job["id"])["error"]["code"] == "invalid_input", "it is not complete"
        status, headers, body = patch(stack, path, offset, data[offset:end])
        assert (status, headers["upload-offset"]) == (204, str(end)), body
        offset = end
        assert offset_of(stack, path) == end
        assert stack.call("HEAD", path, headers=TUS)[1]["upload-metadata"] == named
    found = stack.get(path)[1]
    assert found == {
        "id": path.rpartition("/")[2],
        "name": "ein Fïlm.mp4",
        "size": len(data),
        "media_type": "video/mp4",
    }
    assert digest_of(stack, path) == hashlib.sha256(data).hexdigest()
    assert patch(stack, path, len(data), b"more")[0] == 404, "it is complete"
    assert stack.call("DELETE", path, headers=TUS)[0] == 204
    assert stack.call("GET", path)[0] == 404


def test_what_is_spoken_is_told(stack: Stack) -> None:
    status, headers, _ = stack.call("OPTIONS", "/uploads")
    assert status in (200, 204)
    assert (headers["tus-version"], headers["tus-resumable"]) == ("1.0.0", "1.0.0")
    assert headers["tus-extension"] == "creation,creation-with-upload,termination,checksum,expiration"
    assert headers["tus-checksum-algorithm"] == "sha1,sha256,md5"
    assert int(headers["tus-max-size"]) == 10 * 1024**3
    wrong = {"Tus-Resumable": "0.2.2", "Upload-Length": "3"}
    status, headers, _ = stack.call("POST", "/uploads", headers=wrong)
    assert (status, headers["tus-version"]) == (412, "1.0.0")


def test_an_upload_may_bring_its_first_part_or_all_of_it(stack: Stack) -> None:
    for length in (5, 10):
        more = {"Upload-Length": str(length), "Content-Type": STREAM}
        status, headers, body = stack.call("POST", "/uploads", b"12345", {**TUS, **more})
        assert (status, headers["upload-offset"]) == (201, "5"), body
        assert offset_of(stack, headers["location"]) == 5
    path = begin(stack, 0)
    assert digest_of(stack, path) == hashlib.sha256(b"").hexdigest()


def test_what_came_before_the_connection_broke_counts(stack: Stack) -> None:
    data = os.urandom(2_500_000)
    path = begin(stack, len(data))
    half_sent(stack, path, 0, len(data), data[:1_200_000]).close()
    until(lambda: offset_of(stack, path) == 1_200_000, what="what came to count")
    assert patch(stack, path, 1_200_000, data[1_200_000:])[0] == 204
    assert digest_of(stack, path) == hashlib.sha256(data).hexdigest()


def test_little_is_lost_with_a_connection_that_is_reset(stack: Stack) -> None:
    path = begin(stack, 1 << 20)
    sender = half_sent(stack, path, 0, 1 << 20, bytes(900_000))
    # When all has arrived, closed in the way that the peer is told by RST.
    until(lambda: struct.unpack("I", fcntl.ioctl(sender, termios.TIOCOUTQ, b"....")) == (0,), what="ACK")
    sender.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    until(lambda: _received(stack, sender), what="it to be read")
    sender.close()
    until(lambda: offset_of(stack, path) or 0, what="what came to count")
    assert offset_of(stack, path) > 900_000 - CHUNK  # type: ignore[operator]


def _received(stack: Stack, sender: socket.socket) -> bool:
    """Whether the service has read all that was sent to it: its socket's queue is empty."""
    mine, there = sender.getsockname()[1], stack.port
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        local, remote, _, queues = line.split()[1:5]
        if (int(local[-4:], 16), int(remote[-4:], 16)) == (there, mine):
            return queues.endswith(":00000000")
    return False


def test_what_comes_too_slowly_is_told_where_to_go_on(stack: Stack) -> None:
    # With 409, since tus-js-client and Uppy take every other 4xx but 423 for the end.
    path = begin(stack, 1_000)
    with half_sent(stack, path, 0, 1_000, b"") as sender:
        sender.settimeout(60)
        answer = sender.recv(4096)
    assert answer.startswith(b"HTTP/1.1 409 ")
    assert b"Upload-Offset: 0\r\n" in answer


def test_an_upload_that_lost_a_part_is_gone_and_says_so(stack: Stack) -> None:
    path = begin(stack, 10)
    assert patch(stack, path, 0, b"abcde")[0] == 204
    os.truncate(stack.directory / path.lstrip("/") / "data", 3)
    status, _, body = patch(stack, path, 5, b"fghij")
    assert (status, b"begin it anew" in body) == (410, True)
    assert offset_of(stack, path) is None


def test_what_is_refused_at_once_leaves_nothing(stack: Stack) -> None:
    before = stack.store.resumable.announced("local")
    wrong = {"Upload-Checksum": f"sha1 {b64(hashlib.sha1(b'x').digest())}"}
    for status, more in ((413, {}), (460, wrong)):
        headers = {**TUS, "Upload-Length": "5" if more else "2", "Content-Type": STREAM, **more}
        assert stack.call("POST", "/uploads", b"hello", headers)[0] == status
    assert stack.store.resumable.announced("local") == before, "nobody could remove it"


def test_a_client_that_comes_back_takes_over_from_its_old_connection(stack: Stack) -> None:
    data = os.urandom(3 << 20)
    path = begin(stack, len(data))
    old = half_sent(stack, path, 0, len(data), data[: 3 << 19])
    with old:
        until(lambda: offset_of(stack, path) == 1 << 20, what="the first piece to count")
        assert patch(stack, path, 1 << 20, data[1 << 20 : 2 << 20])[0] == 204
        old.sendall(b"\0" * (3 << 19))
        assert b" 409 " in old.recv(4096).splitlines()[0]
    assert offset_of(stack, path) == 2 << 20
    assert patch(stack, path, 2 << 20, data[2 << 20 :])[0] == 204
    assert digest_of(stack, path) == hashlib.sha256(data).hexdigest()


def test_only_the_last_writer_moves_the_offset(store: JobStore) -> None:
    uploads, key = store.resumable, "u" * 22
    uploads.create("ann", Coming(key, 10, 0, "x", "a/b", "", 0), 60)
    uploads.begin("ann", key, 0, "first", 60)
    uploads.begin("ann", key, 0, "second", 60)
    with pytest.raises(WriterReplaced):
        uploads.advance("ann", key, 0, "first", 5, ["p"], 60)
    uploads.advance("ann", key, 0, "second", 5, ["q"], 60)
    uploads.advance("ann", key, 0, "second", 5, ["q"], 60)
    found = uploads.get("ann", key)
    assert found is not None
    assert found.offset == 5, "a repetition counts once"
    assert uploads.pieces("ann", key) == ["q"]
    assert uploads.get("bob", key) is None
    assert (uploads.announced("ann"), uploads.announced("bob")) == (10, 0)


def test_what_expired_is_not_remembered(store: JobStore) -> None:
    uploads = store.resumable
    key = store.keys.uploading("ann")
    for name, seconds in (("u", 0.05), ("v", 60)):
        uploads.create("ann", Coming(name * 22, 10, 0, "x", "a/b", "", 0), seconds)
    assert store.redis.zcard(key) == 2
    until(lambda: uploads.get("ann", "u" * 22) is None, what="it to expire")
    uploads.begin("ann", "v" * 22, 0, "t", 60)
    uploads.advance("ann", "v" * 22, 0, "t", 1, [], 60)
    assert store.redis.zcard(key) == 1


def test_bytes_that_do_not_have_their_checksum_are_not_kept(stack: Stack) -> None:
    data = os.urandom(1_500_000)
    path = begin(stack, len(data))
    good = f"sha1 {b64(hashlib.sha1(data).digest())}"
    bad = f"sha1 {b64(hashlib.sha1(b'x').digest())}"
    assert patch(stack, path, 0, data, **{"Upload-Checksum": bad})[0] == 460
    assert offset_of(stack, path) == 0
    for wrong in ("crc32 AAAA", "sha1 AAAA", "sha1", "sha1 ä"):
        # Short: the answer comes before the bytes are read.
        assert patch(stack, path, 0, data[:9], **{"Upload-Checksum": wrong})[0] == 400
    with half_sent(stack, path, 0, len(data), data[:1_200_000], f"Upload-Checksum: {good}"):
        time.sleep(0.2)
    assert offset_of(stack, path) == 0, "a part with a checksum counts as a whole"
    assert patch(stack, path, 0, data, **{"Upload-Checksum": good})[0] == 204
    assert digest_of(stack, path) == hashlib.sha256(data).hexdigest()


def test_a_part_that_does_not_fit_is_refused_and_says_why(stack: Stack) -> None:
    path = begin(stack, 10)
    status, headers, _ = patch(stack, path, 3, b"abc")
    assert (status, headers["upload-offset"]) == (409, "0")
    assert patch(stack, path, 0, b"x" * 11)[0] == 413
    assert patch(stack, path, 0, b"x", **{"Content-Type": "text/plain"})[0] == 415
    assert stack.call("PATCH", path, b"x", {**TUS, "Content-Type": STREAM})[0] == 400
    assert patch(stack, path, 0, b"x", **{"Tus-Resumable": "2.0"})[0] == 412
    assert stack.call("DELETE", path, headers={"Tus-Resumable": "2.0"})[0] == 412
    assert patch(stack, "/uploads/" + "A" * 22, 0, b"x")[0] == 404
    assert offset_of(stack, path) == 0
    for refused, more in {
        400: {"Upload-Length": "many"},
        413: {"Upload-Length": str(11 * 1024**3)},
        422: {"Upload-Length": "1", "Upload-Metadata": f"filename {b64(b'x' * 300)}"},
    }.items():
        assert stack.call("POST", "/uploads", headers={**TUS, **more})[0] == refused
    broken = {"Upload-Length": "1", "Upload-Metadata": "filename ***"}
    assert stack.call("POST", "/uploads", headers={**TUS, **broken})[0] == 400
    assert stack.call("POST", "/uploads", headers={**TUS, "Upload-Defer-Length": "1"})[0] == 400


def test_where_no_patch_comes_through_the_method_is_said_in_a_header(stack: Stack) -> None:
    path = begin(stack, 3)
    said = {**TUS, "Upload-Offset": "0", "Content-Type": STREAM}
    assert stack.call("POST", path, b"abc", said)[0] == 400
    assert stack.call("POST", path, b"abc", {**said, "X-HTTP-Method-Override": "PATCH"})[0] == 204
    assert offset_of(stack, path) == 3
    assert stack.call("POST", path, b"", {**TUS, "X-HTTP-Method-Override": "DELETE"})[0] == 204
    assert offset_of(stack, path) is None


def test_an_upload_that_is_given_up_is_gone(stack: Stack) -> None:
    path = begin(stack, 10)
    assert patch(stack, path, 0, b"abc")[0] == 204
    files = stack.directory / path.lstrip("/")
    assert files.exists()
    assert stack.call("DELETE", path, headers=TUS)[0] == 204
    assert not files.exists()
    assert offset_of(stack, path) is None
    path = begin(stack, 10)
    key = stack.store.keys.upload("local", path.rpartition("/")[2])
    assert 0 < stack.store.redis.ttl(key) <= 86_400  # type: ignore[operator]
    stack.store.redis.pexpire(key, 1)
    until(lambda: offset_of(stack, path) is None, what="it to expire")


def test_what_is_coming_in_counts_against_the_quota(store: JobStore, tmp_path: Path) -> None:
    quota = UploadQuota(LocalFiles(tmp_path), store, 100)
    store.resumable.create("ann", Coming("u" * 22, 60, 0, "x", "a/b", "", 0), 60)
    with pytest.raises(Problem) as refused, quota.reserve("ann", 50):
        pass
    assert refused.value.status == 507
    with quota.reserve("ann", 40), quota.reserve("bob", 100):
        pass


def test_another_owners_upload_is_as_if_it_were_not_there(store: JobStore) -> None:
    keys = Keys("x:")
    assert keys.upload("ann", "u") != keys.upload("bob", "u")
    assert keys.upload("a:b", "u") != keys.upload("a", "b:u")


@pytest.mark.long
def test_the_client_goes_on_after_the_service_was_killed(own_stack: Stack, tmp_path: Path) -> None:
    own_stack.start_web()
    file = tmp_path / "large"
    data = os.urandom(1 << 20) * 96
    file.write_bytes(data)
    seen: list[int] = []
    kills = [20 << 20, 60 << 20]

    def progress(done: int, total: int) -> None:
        assert total == len(data)
        seen.append(done)
        if kills and done > kills[0]:
            kills.pop(0)
            restarts.append(threads.submit(own_stack.restart_web))

    restarts: list[Future[None]] = []
    # For a while nobody listens at its port.
    with ThreadPoolExecutor(1) as threads:
        made = Client(own_stack.url).upload(file, progress=progress)
    assert [restart.result() for restart in restarts] == [None, None]
    assert made["size"] == len(data)
    kept = own_stack.directory / "uploads" / made["id"] / "data"
    assert hashlib.sha256(kept.read_bytes()).digest() == hashlib.sha256(data).digest()
    back = [before - after for before, after in pairwise(seen) if after < before]
    assert len(back) == 2, back
    assert max(back) < 16 << 20, "what was kept is not sent again"


def test_an_upload_that_goes_on_for_longer_than_the_client_waits_survives_a_cut(
    own_stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(headway.client.retrying, "TRANSFER_PATIENCE_S", 5.0)
    own_stack.start_web()
    file = tmp_path / "large"
    file.write_bytes(bytes(40 * transport.CHUNK))
    began, cuts = time.monotonic(), list[float]()

    def progress(done: int, total: int) -> None:
        if time.monotonic() - began < 6:
            time.sleep(0.3)
        elif not cuts:
            own_stack.restart_web()
            cuts.append(time.monotonic())

    assert Client(own_stack.url).upload(file, progress=progress)["size"] == file.stat().st_size
    assert cuts


def test_a_large_upload_takes_no_memory(own_stack: Stack, tmp_path: Path) -> None:
    own_stack.start_web()
    small, file = tmp_path / "small", tmp_path / "large"
    small.write_bytes(b"x" * (2 << 20))
    with file.open("wb") as out:
        out.truncate(300 << 20)
    Client(own_stack.url).upload(small)
    web = max((each.pid for each in descendants(own_stack.pid("web"))), key=_rss)
    before = _rss(web)
    most = 0

    def progress(done: int, total: int) -> None:
        nonlocal most
        if done % (16 << 20) < 1 << 16:
            most = max(most, _rss(web))

    Client(own_stack.url).upload(file, progress=progress)
    print(f"before {before >> 10} KiB, most {most >> 10} KiB")
    assert most - before < 40 << 20


def _rss(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def test_tus_js_client_works_as_it_is(stack: Stack, tmp_path: Path) -> None:
    package("tus-js-client")
    data = os.urandom(5_000_000)
    film, script = tmp_path / "film.mp4", ROOT / "tests/web/tus.mjs"
    film.write_bytes(data)
    ran: Any = subprocess.run(
        [program("node"), str(script), stack.url, credentials.KEY, str(film)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    said = json.loads(ran.stdout)
    path = "/uploads/" + said["url"].rpartition("/")[2]
    assert said["resumed_at"] > 0, "it went on, and did not begin again"
    assert stack.get(path)[1]["name"] == "film.mp4"
    assert digest_of(stack, path) == hashlib.sha256(data).hexdigest()

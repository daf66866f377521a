"""Secrets in every place where one may come in, and then everywhere where none may come out."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.support import processes
from tests.support.credentials import bearer, jwt_header, keys_and_jwts
from tests.support.receiver import Receiver, answer
from tests.support.routes import requests
from tests.support.stack import Stack
from tests.support.wait import until
from worker.media import ffmpeg

pytestmark = pytest.mark.long

PASSWORD = "canary-password"
WAYS = ("text/event-stream", "application/json")


class Canaries:
    """A service whose owners `ann` and `bob` have keys, and all that came out of it."""

    def __init__(self, stack: Stack, receiver: Receiver) -> None:
        self.stack = stack
        self.receiver = receiver
        self.said: list[tuple[str, bytes]] = []

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, bytes]:
        """Status and all that is answered, which is kept; of an event stream, its beginning."""
        data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        known = {"Host": "localhost", "Content-Type": "application/json", "Content-Length": len(data)}
        lines = [f"{method} {path} HTTP/1.1", *(f"{k}: {v}" for k, v in {**known, **headers}.items())]
        return self.raw("\r\n".join([*lines, "Connection: close", "", ""]).encode() + data)

    def raw(self, request: bytes) -> tuple[int, bytes]:
        said = b""
        with (
            socket.create_connection(("127.0.0.1", self.stack.port), 60) as sock,
            suppress(ConnectionError),
        ):
            sock.sendall(request)
            while piece := sock.recv(65_536):
                said += piece
                if b"text/event-stream" in said and b"\n: " in said:
                    break
        self.said.append((request[:40].decode(), said))
        return int(said[9:12] or 0), said

    def made(self, path: str, headers: dict[str, str], body: Any = None) -> Any:
        status, _, text = self.stack.call("POST", path, {} if body is None else body, headers)
        assert status < 300, text
        return json.loads(text)

    def everywhere(self, job_id: str, upload_id: str, **headers: str) -> None:
        asked = [
            (route.partition(" ")[0], path, body, accept)
            for route, path, body in requests(job_id, upload_id)
            for accept in (WAYS if route.startswith("GET") else WAYS[:1])
        ]
        with ThreadPoolExecutor(16) as threads:
            list(threads.map(lambda one: self.ask(*one[:3], Accept=one[3], **headers), asked))

    def came_out(self) -> list[tuple[str, bytes]]:
        """With what was logged and traced, and what other users of the machine see."""
        logs = [(name, self.stack.log(name).encode()) for name in ("web", "worker")]
        traces = [("traces", one.body) for one in self.receiver.received]
        commands = [(f"process {one.pid}", one.command.encode()) for one in processes.table().values()]
        return [*self.said, *logs, *traces, *commands]

    def silent(self, canaries: dict[str, str]) -> None:
        found = [
            (name, where)
            for where, text in self.came_out()
            for name, canary in canaries.items()
            if canary.encode() in text
        ]
        assert found == []


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Canaries]:
    directory = tmp_path_factory.mktemp("canaries")
    with (
        Receiver(answers={"/v1/traces": [answer(200, Connection="close")]}) as receiver,
        Stack(
            directory,
            **keys_and_jwts(directory),
            DRAIN_S="0",
            HEARTBEAT_S="0.2",
            OTEL_EXPORTER_OTLP_ENDPOINT=receiver.url(""),
            OTEL_BSP_SCHEDULE_DELAY="100",
        ) as stack,
    ):
        rules = (f">{PASSWORD}", "on", "~*", "&*", "+@all")
        stack.store.redis.execute_command("ACL", "SETUSER", "canary", *rules)  # type: ignore[no-untyped-call]
        stack.environ["REDIS_URL"] = f"redis://canary:{PASSWORD}@127.0.0.1:{stack.valkey_port}/0"
        stack.start_web()
        stack.start_worker()
        yield Canaries(stack, receiver)


def secret_of(headers: dict[str, str]) -> str:
    return headers["Authorization"].rpartition(" ")[2].rpartition("_")[2]


def key(there: Canaries, owner: str, *roles: str) -> dict[str, str]:
    return bearer(there.stack.store.access.create(owner, roles or ("read", "submit", "cancel"))[1])


def encoder_of(stack: Stack) -> int:
    """The ffmpeg that runs, and is no launcher any more; 0 if there is none."""
    work = f"{stack.directory}/work"
    encoders = (
        one.pid
        for one in processes.table().values()
        if "-progress" in one.command
        and "launcher.py" not in one.command
        and work in one.command + processes.directory_of(one.pid)
    )
    return next(encoders, 0)


def test_no_credential_comes_out_again_wherever_it_is_put(there: Canaries) -> None:
    ann = key(there, "ann")
    job = there.made("/jobs", ann, {"type": "simulate", "params": {"duration_s": 0}})["id"]
    there.stack.headers = ann
    there.stack.wait_ended(job)
    there.stack.headers = {}
    jwt = jwt_header("ann", ["read"])
    ticket = there.made("/tickets", ann, {"jobs": [job], "artifacts": True})["ticket"]
    cookie = there.stack.call("POST", "/session", b"", ann)[1]["set-cookie"].partition(";")[0]
    session = cookie.partition("=")[2]
    unknown = f"hw_abcdefgh_{'canary' * 8}"[:55]
    tokens = {
        "key": ann["Authorization"].partition(" ")[2],
        "jwt": jwt["Authorization"].partition(" ")[2],
        "ticket": ticket,
        "session": session,
        "unknown key": unknown,
        "forged ticket": f"{ticket[:-6]}canary",
    }
    name = cookie.partition("=")[0]
    for token in tokens.values():
        there.everywhere(job, "x" * 22, Authorization=f"Bearer {token}")
        there.ask("GET", "/jobs", Cookie=f"{name}={token}")
        there.ask("GET", "/jobs", Authorization=f"Basic {token}")
        there.ask("GET", "/jobs", Authorization=token)
        there.ask("GET", "/jobs", Authorization=f"Bearer {token}, Bearer {token}")
        for path in ("/jobs", f"/jobs/{job}", f"/jobs/{job}/events", "/events", f"/jobs/{job}/artifacts/x"):
            for accept in WAYS:
                there.ask("GET", f"{path}?ticket={token}", Accept=accept)
        there.ask("GET", f"/jobs?ticket={token}&ticket={token}")
        there.ask("POST", "/session", b"{", Authorization=f"Bearer {token}")
        # What never becomes a request is answered elsewhere.
        for line in (
            f"GET /jobs?ticket={token} HTTP/9.9",
            f"get /jobs?ticket={token} HTTP/1.1",
            f"GET /jobs?ticket={token} HTTP/1.1\r\nHost: a\r\nHost: b",
            f"GET /jobs HTTP/1.1\r\nHost: localhost\r\nAuthorization : Bearer {token}",
            f"GET /jobs?ticket={token}&x={'x' * 50_000} HTTP/1.1\r\nHost: localhost",
            f"GET /jobs HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}{'x' * 20_000}",
            f"GET http://elsewhere/jobs?ticket={token} HTTP/1.1\r\nHost: localhost",
        ):
            there.raw(line.encode() + b"\r\nConnection: close\r\n\r\n")
    ops = key(there, "ops", "ops")
    assert b"headway_requests_refused_total" in there.ask("GET", "/metrics", **ops)[1]
    # The tails: of a token that is cut, nothing may be seen either.
    there.silent({what: token[-16:] for what, token in tokens.items()})


def test_what_one_owner_puts_in_no_other_sees_nor_the_log_nor_the_machine(there: Canaries) -> None:
    ann, bob, ops = key(there, "ann"), key(there, "bob"), key(there, "ops", "ops")
    canaries = {
        what: f"canary-{what}-{os.urandom(4).hex()}"
        for what in ("name", "label", "message", "data", "idempotency", "hook", "expected")
    }
    film = there.stack.directory / "film.mp4"
    clip(film)
    upload = there.stack.call("PUT", f"/uploads/{canaries['name']}.mp4", film.read_bytes(), ann)
    upload_id = json.loads(upload[2])["id"]
    url = f"https://hooks.example/{canaries['hook']}"
    assert there.stack.call("PUT", "/webhooks/hers", {"url": url}, ann)[0] == 201
    body = {
        "type": "video.encode",
        "params": {"input": f"upload:{upload_id}", "preset": "av1", "width": 1280},
        "labels": {"of": canaries["label"]},
    }
    job = there.made("/jobs", {**ann, "Idempotency-Key": canaries["idempotency"]}, body)["id"]
    sent = {"name": "n", "data": {canaries["message"]: canaries["data"]}}
    there.made(f"/jobs/{job}/messages", ann, sent)
    hers = there.stack.call("GET", f"/jobs/{job}", headers=ann)[2]
    hers += there.stack.call("GET", f"/uploads/{upload_id}", headers=ann)[2]
    assert {what for what in canaries if canaries[what].encode() in hers} == {"name", "label"}
    encoder = until(
        lambda: encoder_of(there.stack),
        what=lambda: f"the encoder: {hers!r}" + there.stack.log("worker")[-2000:],
    )
    environment = Path(f"/proc/{encoder}/environ").read_bytes()
    there.said.append(("the encoder's environment", environment))
    assert b"TMPDIR=" in environment
    there.silent(canaries)
    assert encoder_of(there.stack) == encoder, "it was among the processes"
    for who in (bob, ops):
        there.everywhere(job, upload_id, **who)
        there.ask("POST", "/jobs", {**body, "unique": canaries["expected"]}, **who)
    there.silent(canaries)


def test_the_password_of_redis_is_seen_nowhere_also_while_it_cannot_be_reached(there: Canaries) -> None:
    ann = key(there, "ann")
    job = there.made("/jobs", ann, {"type": "simulate", "params": {"duration_s": 600}})["id"]
    there.everywhere(job, "x" * 22, **ann)
    there.stack.kill_valkey()
    try:
        there.everywhere(job, "x" * 22, **ann)
        assert there.ask("GET", "/readyz")[0] == 503
    finally:
        there.stack.start_valkey()
    # The user went with the server: now the password is refused.
    there.everywhere(job, "x" * 22, **ann)
    until(lambda: "invalid username-password" in there.stack.log("worker"), what="the worker to be refused")
    there.silent({"password": PASSWORD})
    assert any(text.startswith(b"HTTP/1.1 503 ") for _, text in there.said)


def clip(path: Path) -> None:
    source = "testsrc2=size=1280x720:rate=30:duration=60"
    made = (ffmpeg.locate("ffmpeg"), "-nostdin", "-loglevel", "error", "-f", "lavfi", "-i", source)
    subprocess.run([*made, "-c:v", "libx264", "-preset", "ultrafast", str(path)], check=True)

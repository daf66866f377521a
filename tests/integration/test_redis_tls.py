"""A store and a broker over TLS, by a real Redis that has it: which certificate is taken, what is said."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import kombu.pools
import pytest
import redis

from headway.contract.connections import connect
from headway.contract.settings import Settings, load
from service.scheduling.dispatch import Dispatch
from tests.support.checkout import ROOT
from tests.support.command import service
from tests.support.programs import missing, program
from tests.support.reverse_proxies import make_certificate
from tests.support.stack import free_port
from tests.support.wait import until

PASSWORD = "canary-s3cret"


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tls")


@pytest.fixture(scope="module")
def port(directory: Path) -> Iterator[int]:
    """Where a Redis with TLS and a password listens."""
    program("openssl")
    make_certificate(directory)
    port = free_port()
    options = {
        "port": "0",
        "tls-port": str(port),
        "bind": "127.0.0.1",
        "tls-cert-file": str(directory / "fullchain.pem"),
        "tls-key-file": str(directory / "privkey.pem"),
        "tls-auth-clients": "no",
        "requirepass": PASSWORD,
        "dir": str(directory),
        "save": "",
    }
    config = directory / "redis.conf"
    config.write_text("".join(f'{name} "{value}"\n' for name, value in options.items()))
    log = directory / "redis.log"
    with log.open("wb") as out:
        server = subprocess.Popen(
            [program("redis-server", "valkey-server"), str(config)], stdout=out, stderr=out
        )
    try:
        until(lambda: server.poll() is not None or b"Ready to accept" in log.read_bytes(), what="Redis")
        if server.poll() is not None:
            missing("a redis-server with TLS")
        yield port
    finally:
        server.terminate()
        server.wait()


def environ(port: int, host: str = "127.0.0.1", **more: str) -> dict[str, str]:
    return {"REDIS_URL": f"rediss://:{PASSWORD}@{host}:{port}/0", **more}


def store_answers(settings: Settings) -> bool:
    client = connect(settings.redis_url, tls=settings.tls, connections=1)
    try:
        return bool(client.ping())
    except redis.ConnectionError:
        return False
    finally:
        client.close()


def broker_answers(settings: Settings) -> bool:
    # kombu keeps connections by address, however they were verified.
    kombu.pools.reset()
    dispatch = Dispatch(settings)
    dispatch.send("0-job", "type", "nobody")
    return dispatch.flush()


def test_a_certificate_is_taken_only_from_a_known_authority_and_for_the_name(
    port: int, directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    authority = str(directory / "fullchain.pem")
    for given, trusted in [
        (environ(port, REDIS_CA_FILE=authority), True),
        (environ(port), False),
        (environ(port, "localhost", REDIS_CA_FILE=authority), False),
        (environ(port, REDIS_TLS_VERIFY="0"), True),
        (environ(port, "localhost", REDIS_TLS_VERIFY="0"), True),
    ]:
        settings = load(given)
        shown = {name: value for name, value in given.items() if name != "REDIS_URL"}
        assert (store_answers(settings), broker_answers(settings)) == (trusted, trusted), shown
    assert PASSWORD not in caplog.text


@pytest.mark.parametrize("command", [["service", "web"], ["worker"]])
@pytest.mark.parametrize(
    "url", ["rediss://:{password}@127.0.0.1:{port}/0", "redis://:{password}@127.0.0.1:{closed}/0"]
)
def test_a_server_that_is_not_trusted_or_not_there_is_one_line_without_the_password(
    port: int, tmp_path: Path, command: list[str], url: str
) -> None:
    address = url.format(password=PASSWORD, port=port, closed=free_port())
    ran = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=ROOT,
        env={**os.environ, "REDIS_URL": address, "DATA_DIR": str(tmp_path), "PORT": str(free_port())},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ran.returncode, ran.stderr.count("\n")) == (2, 1), ran.stderr
    assert PASSWORD not in ran.stdout + ran.stderr
    assert "127.0.0.1" in ran.stderr


def test_a_job_is_done_over_tls_and_nothing_that_is_written_has_the_password(
    port: int, directory: Path, tmp_path: Path
) -> None:
    data = tmp_path / "var"
    authority = str(directory / "fullchain.pem")
    with service("run", data=data, LOG_LEVEL="DEBUG", **environ(port, REDIS_CA_FILE=authority)) as run:
        run.wait_ready()
        body = json.dumps({"type": "simulate", "params": {"duration_s": 0.1}}).encode()
        request = urllib.request.Request(f"{run.url}/jobs", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request) as response:
            job_id = json.load(response)["id"]

        def ended() -> bool:
            with urllib.request.urlopen(f"{run.url}/jobs/{job_id}") as response:
                return bool(json.load(response)["state"] == "succeeded")

        until(ended, what="the job's success")
        for pid in run.processes():
            assert PASSWORD.encode() not in Path(f"/proc/{pid}/cmdline").read_bytes()
        run.process.terminate()
        run.wait(15)
        assert PASSWORD not in run.output
        for path in data.rglob("*"):
            assert not path.is_file() or PASSWORD.encode() not in path.read_bytes(), path

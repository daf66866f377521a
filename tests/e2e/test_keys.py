"""`headway keys` and `headway token`, as an operator and a user type them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import processes
from tests.support.checkout import ROOT
from tests.support.credentials import jwt_header, keys_and_jwts
from tests.support.fake_worker import create
from tests.support.stack import Stack
from tests.support.wait import until


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with Stack(tmp_path_factory.mktemp("keys"), AUTH="keys", DRAIN_S="0") as stack:
        stack.start_web()
        stack.headers = {}
        yield stack


def headway(web: Stack, *words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "headway", *words],
        cwd=ROOT,
        env={
            **os.environ,
            "REDIS_URL": web.valkey.url,
            "HEADWAY_URL": web.url,
            "HEADWAY_TOKEN": "",
            **environ,
        },
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_a_key_is_made_used_rotated_and_revoked(web: Stack) -> None:
    made = headway(web, "keys", "create", "--owner", "local", "--roles", "read, submit", "--expires", "90d")
    key = made.stdout.strip()
    assert (made.returncode, key[:3]) == (0, "hw_")
    assert "not shown again" in made.stderr
    key_id = key.split("_")[1]

    def listed(token: str) -> int:
        return headway(web, "list", HEADWAY_TOKEN=token).returncode

    assert listed(key) == 0
    assert headway(web, "list", "--token", key).returncode == 0
    refused = headway(web, "list")
    assert (refused.returncode, refused.stderr[:12]) == (2, "headway: 401")
    assert headway(web, "cancel", "0-" + "x" * 22, HEADWAY_TOKEN=key).stderr.startswith("headway: 403")

    listing = map(json.loads, headway(web, "keys", "list", "--json").stdout.splitlines())
    (shown,) = (one for one in listing if one["id"] == key_id)
    assert (shown["owner"], shown["roles"]) == ("local", ["read", "submit"])
    assert key.split("_", 2)[2] not in json.dumps(shown)
    assert key_id in headway(web, "keys", "list").stdout

    new = headway(web, "keys", "rotate", key_id, "--grace", "1h").stdout.strip()
    assert (listed(key), listed(new)) == (0, 0)
    assert headway(web, "keys", "revoke", key_id).returncode == 0
    assert (listed(key), listed(new)) == (2, 0)
    again = headway(web, "keys", "revoke", key_id)
    assert (again.returncode, again.stderr.count("\n")) == (2, 1)


@pytest.mark.parametrize(
    "words",
    [
        ["create", "--owner", "a b", "--roles", "read"],
        ["create", "--owner", "a", "--roles", "root"],
        ["create", "--owner", "a", "--roles", ","],
        ["create", "--owner", "a", "--roles", "read", "--expires", "soon"],
        ["create", "--owner", "a"],
        ["rotate", "nobody"],
        [],
    ],
)
def test_what_cannot_be_is_one_line_and_exit_2(web: Stack, words: list[str]) -> None:
    ran = headway(web, "keys", *words)
    assert ran.returncode == 2
    assert ran.stderr.count("\n") == 1
    assert not ran.stdout


def test_without_redis_url_it_finds_the_valkey_of_make_run(web: Stack) -> None:
    made = headway(web, "keys", "list", REDIS_URL="", DATA_DIR=str(web.directory))
    assert made.returncode == 0, made.stderr
    nothing = headway(web, "keys", "list", REDIS_URL="", DATA_DIR=str(web.directory / "nowhere"))
    assert (nothing.returncode, nothing.stderr.count("\n")) == (2, 1)
    away = headway(web, "keys", "list", REDIS_URL="redis://user:s3cret@127.0.0.1:1")
    assert away.returncode == 2
    assert "s3cret" not in away.stderr


def test_a_ticket_is_printed(web: Stack) -> None:
    job_id = create(web.store)
    token = headway(web, "keys", "create", "--owner", "local", "--roles", "read").stdout.strip()
    made = headway(web, "token", job_id, "--ttl", "60", HEADWAY_TOKEN=token)
    assert made.stdout.startswith("hwt1.")
    assert web.call("GET", f"/jobs/{job_id}?ticket={made.stdout.strip()}")[0] == 200
    whole = json.loads(headway(web, "token", "--json", HEADWAY_TOKEN=token).stdout)
    assert web.call("GET", f"/jobs?ticket={whole['ticket']}")[0] == 200


def test_a_new_secret_is_read_at_sighup_and_the_old_one_verifies_on(web: Stack) -> None:
    token = headway(web, "keys", "create", "--owner", "local", "--roles", "read").stdout.strip()
    bearer = {"Authorization": f"Bearer {token}"}

    def kid() -> tuple[str, str]:
        made = json.loads(web.call("POST", "/tickets", {"feed": True}, bearer)[2])["ticket"]
        return made, made.split(".")[1]

    old, old_kid = kid()
    file = Path(web.directory) / "secret"
    assert file.stat().st_mode & 0o777 == 0o600
    file.write_text("n" * 40 + "\n" + file.read_text())
    web.processes["web"].send_signal(signal.SIGHUP)

    def changed() -> bool:
        try:
            return kid()[1] != old_kid
        except (OSError, KeyError, ValueError):
            return False

    until(changed, what="the new secret to sign")
    assert web.call("GET", f"/jobs?ticket={old}")[0] == 200


def test_secrets_that_cannot_be_used_at_sighup_leave_those_that_were_read(web: Stack) -> None:
    token = headway(web, "keys", "create", "--owner", "local", "--roles", "read").stdout.strip()
    bearer = {"Authorization": f"Bearer {token}"}
    file = Path(web.directory) / "secret"
    good = file.read_text()
    made = json.loads(web.call("POST", "/tickets", {"feed": True}, bearer)[2])["ticket"]

    def workers() -> set[int]:
        return {found.pid for found in processes.descendants(web.pid("web"), processes.table())}

    for bad in (f"{good}short\n", "", None):
        before = workers()
        file.unlink()
        if bad is None:
            file.mkdir()
        else:
            file.write_text(bad)
        said = web.log("web").count("cannot be used")
        web.processes["web"].send_signal(signal.SIGHUP)
        until(lambda: workers() and not workers() & before, what="the new workers")  # noqa: B023
        until(lambda: web.get("/readyz")[0] == 200, what="the service to be ready")
        assert web.call("GET", f"/jobs?ticket={made}")[0] == 200
        assert web.call("POST", "/tickets", {"feed": True}, bearer)[0] == 201
        assert web.log("web").count("cannot be used") == said + 1
    assert "Traceback" not in web.log("web")
    file.rmdir()
    file.write_text(good)


def test_the_keys_of_jwts_are_read_at_sighup_and_stay_if_the_file_cannot_be_used(tmp_path: Path) -> None:
    settings = keys_and_jwts(tmp_path)
    file = Path(settings["JWT_KEY_FILE"])
    good = file.read_text()
    file.write_text("n" * 40)
    token = jwt_header("ann", ["read"])
    with Stack(tmp_path, DRAIN_S="0", **settings) as web:

        def answers() -> int:
            try:
                return int(web.call("GET", "/jobs", headers=token)[0])
            except OSError:  # between the old workers and the new ones
                return 0

        def workers() -> set[int]:
            return {found.pid for found in processes.descendants(web.pid("web"), processes.table())}

        web.start_web()
        assert answers() == 401
        file.write_text(good)
        web.processes["web"].send_signal(signal.SIGHUP)
        until(lambda: answers() == 200, what="the new key to verify")
        for bad in ("short", None):
            before = workers()
            file.unlink()
            if bad is not None:
                file.write_text(bad)
            web.processes["web"].send_signal(signal.SIGHUP)
            until(lambda: workers() and not workers() & before, what="the new workers")  # noqa: B023
            until(lambda: answers() == 200, what="the service to be ready")
        assert web.log("web").count("JWT_KEY_FILE") == 2
        assert "Traceback" not in web.log("web")
        assert "Warning" not in web.log("web")


@pytest.mark.parametrize("content", ["no key at all", None])
def test_a_service_whose_keys_cannot_be_used_does_not_start(
    web: Stack, tmp_path: Path, content: str | None
) -> None:
    settings = {**keys_and_jwts(tmp_path), "JWT_ALGORITHMS": "RS256"}
    if content is None:
        Path(settings["JWT_KEY_FILE"]).unlink()
    else:
        Path(settings["JWT_KEY_FILE"]).write_text(content)
    ran = subprocess.run(
        [sys.executable, "-m", "service", "web"],
        cwd=ROOT,
        env={**os.environ, **web.environ, **settings, "DATA_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ran.returncode, ran.stderr.count("\n")) == (2, 1), ran.stderr
    assert ran.stderr.startswith(f"headway: JWT_KEY_FILE {settings['JWT_KEY_FILE']} cannot be used")

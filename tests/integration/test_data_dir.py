"""DATA_DIR and the embedded Valkey, as another user of the machine finds them."""

from __future__ import annotations

import grp
import json
import os
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from headway.contract.data_dir import OURS, SHARED, protect
from headway.contract.settings import load, protect_data_dir_or_exit
from service.process import valkey
from tests.support.command import Command, service

NOBODY = 65534


def as_nobody(*paths: Path) -> set[Path]:
    """What another user can read or write, or as a socket connect to, at or below the paths."""
    if os.geteuid() != 0:
        pytest.skip("not root, so there is no other user to be")
    ran = subprocess.run(
        ["/usr/bin/find", *paths, "(", "-readable", "-o", "-writable", ")", "-print0"],
        user=NOBODY,
        group=NOBODY,
        extra_groups=[],
        capture_output=True,
        check=False,
        cwd="/",
    )
    return {Path(os.fsdecode(path)) for path in ran.stdout.split(b"\0") if path}


@pytest.fixture
def open_path() -> Iterator[Path]:
    """A directory that others can get to: pytest closes its own again and again."""
    with tempfile.TemporaryDirectory(prefix="headway-open-") as directory:
        Path(directory).chmod(0o755)
        yield Path(directory)


def test_another_user_reads_nothing_of_what_run_makes_and_cannot_reach_its_valkey(open_path: Path) -> None:
    data = open_path / "var"
    old = data / "uploads" / "one"
    old.mkdir(parents=True)
    (old / "data").write_text("of a version that did not look to it")
    seen = open_path / "seen"
    seen.write_text("this is what nobody can read")
    assert seen in as_nobody(open_path)
    with service("run", data=data) as run:
        run.wait_ready()
        upload = subprocess.run(
            ["curl", "-sf", "-T", seen, f"{run.url}/uploads/x"], capture_output=True, check=True
        )
        assert (data / "uploads" / json.loads(upload.stdout)["id"] / "data").is_file()
        assert as_nobody(data) == {data}  # which the test has made itself
        assert listening(run) == {("127.0.0.1", run.port)}
        ours = {path.name for path in data.iterdir()}
        assert ours >= {"uploads", "valkey", "run.lock"}
        assert ours <= OURS
        run.process.terminate()
        run.wait(15)
        run.nothing_left()


def listening(run: Command) -> set[tuple[str, int]]:
    """Where the processes of a run listen for TCP."""
    inodes = set()
    for pid in run.processes():
        for fd in Path(f"/proc/{pid}/fd").iterdir():
            try:
                link = str(fd.readlink())
            except OSError:
                continue
            if link.startswith("socket:["):
                inodes.add(link[8:-1])
    found = set()
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        words = line.split()
        if words[3] == "0A" and words[9] in inodes:
            address, port = words[1].split(":")
            found.add((socket.inet_ntoa(bytes.fromhex(address)[::-1]), int(port, 16)))
    return found


def test_the_valkey_of_a_long_path_listens_in_a_directory_of_its_own(tmp_path: Path) -> None:
    server = valkey.start(tmp_path / ("x" * 120))
    try:
        assert len(os.fsencode(server.socket)) <= valkey.MAX_SOCKET_PATH
        assert stat.S_IMODE(server.socket.parent.stat().st_mode) == 0o700
        assert stat.S_IMODE(server.socket.stat().st_mode) == 0o700
    finally:
        server.stop()
    assert not server.socket.parent.exists()


def test_the_valkey_of_a_path_with_odd_characters_can_be_reached(tmp_path: Path) -> None:
    data = tmp_path / "ein Pfad %20#?ä'\"\\\n$(x)"
    with service("run", data=data) as run:
        run.wait_ready()
        environ = {**os.environ, "DATA_DIR": str(data)}
        environ.pop("REDIS_URL", None)
        listed = subprocess.run(
            [sys.executable, "-m", "headway", "keys", "list"], env=environ, capture_output=True, check=False
        )
        assert listed.returncode == 0, listed.stderr


@pytest.mark.parametrize("name", [b"*[x]", b"not UTF-8: \xff", b' "quoted\\'])
def test_a_valkey_keeps_its_data_in_its_directory_whatever_its_name(tmp_path: Path, name: bytes) -> None:
    directory = tmp_path / os.fsdecode(name)
    server = valkey.start(directory)
    try:
        assert (directory / "appendonlydir").is_dir()
    finally:
        server.stop()


def test_without_a_group_what_is_made_is_for_this_user_only(tmp_path: Path) -> None:
    (tmp_path / "artifacts").mkdir(mode=0o755)
    before = os.umask(0o022)
    try:
        protect(tmp_path)
        (tmp_path / "work").mkdir()
        (tmp_path / "work" / "file").touch()
    finally:
        os.umask(before)
    for path in tmp_path.rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


def test_with_a_group_its_members_share_uploads_and_artifacts(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("not root, who may give files to any group")
    group = grp.getgrgid(NOBODY)
    before = os.umask(0o022)
    try:
        protect(tmp_path, group.gr_name)
        protect(tmp_path, str(group.gr_gid))
        for name in SHARED:
            (tmp_path / name / "inner").mkdir()
            (tmp_path / name / "inner" / "file").touch()
    finally:
        os.umask(before)
    for name in SHARED:
        for path, mode in (("", 0o2770), ("inner", 0o2770), ("inner/file", 0o660)):
            found = (tmp_path / name / path).stat()
            assert found.st_gid == NOBODY
            assert stat.S_IMODE(found.st_mode) == mode


def test_a_group_that_this_user_may_not_give_files_to_is_one_line_and_exit_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr("os.chown", refuse)
    settings = load({"REDIS_URL": "redis://h", "DATA_DIR": str(tmp_path), "DATA_GROUP": str(NOBODY)})
    before = os.umask(0o022)
    try:
        with pytest.raises(SystemExit) as exited:
            protect_data_dir_or_exit(settings)
    finally:
        os.umask(before)
    assert exited.value.code == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert f"DATA_GROUP {NOBODY}" in said

"""The sandbox, from inside: what a program that was taken over can still do."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from subprocess import PIPE

import pytest

from headway.sdk import launcher
from headway.sdk.output import Output
from headway.sdk.sandbox import Mode, Policy, Sandbox, launch, missing
from headway.sdk.stopping import Stop
from headway.sdk.subprocesses import Subprocesses
from tests.support.programs import missing as not_installed

PROBE = Path(__file__).parent.parent / "support" / "caged_probe.py"
PYTHON = Path(sys.executable).resolve()
LIBRARY = Path(sys.base_prefix)
MAY = {
    "write where it may": "done",
    "make a directory there": "done",
    "rename there": "done",
    "start a thread": "done",
    "list processes": "EACCES",
    "read the parent's environment": "EACCES",
    "read users": "EACCES",
    "read a file": "EACCES",
    "write a file": "EACCES",
    "remove a file": "EACCES",
    "make a file beside it": "EACCES",
    "rename a file": "EACCES",
    "link a file": "EXDEV",
    "link symbolically": "EACCES",
    "list a directory": "EACCES",
    "make a device": "EPERM",
    "make a fifo": "EPERM",
    "run a shell": "EACCES",
    "a call that is not there yet": "ENOSYS",
    "take more memory than it may": "ENOMEM",
    "a file larger than it may": "EFBIG",
}
"""What becomes of an attempt; EPERM for all that is not named."""


@pytest.fixture
def subprocesses() -> Subprocesses:
    if missing():
        not_installed("Landlock or seccomp in this kernel")
    return in_sandbox("require")


def in_sandbox(mode: Mode) -> Subprocesses:
    stop = Stop()
    return Subprocesses(stop, Output(Path("/nowhere"), None, stop), Policy(mode))


def run(subprocesses: Subprocesses, box: Sandbox | None, *args: str | Path) -> tuple[int, str, str]:
    with subprocesses.run(args, stdout=PIPE, stderr=PIPE, sandbox=box) as process:
        out, err = process.communicate(timeout=60)
    return process.returncode, out.decode(), err.decode()


def test_a_program_in_a_sandbox_does_what_it_may_and_nothing_else(
    subprocesses: Subprocesses, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDIS_URL", "redis://:s3cret@127.0.0.1/0")
    work, elsewhere = tmp_path / "work", tmp_path / "elsewhere"
    for directory in (work, elsewhere):
        directory.mkdir()
    secret = elsewhere / "secret"
    secret.write_text("s3cret")
    before = secret.stat()
    box = Sandbox(read=[PROBE, LIBRARY], write=[work], memory_bytes=512 << 20, file_bytes=1 << 20)
    status, out, err = run(subprocesses, box, PYTHON, "-I", "-S", PROBE, work, secret)
    assert (status, err) == (0, "")
    results = json.loads(out)
    assert set(results.pop("environment")) == {"HOME", "LC_ALL", "MALLOC_ARENA_MAX", "PATH", "TMPDIR"}
    assert results == {name: MAY.get(name, "EPERM") for name in results}
    assert set(MAY) <= set(results)
    assert secret.read_text() == "s3cret"
    assert secret.stat().st_mode == before.st_mode
    assert [path.name for path in elsewhere.iterdir()] == ["secret"]


def test_a_program_may_start_others_only_if_it_is_told_so(
    subprocesses: Subprocesses, tmp_path: Path
) -> None:
    script = tmp_path / "script"
    script.write_text("#!/bin/sh\necho one\n/bin/true || exit 3\nexec /bin/echo two\n")
    script.chmod(0o700)
    programs = [Path("/bin/true"), Path("/bin/echo")]
    assert run(subprocesses, Sandbox(run=programs, processes=True), script)[:2] == (0, "one\ntwo\n")
    status, out, err = run(subprocesses, Sandbox(run=programs), script)
    assert (status, out) == (2, "one\n")
    assert "fork" in err
    assert run(subprocesses, Sandbox(run=programs[:1], processes=True), script)[:2] == (126, "one\n")


def test_a_program_that_writes_past_its_limit_ends_by_the_signal_for_it(
    subprocesses: Subprocesses, tmp_path: Path
) -> None:
    box = Sandbox(write=[tmp_path], file_bytes=4096)
    status, _, _ = run(
        subprocesses, box, "/bin/dd", "if=/dev/urandom", f"of={tmp_path}/out", "bs=8192", "count=1"
    )
    assert status in (-signal.SIGXFSZ, 1)
    assert (tmp_path / "out").stat().st_size <= 4096


def test_a_program_that_computes_past_its_limit_is_killed(subprocesses: Subprocesses) -> None:
    status, _, _ = run(
        subprocesses, Sandbox(read=[LIBRARY], cpu_s=1), PYTHON, "-I", "-S", "-c", "while True: pass"
    )
    assert status in (-signal.SIGXCPU, -signal.SIGKILL)


@pytest.mark.parametrize("mode", ["auto", "require", "off"])
def test_without_landlock_a_program_runs_only_if_that_is_accepted(
    mode: Mode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A machine that the filter has no numbers for.
    old = tmp_path / "launcher.py"
    old.write_text(
        Path(launcher.__file__).read_text().replace('"x86_64"', '"m68k"').replace('"aarch64"', '"vax"')
    )
    monkeypatch.setattr("headway.sdk.sandbox.LAUNCHER", str(old))
    assert missing() == ["seccomp"]
    status, out, err = run(in_sandbox(mode), Sandbox(), "/bin/echo", "hello")
    if mode == "require":
        assert (status, out) == (126, "")
        assert err == "/bin/echo: not started, as the kernel has no seccomp\n"
    else:
        assert (status, out, err) == (0, "hello\n", "")


def test_with_sandbox_off_a_program_has_the_rights_and_the_environment_of_the_worker(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SOMETHING", "here")
    assert run(in_sandbox("off"), Sandbox(), "/bin/sh", "-c", "echo $SOMETHING; /bin/true")[:2] == (
        0,
        "here\n",
    )


def test_root_keeps_no_capability_but_the_one_for_file_modes(subprocesses: Subprocesses) -> None:
    if os.geteuid() != 0:
        pytest.skip("not root")
    status, out, _ = run(subprocesses, Sandbox(read=[Path("/proc")]), "/bin/cat", "/proc/self/status")
    assert status == 0
    found = dict(
        line.split(":\t", 1) for line in out.splitlines() if line.startswith(("Cap", "NoNew", "Sec"))
    )
    for name in ("CapPrm", "CapEff", "CapBnd"):
        assert int(found[name], 16) == 1 << launcher.CAP_DAC_OVERRIDE
    assert (found["NoNewPrivs"], found["Seccomp"]) == ("1", "2")


@pytest.mark.parametrize(
    ("machine", "header"),
    [
        ("x86_64", "/usr/include/x86_64-linux-gnu/asm/unistd_64.h"),
        ("aarch64", "/usr/include/asm-generic/unistd.h"),
    ],
)
def test_the_numbers_of_the_denied_calls_are_those_of_the_kernel(machine: str, header: str) -> None:
    if not Path(header).exists():
        not_installed(header)
    numbers = {}
    for line in Path(header).read_text().splitlines():
        words = line.split()
        if len(words) == 3 and words[1].startswith("__NR") and words[2].isdigit():
            numbers[words[1].removeprefix("__NR3264_").removeprefix("__NR_")] = int(words[2])
    column = launcher.MACHINES[machine][0]
    # Headers may be older than a call.
    for name, known in (launcher.DENIED | launcher.FORKS | launcher.KILLS).items():
        assert known[column] is None or numbers.get(name, known[column]) == known[column], name
    assert numbers["prlimit64"] == launcher.PRLIMIT[column]
    assert numbers["clone"] == launcher.CLONE[column]
    assert numbers["clone3"] == launcher.CLONE3
    assert numbers["seccomp"] == launcher.MACHINES[machine][2]


def test_a_filter_is_short_enough_for_the_kernel_and_jumps_stay_in_it() -> None:
    for machine in launcher.MACHINES:
        program = launcher.seccomp_filter(machine, 1, processes=False)
        assert len(program) < 4096
        for at, (code, true, false, _) in enumerate(program):
            assert code != launcher.RETURN or (true, false) == (0, 0)
            assert at + 1 + max(true, false) < len(program) + (code == launcher.RETURN)


def test_the_launcher_starts_nothing_for_a_parent_that_has_gone() -> None:
    ran = subprocess.run(launch(["/bin/echo", "hello"], {"parent": 1}), capture_output=True, check=False)
    assert (ran.returncode, ran.stdout) == (1, b"")

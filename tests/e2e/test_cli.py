"""`python -m service …` as somebody types it, against the real service."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.command import service
from tests.stack import ROOT, Stack, until
from tests.work import claim, create, log, progress, run_jobs, stored


def cli(stack: Stack, *words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "service", *words],
        cwd=ROOT,
        env={**os.environ, "HEADWAY_URL": stack.url, **environ},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_watching_through_a_server_killed_twice_gives_exactly_the_stores_events(
    own_stack: Stack, tmp_path: Path
) -> None:
    own_stack.start_web()
    job_id = create(own_stack.store)
    with service(
        "watch", job_id, "--after", "0", "--json", data=tmp_path / "d", HEADWAY_URL=own_stack.url
    ) as run:
        until(lambda: run.output)
        work = run_jobs(own_stack.store, [job_id], 30, 0.2)
        for count in (4, 12):
            until(lambda count=count: len(stored(own_stack.store, job_id)) > count)
            own_stack.restart_web()
        work.join()
        assert run.wait(60) == 0
        got = [json.loads(line) for line in run.output.splitlines()]
    assert [(event["id"], event["event"]) for event in got] == stored(own_stack.store, job_id)


@pytest.mark.parametrize(("params", "status"), [([], 0), (["fail_at=0.1"], 1)])
def test_the_exit_status_is_the_outcome(stack: Stack, params: list[str], status: int) -> None:
    made = cli(stack, "submit", "simulate", "--watch", "duration_s=0.2", *params)
    assert (made.returncode, made.stderr) == (status, ""), made.stdout


def test_a_canceled_job_is_3_and_ctrl_c_says_how_to_come_back(stack: Stack, tmp_path: Path) -> None:
    job_id = cli(stack, "submit", "simulate", "duration_s=60").stdout.strip()
    with service("watch", job_id, data=tmp_path / "d", HEADWAY_URL=stack.url) as run:
        until(lambda: "running" in run.output)
        run.process.send_signal(signal.SIGINT)
        assert run.wait(10) == 130
        assert f"python -m service watch {job_id} --after " in run.output
        assert "Traceback" not in run.output
    assert cli(stack, "cancel", job_id).returncode == 0
    assert cli(stack, "watch", job_id).returncode == 3


def test_what_cannot_be_done_is_a_line_and_exit_2(stack: Stack) -> None:
    for words in (["watch", "nope"], ["watch", "x", "--url", "http://127.0.0.1:9"], ["logs", "nope"]):
        ran = cli(stack, *words)
        assert (ran.returncode, ran.stdout, ran.stderr.count("\n")) == (2, "", 1), ran.stderr
    ran = cli(stack, "submit", "simulate", "duration_s=-1", "x=1")
    assert ran.returncode == 2
    assert "/params/duration_s: -1 is less than" in ran.stderr


def test_a_reader_that_has_enough_is_no_error(stack: Stack) -> None:
    job_id = cli(stack, "submit", "simulate", "duration_s=0.2", "--watch", "--json").stdout
    job_id = json.loads(job_id.splitlines()[-1])["data"]["id"]
    command = f"{sys.executable} -m service watch {job_id} --after 0 --json | head -1"
    ran = subprocess.run(
        ["bash", "-c", command],
        cwd=ROOT,
        env={**os.environ, "HEADWAY_URL": stack.url},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert (ran.stdout.count("\n"), ran.stderr) == (1, "")


def test_hostile_texts_do_nothing_to_a_terminal(own_stack: Stack) -> None:
    own_stack.start_web()
    job_id = create(own_stack.store, type="[red]\x1b]0;owned\x07\u202e\n", group="g")
    held = claim(own_stack.store, job_id)
    own_stack.store.append(held, 1, [progress(1), log(1)])
    own_stack.store.cancel(job_id)
    near, far = pty.openpty()
    run = subprocess.Popen(
        [sys.executable, "-m", "service", "watch", job_id],
        cwd=ROOT,
        env={**os.environ, "HEADWAY_URL": own_stack.url, "TERM": "xterm-256color", "COLUMNS": "120"},
        stdin=subprocess.DEVNULL,
        stdout=far,
        stderr=far,
    )
    os.close(far)
    drawn = b""
    while b"[red]" not in drawn:
        drawn += os.read(near, 65536)
    run.send_signal(signal.SIGINT)
    # Read on, or it waits for room in the terminal; EIO when it has gone.
    with contextlib.suppress(OSError):
        while chunk := os.read(near, 65536):
            drawn += chunk
    run.wait(30)
    os.close(near)
    assert rb"[red]\x1b]0;owned\x07" in drawn
    assert b"\x1b]" not in drawn
    assert b"\x07" not in drawn


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_there_is_a_script_for_each_shell(stack: Stack, shell: str) -> None:
    ran = cli(stack, "completion", shell)
    assert ran.returncode == 0
    assert "_ARGCOMPLETE" in ran.stdout

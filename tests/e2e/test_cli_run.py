"""`headway run`: any command as a job."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from headway.cli.run import MAX_LINES
from tests.support.checkout import ROOT
from tests.support.stack import Stack
from tests.support.wait import until


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A service without any worker."""
    with Stack(tmp_path_factory.mktemp("run"), DRAIN_S="0", HEARTBEAT_S="1") as stack:
        stack.start_web()
        yield stack


def start(url: str, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "headway", "run", *words],
        cwd=ROOT,
        env={**os.environ, "HEADWAY_URL": url},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def done(url: str, *words: str) -> tuple[int, str, str]:
    """Exit status, stdout, stderr."""
    process = start(url, *words)
    out, errors = process.communicate(timeout=60)
    return process.returncode, out, errors


def newest(web: Stack, **query: str) -> dict[str, Any]:
    where = "&".join(f"{name}={value}" for name, value in query.items())
    return dict(web.get(f"/jobs?{where}")[1]["items"][0])


def events(web: Stack, job: dict[str, Any], kind: str) -> list[Any]:
    page = web.get(f"/jobs/{job['id']}/events", headers={"Accept": "application/json"})[1]
    return [event["data"] for event in page["events"] if event["event"] == kind]


def test_output_is_passed_on_and_logged_and_progress_moves_the_bar(web: Stack) -> None:
    script = "echo begun; echo PROGRESS 3/10 third; sleep 1; echo oops >&2; echo done"
    status, out, errors = done(
        web.url, "--group", "nightly", "--label", "host=db1", "--", "sh", "-c", script
    )
    assert (status, out, errors) == (0, "begun\nPROGRESS 3/10 third\ndone\n", "oops\n")
    job = newest(web, group="nightly")
    assert (job["type"], job["state"], job["result"]) == ("command", "succeeded", {"exit_status": 0})
    assert job["params"] == {"command": ["sh", "-c", script]}
    assert job["labels"] == {"host": "db1"}
    assert {(log["level"], log["message"]) for log in events(web, job, "log")} == {
        ("info", "begun"),
        ("warning", "oops"),
        ("info", "done"),
    }
    (told,) = events(web, job, "progress")
    assert (told["fraction"], told["total"], told["message"]) == (0.3, 10, "third")


def test_an_expression_finds_progress_also_where_lines_are_redrawn(web: Stack) -> None:
    script = r"printf '  5%%\r'; sleep 0.8; printf ' 50%%\r'; sleep 0.8; printf '100%%\n'"
    assert done(web.url, "--type", "rsync", "--progress", r"(\d+)%", "--", "sh", "-c", script)[0] == 0
    job = newest(web, type="rsync")
    seen = [told["fraction"] for told in events(web, job, "progress")]
    assert seen == sorted(seen)
    assert {0.05, 0.5} & set(seen)
    assert seen[-1] < 1
    assert job["progress"]["fraction"] == 1


def test_a_command_that_fails_fails_the_job_in_its_own_words(web: Stack) -> None:
    assert done(web.url, "--type", "bad", "--", "sh", "-c", "echo no such table >&2; exit 3")[0] == 3
    job = newest(web, type="bad")
    assert (job["state"], job["error"]["message"]) == ("failed", "sh ended with status 3: no such table")


def test_long_lines_cost_the_job_nothing_but_their_ends(web: Stack) -> None:
    script = f"print(*['x' * 20_000] * {MAX_LINES}, sep='\\n')"
    status, _, errors = done(web.url, "--type", "talks", "--", sys.executable, "-c", script)
    assert (status, errors) == (0, "")
    job = newest(web, type="talks")
    assert job["state"] == "succeeded"
    *kept, left_out = (event["message"] for event in events(web, job, "log"))
    assert {line[:8_000] for line in kept} == {"x" * 8_000}
    assert left_out.endswith("lines left out: more than can be kept")


def test_a_signal_without_a_name_ends_the_job_too(web: Stack) -> None:
    status, _, errors = done(web.url, "--type", "real-time", "--", "sh", "-c", "kill -40 $$")
    assert (status, errors) == (128 + 40, "")
    assert newest(web, type="real-time")["error"]["message"] == "sh was ended by signal 40"


def test_a_command_whose_reader_goes_is_ended_as_without_headway(web: Stack) -> None:
    process = start(web.url, "--type", "piped", "--", "yes")
    assert process.stdout is not None
    assert process.stdout.readline() == "y\n"
    process.stdout.close()
    assert process.wait(30) == 128 + signal.SIGPIPE
    assert process.stderr is not None
    with process.stderr as errors:
        assert errors.read() == ""
    assert newest(web, type="piped")["error"]["message"] == "yes was ended by SIGPIPE"


def test_a_command_that_does_not_exist_is_127(web: Stack) -> None:
    status, _, errors = done(web.url, "--type", "none", "--", "/no/such/program")
    assert status == 127
    assert errors == "headway: /no/such/program cannot be started: No such file or directory\n"
    assert newest(web, type="none")["state"] == "failed"


def test_a_command_that_may_not_be_executed_is_126(web: Stack, tmp_path: Path) -> None:
    (tmp_path / "program").write_text("#!/bin/sh\n")
    status, _, errors = done(web.url, "--", str(tmp_path / "program"))
    assert (status, errors.count("cannot be started: Permission denied")) == (126, 1)
    (tmp_path / "program").write_bytes(b"\x00")
    (tmp_path / "program").chmod(0o755)
    assert done(web.url, "--", str(tmp_path / "program"))[0] == 126


def test_an_address_that_is_none_is_a_mistake_before_anything_runs(tmp_path: Path) -> None:
    status, _, errors = done("notaurl", "--", "touch", f"{tmp_path}/done")
    assert (status, errors.count("\n"), (tmp_path / "done").exists()) == (2, 1, False)


def test_without_a_headway_the_command_runs_all_the_same(tmp_path: Path) -> None:
    status, out, errors = done(
        "http://127.0.0.1:1", "--", "sh", "-c", f"touch {tmp_path}/done; echo out; exit 4"
    )
    assert (status, out) == (4, "out\n")
    assert errors.startswith("headway: there is no job, and the command runs all the same: ")
    assert errors.count("\n") == 1
    assert (tmp_path / "done").exists()


def test_a_canceled_job_ends_its_command(web: Stack) -> None:
    process = start(web.url, "--type", "long", "--lease", "3", "--", "sleep", "60")
    job = until(lambda: web.get("/jobs?type=long")[1]["items"], what="the job")[0]
    web.call("POST", f"/jobs/{job['id']}/cancel")
    assert process.wait(30) == 128 + signal.SIGTERM
    assert web.wait_ended(job["id"])["state"] == "canceled"
    process.communicate()


def test_a_job_whose_command_was_killed_with_headway_run_does_not_claim_to_run(web: Stack) -> None:
    process = start(web.url, "--type", "killed", "--lease", "1", "--", "sleep", "5")
    job = until(lambda: web.get("/jobs?type=killed")[1]["items"], what="the job")[0]
    process.kill()
    process.communicate()
    ended = web.wait_ended(job["id"])
    assert (ended["state"], ended["error"]["code"]) == ("failed", "worker_lost")


def test_a_term_goes_to_the_command(web: Stack) -> None:
    # The sleep outlives it, and holds its output open.
    script = "trap 'exit 9' TERM; echo ready; sleep 20 & wait"
    process = start(web.url, "--type", "termed", "--", "sh", "-c", script)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.terminate()
    assert process.wait(30) == 9
    process.communicate()
    assert newest(web, type="termed")["error"]["message"] == "sh ended with status 9"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "there is no command"),
        (("--",), "give one command"),
        (("sh", "--", "sh"), "give one command"),
        (("sh", "-c", "true"), "unrecognized arguments: -c"),
        (("--progress", "(", "--", "true"), "not a regular expression"),
    ],
)
def test_a_wrong_use_is_one_line_and_2(words: tuple[str, ...], said: str) -> None:
    status, out, errors = done("http://127.0.0.1:1", *words)
    assert (status, out, errors.count("\n")) == (2, "", 1)
    assert said in errors

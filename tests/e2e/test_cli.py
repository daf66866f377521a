"""`headway …` as somebody types it, against the real service."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from headway.contract.messages import message_body
from headway.contract.states import ErrorCode, State
from headway.contract.store import Report
from tests.support.checkout import ROOT
from tests.support.fake_worker import claim, create, log, progress, run_jobs, stored
from tests.support.faulty_proxy import FaultyProxy, unavailable
from tests.support.stack import Stack
from tests.support.terminal import Terminal
from tests.support.wait import until
from worker.media import ffmpeg

HEADWAY = (sys.executable, "-m", "headway")


def environment(stack: Stack) -> dict[str, str]:
    return {**os.environ, "HEADWAY_URL": stack.url}


def cli(stack: Stack, *words: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*HEADWAY, *words],
        cwd=cwd,
        env={**environment(stack), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )


def shell(stack: Stack, command: str) -> subprocess.CompletedProcess[str]:
    """`headway` stands for the command."""
    return subprocess.run(
        ["bash", "-c", f'headway() {{ {shlex.join(HEADWAY)} "$@"; }}; {command}'],
        cwd=ROOT,
        env=environment(stack),
        capture_output=True,
        text=True,
        timeout=60,
    )


class Piped:
    """A command that runs on, whose output goes to pipes."""

    def __init__(self, stack: Stack, *words: str) -> None:
        self.out: list[str] = []
        self.process = subprocess.Popen(
            [*HEADWAY, *words],
            cwd=ROOT,
            env=environment(stack),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            # A shell without job control ignores SIGINT for what it puts in the background.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        self.out.extend(iter(self.process.stdout.readline, ""))

    def __enter__(self) -> Piped:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        self._reader.join()
        for pipe in (self.process.stdout, self.process.stderr):
            assert pipe is not None
            pipe.close()

    def ends(self) -> tuple[int, str]:
        """Its exit status, and what it said on stderr."""
        self._reader.join(60)
        assert not self._reader.is_alive(), "".join(self.out[-10:])
        assert self.process.stderr is not None
        said = self.process.stderr.read()
        return self.process.wait(30), said


# -- what a watch gives ---------------------------------------------------------------------------------


@pytest.mark.long
def test_watching_through_a_server_killed_four_times_gives_exactly_the_stores_events(
    own_stack: Stack,
) -> None:
    own_stack.start_web()
    job_id = create(own_stack.store)
    hold = threading.Event()
    with Piped(own_stack, "watch", job_id, "--after", "0", "--json") as run:
        until(lambda: run.out)
        work = run_jobs(own_stack.store, [job_id], 40, 0.1, hold)
        for kills in range(1, 5):
            # Under load, and not only while nothing happens.
            until(lambda kills=kills: len(stored(own_stack.store, job_id)) > 8 * kills)
            own_stack.restart_web()
        hold.set()
        work.join()
        status, said = run.ends()
        got = [json.loads(line) for line in run.out]
    assert [(event["id"], event["event"]) for event in got] == stored(own_stack.store, job_id)
    assert status == 0
    # Who is back before anybody was missed has nothing to say.
    assert said.count("\n") == said.count("reconnecting\n") <= 4


def test_a_503_and_a_trimmed_history_are_said_and_watched_through(lasting: Stack) -> None:
    job_id = create(lasting.store)
    held = claim(lasting.store, job_id)
    with FaultyProxy(lasting.port) as door, Piped(lasting, "watch", job_id, "--url", door.url) as run:
        until(lambda: run.out)
        door.refuse(unavailable(1))
        door.cut()
        for n in range(1, 100):
            lasting.store.append(held, n, [log(n)])
        seen = len(door.opened)
        until(lambda: len(door.opened) > seen)
        lasting.store.end(held, State.SUCCEEDED)
        door.refuse(None)
        status, said = run.ends()
    assert status == 0
    assert f"{job_id}  events were missed; this is the state now (cursor_trimmed)\n" in run.out
    assert run.out[-1] == f"{job_id}  t  succeeded\n"
    assert said.endswith("; reconnecting\n")
    assert said.count("\n") == 1


def test_a_watch_gives_up_when_it_was_told_to(own_stack: Stack) -> None:
    own_stack.start_web()
    job_id = create(own_stack.store)
    with Piped(own_stack, "watch", job_id, "--give-up", "0.5") as run:
        until(lambda: run.out)
        own_stack.stop("web", signal.SIGKILL)
        status, said = run.ends()
    assert status == 2
    assert re.search(r"(?m)^headway: gave up after \d+ s: http://127.0.0.1:\d+ ", said)


@pytest.mark.parametrize(
    ("params", "status"),
    [(["duration_s=0.2"], 0), (["duration_s=0.2", "fail_at=0", "--max-attempts", "1"], 1)],
)
def test_the_exit_status_is_the_outcome_and_no_line_is_said_twice(
    stack: Stack, params: list[str], status: int
) -> None:
    made = cli(stack, "submit", "simulate", "--watch", *params)
    lines = made.stdout.splitlines()
    assert (made.returncode, made.stderr) == (status, ""), made.stdout
    assert all(a != b for a, b in itertools.pairwise(lines)), made.stdout
    assert len([line for line in lines if "succeeded" in line or "failed" in line]) == 1
    job_id = lines[0].split()[0]
    again = cli(stack, "watch", job_id)
    assert (again.returncode, again.stdout.splitlines()) == (status, lines[-1:])


def test_a_job_that_is_tried_again_says_why(lasting: Stack) -> None:
    store = lasting.store
    job_id = create(store, max_attempts=3)
    with Piped(lasting, "watch", job_id) as run:
        until(lambda: run.out)
        store.retry(claim(store, job_id), delay_s=0, reason="E: it broke")
        until(lambda: "retrying" in run.out[-1])
        store.end(claim(store, job_id), State.SUCCEEDED)
        assert run.ends() == (0, "")
    states = [line.removeprefix(f"{job_id}  t  ").rstrip() for line in run.out]
    assert states[1:] == [
        "running",
        "retrying (after attempt 1 of 3): E: it broke",
        "running (attempt 2 of 3)",
        "succeeded",
    ]


def test_messages_are_sent_once_a_key_and_shown(lasting: Stack) -> None:
    job_id = create(lasting.store)
    held = claim(lasting.store, job_id)
    with Piped(lasting, "watch", job_id) as run:
        until(lambda: run.out)
        lasting.store.append(held, 1, [Report("message", message_body("task", "question", "how\nmany?"))])
        sent = [cli(lasting, "send", job_id, "answer", '{"n": 2}', "--key", "k") for _ in range(2)]
        assert sent[0].stdout == sent[1].stdout != ""
        told = json.loads(cli(lasting, "send", "--json", job_id, "answer", "two").stdout)
        lasting.store.end(held, State.SUCCEEDED)
        assert run.ends() == (0, "")
    assert (told["from"], told["data"]) == ("client", "two")
    said = [line.rstrip().removeprefix(f"{job_id}  ") for line in run.out]
    assert [line for line in said if line[0] in "›‹"] == [
        r"› question: how\nmany?", '‹ answer: {"n": 2}', "‹ answer: two",
    ]  # fmt: skip
    late = cli(lasting, "send", job_id, "answer")
    assert (late.returncode, late.stderr) == (
        2, "headway: 409 the job has ended, and nothing would read the message\n",
    )  # fmt: skip


def test_a_group_is_told_its_size_watched_to_its_end_and_retried(lasting: Stack) -> None:
    name = f"group {os.getpid()}/x"
    assert cli(lasting, "group", name).returncode == 2
    made = cli(lasting, "group", name, "--expected", "2")
    assert made.stdout == f"{name}  queued  0 %  0 of 2 ended\n"
    assert cli(lasting, "group", name, "--title", "Both").stdout.startswith(f"{name} (Both)  queued  0 %")
    jobs = [create(lasting.store, group=name) for _ in range(2)]
    with Piped(lasting, "watch", "--group", name) as run:
        until(lambda: run.out)
        lasting.store.end(claim(lasting.store, jobs[0]), State.SUCCEEDED)
        lasting.store.end(claim(lasting.store, jobs[1]), State.FAILED, error=(ErrorCode.ERROR, "x"))
        assert run.ends() == (1, "")
    assert run.out[-1].rstrip() == f"{name} (Both)  ended  100 %  2 of 2 ended  1 succeeded, 1 failed"
    assert cli(lasting, "watch", "--group", name).returncode == 1, "it had ended before"
    again = json.loads(cli(lasting, "group", name, "--retry", "--json").stdout)
    assert (again["state"], again["counts"]["failed"]) == ("running", 0)
    ended = json.loads(cli(lasting, "group", name, "--cancel", "--json").stdout)
    assert (ended["state"], ended["counts"]["canceled"]) == ("ended", 1)
    assert cli(lasting, "group", name, "--cancel", "--retry").returncode == 2


def test_who_comes_while_a_job_waits_is_told_why_it_waits(lasting: Stack) -> None:
    queued, retrying = create(lasting.store), create(lasting.store, max_attempts=3)
    lasting.store.retry(claim(lasting.store, retrying), delay_s=60, reason="E: it broke")
    with Piped(lasting, "watch", queued, retrying) as run:
        until(lambda: len(run.out) == 2)
    assert f"{queued}  t  queued: no living worker serves t\n" in run.out
    expected = f"{retrying}  t  retrying (after attempt 1 of 3): E: it broke; no living worker serves t\n"
    assert expected in run.out


# -- in a terminal --------------------------------------------------------------------------------------


@pytest.fixture
def live(lasting: Stack) -> tuple[str, list[Any]]:
    """Jobs of a group that run, one that waits and one that is tried again."""
    store = lasting.store
    group = f"g{time.time_ns()}"
    ids = [create(store, type="video.encode", group=group, max_attempts=3) for _ in range(4)]
    held = [claim(store, job_id) for job_id in ids[:3]]
    for c in held:
        store.append(c, 1, [progress(1)])
    store.retry(held[2], delay_s=60, reason="E: it broke")
    return group, held


@pytest.mark.parametrize("columns", [120, 60, 40])
def test_bars_keep_each_id_whole_and_on_one_row_whatever_is_typed(
    lasting: Stack, live: tuple[str, list[Any]], columns: int
) -> None:
    (group, held), store = live, lasting.store
    ids = [job["id"] for job in lasting.get(f"/jobs?group={group}")[1]["items"]]
    with Terminal(
        *HEADWAY, "watch", "--group", group, columns=columns, HEADWAY_URL=lasting.url
    ) as terminal:
        terminal.until(lambda text: all(job_id in text for job_id in ids))
        assert not terminal.echoes
        store.end(held[0], State.SUCCEEDED)
        terminal.until(lambda text: "succeeded" in text.replace("\n", ""))
        terminal.type("typed\r\r")
        store.append(held[1], 2, [progress(2), log(1)])
        terminal.type("\x03")
        assert terminal.wait() == 130
        text = terminal.text
        assert terminal.echoes
        assert not terminal.screen.cursor.hidden
    assert [text.count(job_id) for job_id in ids] == [1, 1, 1, 1], text
    assert "typed" not in text
    assert "^C" not in text
    assert f"headway watch --group {group} --after " in text.replace("\n", "")
    rows = [line for line in text.splitlines() if ids[0] in line]
    assert rows[0].startswith(ids[0])
    assert ("━" in rows[0]) == (columns >= 60)
    assert ("video.encode" in rows[0]) == (columns == 120)


def test_bars_say_that_they_are_old_and_end_with_the_last_job(own_stack: Stack) -> None:
    own_stack.start_web()
    ids = [create(own_stack.store) for _ in range(2)]
    held = [claim(own_stack.store, job_id) for job_id in ids]
    with Terminal(*HEADWAY, "watch", ids[0], "--url", own_stack.url, ids[1]) as terminal:
        terminal.until(lambda text: text.count("running") == 2)
        own_stack.stop("web", signal.SIGKILL)
        terminal.until(lambda text: "reconnecting; last heard from 0:" in text)
        own_stack.store.end(held[0], State.SUCCEEDED)
        own_stack.store.end(held[1], State.FAILED, error=(ErrorCode.ERROR, "E: no"))
        own_stack.start_web()
        assert terminal.wait() == 1
    assert sorted(terminal.text.splitlines()) == sorted(
        [f"{ids[0]}  t  succeeded", f"{ids[1]}  t  failed: E: no"]
    )


def test_a_terminal_is_left_as_it_was_by_a_sigterm(lasting: Stack, live: tuple[str, list[Any]]) -> None:
    with Terminal(*HEADWAY, "watch", "--group", live[0], HEADWAY_URL=lasting.url) as terminal:
        terminal.until(lambda text: "retrying" in text)
        assert terminal.screen.cursor.hidden
        terminal.process.terminate()
        assert terminal.wait() == 128 + signal.SIGTERM
        assert terminal.echoes
        assert not terminal.screen.cursor.hidden


def test_a_watch_in_the_background_of_a_terminal_is_not_stopped_by_it(lasting: Stack) -> None:
    job_id = create(lasting.store)
    command = f"set -m; {shlex.join(HEADWAY)} watch {job_id} & wait"
    with Terminal("bash", "-c", command, HEADWAY_URL=lasting.url) as terminal:
        terminal.until(lambda text: "queued" in text)
        run_jobs(lasting.store, [job_id], 1, 0).join()
        terminal.until(lambda text: f"{job_id}  t  succeeded" in text)
        terminal.wait()
    assert "Stopped" not in terminal.text


def test_hostile_texts_do_nothing_to_a_terminal(lasting: Stack) -> None:
    job_id = create(lasting.store, type="[red]\x1b]0;owned\x07\u202e\n", group="g")
    held = claim(lasting.store, job_id)
    lasting.store.append(held, 1, [progress(1), log(1)])
    lasting.store.cancel(job_id)
    with Terminal(*HEADWAY, "watch", job_id, HEADWAY_URL=lasting.url) as terminal:
        terminal.until(lambda text: "canceling" in text)
        terminal.type("\x03")
        terminal.wait()
    assert rb"[red]\x1b]0;owned" in terminal.drawn
    assert b"\x1b]" not in terminal.drawn
    assert b"\x07" not in terminal.drawn


def test_a_file_that_goes_up_has_a_bar(stack: Stack, tmp_path: Path) -> None:
    large = tmp_path / "large[red].bin"
    with large.open("wb") as file:
        file.truncate(30_000_000)
    words = ("submit", "file.checksum", "--file", str(large))
    with Terminal(*HEADWAY, *words, HEADWAY_URL=stack.url) as terminal:
        assert terminal.wait() == 0
    assert b"large[red].bin" in terminal.drawn
    assert b"MB" in terminal.drawn
    assert re.fullmatch(r"\S{24}", terminal.text), "the bar has gone, and the id is there"


# -- leaving, and coming back ---------------------------------------------------------------------------


def test_a_canceled_job_is_3_and_ctrl_c_says_how_to_come_back(stack: Stack) -> None:
    job_id = cli(stack, "submit", "simulate", "duration_s=60", "rate=100").stdout.strip()
    with Piped(stack, "watch", job_id, "--json") as run:
        until(lambda: any('"progress"' in line for line in run.out))
        run.process.send_signal(signal.SIGINT)
        status, said = run.ends()
    assert status == 130
    assert said.count("\n") == 1
    assert said.startswith("Detached; the jobs go on. To come back: headway watch ")
    assert cli(stack, "cancel", job_id).returncode == 0
    words = shlex.split(said.partition(": headway ")[2])
    assert words == ["watch", job_id, "--after", json.loads(run.out[-1])["id"], "--json"]
    back = cli(stack, *words)
    assert back.returncode == 3
    events = stack.call("GET", f"/jobs/{job_id}/events?limit=1000", headers={"Accept": "application/json"})
    expected = [(e["id"], e["event"]) for e in json.loads(events[2])["events"]]
    came = [json.loads(line) for line in [*run.out, *back.stdout.splitlines()]]
    came = [(e["id"], e["event"]) for e in came if e["event"] != "snapshot"]
    assert came == expected[-len(came) :]


def test_logs_are_followed_through_a_kill_and_from_where_they_were_left(own_stack: Stack) -> None:
    own_stack.start_web()
    job_id = create(own_stack.store)
    held = claim(own_stack.store, job_id)
    own_stack.store.append(held, 1, [log(1), progress(1), log(2)])
    assert [line[-6:] for line in cli(own_stack, "logs", job_id).stdout.splitlines()] == [
        "line 1",
        "line 2",
    ]
    with Piped(own_stack, "logs", "-f", job_id) as run:
        until(lambda: len(run.out) == 2)
        own_stack.restart_web()
        own_stack.store.append(held, 2, [log(3)])
        until(lambda: len(run.out) == 3)
        run.process.send_signal(signal.SIGINT)
        status, said = run.ends()
    assert status == 130
    own_stack.store.append(held, 3, [log(4)])
    own_stack.store.end(held, State.SUCCEEDED)
    back = cli(own_stack, *shlex.split(said.splitlines()[-1].partition(": headway ")[2]))
    assert back.returncode == 0
    lines = [*run.out, *back.stdout.splitlines(keepends=True)]
    assert [line[-7:] for line in lines] == [f"line {n}\n" for n in (1, 2, 3, 4)]


# -- the other commands ---------------------------------------------------------------------------------


def test_a_file_is_sent_and_its_job_done(stack: Stack, tmp_path: Path) -> None:
    file = tmp_path / "Screen Recording é at 4.42.48\u202fPM.txt"
    file.write_bytes(os.urandom(300_000))
    ran = cli(stack, "submit", "file.checksum", "--file", str(file), "--watch", "--json")
    assert (ran.returncode, ran.stderr) == (0, "")
    ended = json.loads(ran.stdout.splitlines()[-1])["data"]
    assert hashlib.sha256(file.read_bytes()).hexdigest() in json.dumps(ended["result"])
    refused = cli(stack, "submit", "file.checksum", "--file", str(file), "algorithm=rot13")
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)


@pytest.mark.parametrize("preset", ["mp4", "hls"])
def test_what_an_encode_made_is_fetched_whole(stack: Stack, tmp_path: Path, preset: str) -> None:
    words = ["input=sample:1", "width=160", "height=120", f"preset={preset}", "--watch", "--json"]
    ran = cli(stack, "submit", "video.encode", *words)
    assert ran.returncode == 0, ran.stderr
    job = json.loads(ran.stdout.splitlines()[-1])["data"]
    sizes = {artifact["name"]: artifact["size"] for artifact in job["artifacts"]}
    fetched = cli(stack, "download", job["id"], "-o", str(tmp_path / "all"), "--json")
    assert fetched.returncode == 0, fetched.stderr
    found = {one["name"]: one for one in map(json.loads, fetched.stdout.splitlines())}
    assert {name: one["size"] for name, one in found.items()} == sizes
    for name, one in found.items():
        _, _, content = stack.call("GET", f"/jobs/{job['id']}/artifacts/{name}")
        assert Path(one["path"]).read_bytes() == content
    # It plays, with all that belongs to it.
    film = next(one["path"] for name, one in found.items() if name.endswith((".mp4", ".m3u8")))
    played = [ffmpeg.locate("ffmpeg"), "-nostdin", "-v", "error", "-xerror", "-i", film]
    ran = subprocess.run([*played, "-f", "null", "-"], capture_output=True, text=True, timeout=60)
    assert (ran.returncode, ran.stderr) == (0, "")
    name = next(iter(sizes))
    one = cli(stack, "download", job["id"], name, cwd=tmp_path)
    assert (one.returncode, one.stdout) == (0, f"{name}\n")
    assert (tmp_path / name).stat().st_size == sizes[name]
    (tmp_path / name).write_text("something else")
    again = cli(stack, "download", job["id"], name, cwd=tmp_path)
    assert (again.stdout, again.stderr) == (
        f"{name}\n",
        f"headway: {name} was there before and is replaced\n",
    )
    assert (tmp_path / name).stat().st_size == sizes[name]
    assert not list(tmp_path.rglob("*.part"))
    missing = cli(stack, "download", job["id"], "nothing.mp4")
    assert (missing.returncode, missing.stderr.count("\n")) == (2, 1)


def test_an_ended_job_is_submitted_again_and_a_live_one_is_not(stack: Stack) -> None:
    old = cli(stack, "submit", "simulate", "duration_s=0.1", "--watch").stdout.split()[0]
    ran = cli(stack, "retry", old, "--watch", "--json")
    new = json.loads(ran.stdout.splitlines()[-1])["data"]
    assert (ran.returncode, new["retry_of"], new["state"]) == (0, old, "succeeded")
    live = cli(stack, "submit", "simulate", "duration_s=60").stdout.strip()
    refused = cli(stack, "retry", live)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert (
        refused.stderr
        == "headway: 409 the job has not ended yet; cancel it, or wait for its end, and retry then\n"
    )
    cli(stack, "cancel", live)


def test_options_stand_anywhere_among_the_ids(stack: Stack) -> None:
    ids = [cli(stack, "submit", "simulate", "duration_s=60", "--group", "x", "rate=5").stdout.strip()]
    ids.append(
        cli(stack, "submit", "--group", "x", "simulate", "--label", "a=b", "duration_s=60").stdout.strip()
    )
    ran = cli(stack, "cancel", ids[0], "--json", ids[1])
    assert [json.loads(line)["id"] for line in ran.stdout.splitlines()] == ids
    watched = cli(stack, "watch", ids[0], "--json", ids[1], "--give-up", "30")
    assert watched.returncode == 3
    ended = [json.loads(line) for line in watched.stdout.splitlines()]
    assert {event["data"]["id"] for event in ended if event["event"] == "end"} == set(ids)
    listed = cli(stack, "list", "--group", "x", "--json", "--state", "canceled")
    documents = [json.loads(line) for line in listed.stdout.splitlines()]
    assert {job["id"] for job in documents} >= set(ids)
    assert documents[0]["params"]["duration_s"] == 60


def test_the_same_key_is_the_same_job(stack: Stack) -> None:
    words = ["submit", "simulate", "duration_s=0.1", "--key", f"nightly-{os.getpid()}"]
    assert cli(stack, *words).stdout == cli(stack, *words).stdout != ""


# -- what goes wrong ------------------------------------------------------------------------------------


def test_what_cannot_be_done_is_a_line_and_exit_2(stack: Stack) -> None:
    cases = {
        ("watch", "nope"): "headway: 404 there is no job 'nope'\n",
        ("logs", "nope"): "headway: 404 there is no job 'nope'\n",
        ("watch", "x", "--url", "http://127.0.0.1:9"): (
            "headway: http://127.0.0.1:9 does not answer: Connection refused\n"
        ),
        ("submit", "simulate", "duration_s=-1", "x=1"): (
            "headway: 422 /params/x: is not known; /params/duration_s: -1 is less than the minimum of 0\n"
        ),
        ("submit", "nope"): (
            "headway: 422 unknown job type 'nope'; the types are file.checksum, simulate, video.encode\n"
        ),
        ("submit", "simulate", "--group", "a\nb"): None,
        ("watch", "\udcff"): None,
        ("watch", ".."): None,
        ("list", "--url", f"{stack.url}/elsewhere"): None,
    }
    for words, expected in cases.items():
        ran = cli(stack, *words)
        assert (ran.returncode, ran.stdout, ran.stderr.count("\n")) == (2, "", 1), ran.stderr
        assert expected in (None, ran.stderr)


@pytest.mark.parametrize("words", ["types", "types --json"])
def test_a_reader_that_has_enough_is_no_error(stack: Stack, words: str) -> None:
    ran = shell(stack, f"headway {words} | {{ exec <&-; sleep 1; }}; exit ${{PIPESTATUS[0]}}")
    assert (ran.returncode, ran.stderr) == (141, "")


@pytest.mark.parametrize(
    ("redirection", "status", "complains"), [(">&-", 0, False), (">/dev/full", 2, True)]
)
def test_an_output_that_cannot_be_written_is_a_line_at_most(
    stack: Stack, redirection: str, status: int, complains: bool
) -> None:
    ran = shell(stack, f"headway types {redirection}")
    assert (ran.returncode, ran.stderr.count("\n")) == (status, int(complains)), ran.stderr


# -- the library, as the docs have it -------------------------------------------------------------------


def test_the_docs_python_runs(stack: Stack, tmp_path: Path) -> None:
    code = (ROOT / "docs" / "clients.md").read_text().partition("## Python")[2].partition("```python\n")[2]
    (tmp_path / "script.py").write_text(code.partition("```")[0])
    film = ["-f", "lavfi", "-i", "testsrc=duration=1:size=160x120", "-c:v", "libx264", "holiday.mov"]
    subprocess.run(
        [ffmpeg.locate("ffmpeg"), "-nostdin", "-v", "error", *film], cwd=tmp_path, check=True, timeout=60
    )
    ran = subprocess.run(
        [sys.executable, "-W", "error", "script.py"],
        cwd=tmp_path,
        env={**environment(stack), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    lines = ran.stdout.splitlines()
    assert re.fullmatch(r"(\d+) of \1 bytes", lines[0])
    assert any(re.match(r"\d+-\d+ end \{", line) for line in lines)
    assert "results/video.mp4" in lines
    assert lines[-1].startswith("422 /params/preset: ")
    assert (tmp_path / "results" / "video.mp4").stat().st_size > 0


def test_a_batch_is_read_from_a_file_or_not_made_at_all(stack: Stack, tmp_path: Path) -> None:
    group = f"batch-{os.getpid()}"
    line = json.dumps({"type": "simulate", "params": {"duration_s": 0}, "group": group})
    file = tmp_path / "jobs.jsonl"
    file.write_text(f"{line}\n\n{line}\n")
    made = cli(stack, "submit", "--batch", str(file), "--key", group)
    assert (made.returncode, len(made.stdout.split())) == (0, 2)
    assert cli(stack, "submit", "--batch", str(file), "--key", group).stdout == made.stdout
    assert len(cli(stack, "list", "--group", group).stdout.splitlines()) == 2
    file.write_text(f"{line}\nnonsense\n")
    refused = cli(stack, "submit", "--batch", str(file))
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert "line 2 of the batch is not JSON" in refused.stderr
    assert cli(stack, "submit", "--batch", str(file), "simulate").returncode == 2
    assert cli(stack, "submit").returncode == 2
    assert len(cli(stack, "list", "--group", group).stdout.splitlines()) == 2


def test_pauses_and_drains_are_made_shown_and_ended(stack: Stack) -> None:
    key = f"unique-{os.getpid()}"
    options = ["--priority", "9", "--run-at", "2026-01-01T00:00:00Z", "--expires", "600", "--unique", key]
    paused = cli(stack, "pause", "--type", "simulate")
    try:
        assert paused.stdout.startswith("type simulate: paused since 20")
        first = cli(stack, "submit", "simulate", "duration_s=0", *options).stdout
        assert cli(stack, "submit", "simulate", "--unique", key, "--unique-while", "queued").stdout == first
        assert "type simulate: paused" in cli(stack, "workers").stdout
    finally:
        resumed = cli(stack, "resume", "--type", "simulate")
    assert (resumed.returncode, resumed.stdout) == (0, "")
    assert cli(stack, "watch", first.strip()).returncode == 0
    name = json.loads(cli(stack, "workers", "--json").stdout)["name"]
    try:
        assert "draining since" in cli(stack, "workers", "drain", name).stdout
        assert cli(stack, "workers").stdout.splitlines()[0].endswith("draining")
    finally:
        assert cli(stack, "workers", "resume", name).returncode == 0
    for words in (["workers", "drain", "nobody"], ["workers", "drain"], ["resume", "--queue", "video"]):
        wrong = cli(stack, *words)
        assert (wrong.returncode, wrong.stderr.count("\n")) == (2, 1)


def test_many_jobs_are_counted_and_deleted_by_label(stack: Stack) -> None:
    label = f"many={os.getpid()}"
    for _ in range(2):
        assert cli(stack, "submit", "simulate", "duration_s=0", "--label", label, "--watch").returncode == 0
    assert len(cli(stack, "list", "--label", label).stdout.splitlines()) == 2
    assert "succeeded" in cli(stack, "counts").stdout.splitlines()[0]
    words = ["many", "delete", "--label", label]
    assert cli(stack, *words, "--dry-run").stdout == "2 jobs match: only counted\n"
    assert cli(stack, *words, "--older", "1d").stdout == "0 jobs match: 0 done\n"
    assert cli(stack, *words).stdout == "2 jobs match: 2 done\n"
    assert cli(stack, "list", "--label", label).stdout == ""
    assert cli(stack, "many", "delete").returncode == 2

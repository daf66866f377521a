"""`make run`: ready, one only, and nothing left of it however it ends."""

from __future__ import annotations

import json
import os
import pty
import resource
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from service.process import valkey
from tests.support import processes
from tests.support.command import Command, make, service
from tests.support.stack import STOP_S
from tests.support.wait import until

pytestmark = pytest.mark.long

LIBRARIES = (
    "celery.bin.celery, flask, gevent.monkey, gunicorn.app.wsgiapp, "
    "jsonschema, prometheus_client, pydantic, redis"
)

ON_TERMINAL = """
import os, runpy, sys
os.open(sys.argv.pop(1), os.O_RDWR)  # the first that a session leader opens is its terminal
sys.argv = sys.argv[1:]
runpy.run_module(sys.argv[0], run_name="__main__")
"""
"""Python, as the leader of a session at a terminal."""


def get(command: Command, path: str) -> Any:
    with urllib.request.urlopen(command.url + path, timeout=60) as response:
        return json.load(response)


def submit(command: Command, type: str, **params: Any) -> str:
    body = json.dumps({"type": type, "params": params}).encode()
    request = urllib.request.Request(
        command.url + "/jobs", body, {"Content-Type": "application/json"}, method="POST"
    )
    with urllib.request.urlopen(request, timeout=60) as response:
        return json.load(response)["id"]


def wait_for(command: Command, job_id: str, state: str) -> dict[str, Any]:
    def job() -> Any:
        found = get(command, f"/jobs/{job_id}")
        return found if found["state"] == state else None

    return until(job, what=f"the job to be {state}")


def supervisor(command: Command) -> int:
    """The process that make started."""
    return int(json.loads((command.data / "run.lock").read_text())["pid"])


def child(command: Command, words: str) -> int:
    """The process below the supervisor that runs these words."""
    parent = supervisor(command)
    found = [p.pid for p in processes.table().values() if p.parent == parent and words in p.command]
    assert len(found) == 1, command.processes()
    return found[0]


def libraries_cpu_s() -> float:
    """CPU time to load what web and worker are made with."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", f"import {LIBRARIES}"], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def test_it_is_ready_with_five_times_the_work_of_its_libraries_and_sigterm_to_make_leaves_no_process(
    tmp_path: Path,
) -> None:
    with make("run", data=tmp_path / "var") as run:
        run.wait_ready()
        table = processes.table()
        all_of_it = [table[pid] for pid in run.processes() if pid in table]
        # Neither the clock's seconds nor those of a core say much while others use the machine.
        work = sum(p.cpu_s + p.reaped_s for p in all_of_it)
        assert work < 5 * max(libraries_cpu_s() for _ in range(3))
        assert any(item["alive"] for item in get(run, "/types")["items"])
        assert len(run.processes()) >= 5  # make, the supervisor, Valkey, web, worker
        run.process.terminate()
        run.wait(STOP_S)
        run.nothing_left()
        assert "Traceback" not in run.output


def test_ctrl_c_during_an_encode_leaves_no_process(tmp_path: Path) -> None:
    with make("run", data=tmp_path / "var") as run:
        run.wait_ready()
        job_id = submit(run, "video.encode", input="sample:600", preset="mp4")
        wait_for(run, job_id, "running")
        until(lambda: any("ffmpeg" in line for line in run.processes().values()), what="the encoder")
        os.killpg(run.process.pid, signal.SIGINT)  # as a terminal does it
        run.wait(STOP_S)
        run.nothing_left()
        assert "Traceback" not in run.output


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_the_supervisor_ends_with_status_0_when_it_is_asked_to(tmp_path: Path, signum: int) -> None:
    with service("run", data=tmp_path / "var") as run:
        run.wait_ready()
        run.process.send_signal(signum)
        assert run.wait(STOP_S) == 0
        run.nothing_left()


def test_sighup_has_the_web_process_read_its_secrets_anew_and_ends_nothing(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("s" * 40)
    with service("run", data=tmp_path / "var", AUTH="keys", SECRET_FILE=str(secret)) as run:
        run.wait_ready()
        before = processes.table()
        web = child(run, "gunicorn")
        workers = {found.pid for found in processes.descendants(web, before)}
        secret.write_text("short")
        os.kill(supervisor(run), signal.SIGHUP)
        until(lambda: f"SECRET_FILE {secret} cannot be used" in run.output, what="the secrets to be read")

        def renewed() -> bool:
            now = {found.pid for found in processes.descendants(web, processes.table())}
            return bool(now) and not now & workers

        until(renewed, what="the new workers")
        assert child(run, "gunicorn") == web
        assert child(run, "-m worker") in before
        run.process.terminate()
        assert run.wait(STOP_S) == 0
        run.nothing_left()


def test_closing_its_terminal_ends_all_of_it(tmp_path: Path) -> None:
    near, far = pty.openpty()
    words = ("service", "run")
    with Command(sys.executable, "-c", ON_TERMINAL, os.ttyname(far), *words, data=tmp_path / "var") as run:
        os.close(far)
        run.wait_ready()
        os.close(near)
        assert run.wait(STOP_S) == 0
        run.nothing_left()


def test_a_second_one_says_that_one_is_running_and_where(tmp_path: Path) -> None:
    with make("run", data=tmp_path / "var") as run:
        run.wait_ready()
        with service("run", data=tmp_path / "var") as second:
            assert second.wait(60) == 2
            assert second.output.count("\n") == 1
            assert f"already running on {tmp_path / 'var'}" in second.output
            assert f"process {supervisor(run)}, {run.url}" in second.output
            assert get(run, "/readyz") is not None


def test_a_port_that_is_taken_is_one_clear_line(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with service("run", data=tmp_path / "var", PORT=str(port)) as run:
            assert run.wait(60) == 2
            assert run.output.count("\n") == 1
            assert f"cannot listen on http://127.0.0.1:{port}" in run.output
            run.nothing_left()


def test_jobs_and_their_history_survive_a_restart_of_everything(tmp_path: Path) -> None:
    seen = []
    for number in range(2):
        with make("run", data=tmp_path / "var") as run:
            run.wait_ready()
            if number == 0:
                job_id = submit(run, "simulate", duration_s=1, rate=20, log_every=2)
                wait_for(run, job_id, "succeeded")
            page = f"/jobs/{job_id}/events?after=0&limit=1000"
            request = urllib.request.Request(run.url + page, headers={"Accept": "application/json"})
            with urllib.request.urlopen(request, timeout=60) as response:
                seen.append((get(run, f"/jobs/{job_id}"), json.load(response)["events"]))
            run.process.terminate()
            run.wait(STOP_S)
    assert seen[0] == seen[1]
    assert len(seen[0][1]) > 10


def test_a_job_that_ran_when_everything_stopped_goes_on_after_the_start(tmp_path: Path) -> None:
    with make("run", data=tmp_path / "var", LEASE_S="3") as run:
        run.wait_ready()
        job_id = submit(run, "simulate", duration_s=4)
        wait_for(run, job_id, "running")
        run.process.terminate()
        run.wait(STOP_S)
    with make("run", data=tmp_path / "var", LEASE_S="3") as run:
        run.wait_ready()
        assert wait_for(run, job_id, "succeeded")["attempt"] == 2


def test_a_killed_supervisor_leaves_nothing_and_the_next_one_starts(tmp_path: Path) -> None:
    with make("run", data=tmp_path / "var", LEASE_S="3") as run:
        run.wait_ready()
        job_id = submit(run, "video.encode", input="sample:600", preset="mp4")
        until(lambda: any("ffmpeg" in line for line in run.processes().values()), what="the encoder")
        os.kill(supervisor(run), signal.SIGKILL)
        # At once, while the remains are still going: it waits for them.
        with make("run", data=tmp_path / "var", PORT=str(run.port), LEASE_S="3") as again:
            again.url = run.url
            run.wait(STOP_S)
            again.wait_ready()
            left = set(run.processes()) - set(again.processes())
            assert not left, run.processes()
            assert get(again, f"/jobs/{job_id}")["id"] == job_id


@pytest.mark.parametrize("words", ["gunicorn", "worker", "valkey"])
def test_if_one_ends_by_itself_the_rest_is_ended_and_it_says_so(tmp_path: Path, words: str) -> None:
    with service("run", data=tmp_path / "var") as run:
        run.wait_ready()
        os.kill(child(run, words), signal.SIGKILL)
        assert run.wait(STOP_S) == 1
        name = "web" if words == "gunicorn" else words
        assert run.output.endswith(
            f"headway: {name} ended by itself with signal 9; everything else was stopped\n"
        )
        run.nothing_left()


STANDINS = """\
web: exec {python} -c "print('web is up'); import time; time.sleep(600)"
worker: exec {python} {stubborn}
"""
STUBBORN = """\
import signal, subprocess, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
subprocess.Popen(["sleep", "600"], start_new_session=True)  # and nobody ends it
subprocess.Popen(["sh", "-c", "sleep 600 & exec sleep 600"])
print("worker is up")
while True:
    print("x" * 1000)
    time.sleep(0.0005)
"""


def standins(directory: Path) -> Path:
    stubborn = directory / "stubborn.py"
    stubborn.write_text(STUBBORN)
    procfile = directory / "Procfile"
    procfile.write_text(STANDINS.format(python=sys.executable, stubborn=stubborn))
    return procfile


def test_processes_that_ignore_sigterm_and_those_they_forgot_are_killed_in_time(tmp_path: Path) -> None:
    with service("run", "--procfile", str(standins(tmp_path)), data=tmp_path / "var") as run:
        until(lambda: "worker | worker is up\n" in run.output and "web    | web is up\n" in run.output)
        until(lambda: sum("sleep 600" in line for line in run.processes().values()) >= 3)
        run.process.terminate()
        assert run.wait(STOP_S) == 0
        run.nothing_left()


def test_a_reader_that_stops_reading_stops_nothing(tmp_path: Path) -> None:
    read, write = os.pipe()
    procfile = str(standins(tmp_path))
    with service("run", "--procfile", procfile, data=tmp_path / "var", stdout=write) as run:
        os.close(write)
        until(lambda: sum("sleep 600" in line for line in run.processes().values()) >= 3)
        # The pipe is full by now or soon; the process that prints must go on all the same.
        printer = next(pid for pid, line in run.processes().items() if "stubborn.py" in line)
        until(lambda: written(printer) > 1_000_000, what="the printer to go on")
        run.process.terminate()
        assert run.wait(STOP_S) == 0
        run.nothing_left()
    os.close(read)


def written(pid: int) -> int:
    """Bytes that a process has written."""
    lines = dict(line.split(": ") for line in Path(f"/proc/{pid}/io").read_text().splitlines())
    return int(lines["wchar"])


def test_with_redis_url_it_starts_no_valkey(tmp_path: Path) -> None:
    server = valkey.start(tmp_path / "elsewhere")
    try:
        with service("run", data=tmp_path / "var", REDIS_URL=server.url) as run:
            run.wait_ready()
            assert not (tmp_path / "var" / "valkey").exists()
            run.process.terminate()
            assert run.wait(STOP_S) == 0
            run.nothing_left()
    finally:
        server.stop()


def test_honcho_runs_the_procfile_as_an_operator_would(tmp_path: Path) -> None:
    server = valkey.start(tmp_path / "elsewhere")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    try:
        with Command(
            "honcho", "start", data=tmp_path / "var", REDIS_URL=server.url, PATH=path, PYTHONUNBUFFERED="1"
        ) as run:

            def alive() -> bool:
                assert run.process.poll() is None, run.output
                try:
                    return any(item["alive"] for item in get(run, "/types")["items"])
                except OSError:
                    return False

            until(alive, what="a worker")
            run.process.terminate()
            run.wait(STOP_S)
            run.nothing_left()
            assert "Traceback" not in run.output
            assert "SIGKILL" not in run.output
    finally:
        server.stop()

"""What surrounds a task, with tasks made for the occasion, in this process."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import re
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from headway.contract.encoding import RecordError
from headway.contract.new_job import NewJob
from headway.contract.pauses import Subject
from headway.contract.records import Job as JobRecord
from headway.contract.states import ErrorCode, State
from headway.sdk.job import Job
from headway.sdk.job_type import JobType, Params, _types
from headway.sdk.retry import Retry
from headway.sdk.runtime import Runtime
from headway.sdk.stopping import InvalidInput, JobStopped, NoSpace
from tests.support.checkout import ROOT
from tests.support.wait import until
from tests.support.worker_stack import Do, WorkerStack


def cancels(stack: WorkerStack, job_id: str) -> None:
    stack.store.cancel(job_id)


def test_what_a_task_returns_is_the_result_and_1_comes_with_success(do: Do) -> None:
    job = do(lambda job: {"answer": 42})
    assert job.state is State.SUCCEEDED
    assert job.result == {"answer": 42}
    assert job.progress is not None
    assert job.progress.fraction == 1


def test_a_result_that_cannot_be_stored_fails_the_job(do: Do) -> None:
    for result, what in ((object(), "JSON"), (float("nan"), "JSON"), ("x" * 70_000, "more than 65536")):
        job = do(lambda job, result=result: result)
        assert job.state is State.FAILED
        assert job.error is not None
        assert what in job.error.message


def test_invalid_input_is_not_retried(do: Do) -> None:
    def task(job: Job[Params]) -> None:
        raise InvalidInput("no such thing")

    job = do(task, max_attempts=5)
    assert job.state is State.FAILED
    assert job.error is not None
    assert (job.error.code, job.error.message) == (ErrorCode.INVALID_INPUT, "no such thing")


@pytest.mark.parametrize(
    "error", [NoSpace("the disk is full"), OSError(errno.ENOSPC, "No space left on device", "/data/secret")]
)
def test_a_full_disk_has_a_code_of_its_own_and_is_not_retried(do: Do, error: Exception) -> None:
    def task(job: Job[Params]) -> None:
        raise error

    job = do(task, max_attempts=5)
    assert job.state is State.FAILED
    assert job.error is not None
    assert job.error.code is ErrorCode.NO_SPACE
    assert "disk is full" in job.error.message
    assert "secret" not in job.error.message


def test_a_published_file_is_moved_in_one_step_and_belongs_to_its_attempt(do: Do) -> None:
    seen: dict[str, Any] = {}

    def task(job: Job[Params]) -> None:
        path = job.workdir / "made"
        path.write_text("content")
        seen["inode"] = path.stat().st_ino
        seen["shown"] = job.artifact("note.txt", path)
        seen["moved"] = not path.exists()
        (job.workdir / "pages").mkdir()
        (job.workdir / "pages" / "index.html").write_text("<p>")
        job.artifact("pages", job.workdir / "pages", index="index.html")
        for bad in ("../x", "a/b", "", ".hidden"):
            with pytest.raises(ValueError):
                job.artifact(bad, path)
        seen["dir"] = job.data_dir / "artifacts" / job.id / "1"

    job = do(task)
    assert job.state is State.SUCCEEDED
    assert (seen["dir"] / "note.txt").stat().st_ino == seen["inode"], "renamed, never half there"
    assert seen["moved"]
    assert [(a.name, a.media_type, a.size) for a in job.artifacts] == [
        ("note.txt", "text/plain", 7),
        ("pages/index.html", "text/html", 3),
    ]


@pytest.mark.parametrize("one", [True, False], ids=["one file", "many files"])
@pytest.mark.parametrize("program", [True, False], ids=["a program's", "the task's"])
def test_what_an_attempt_makes_may_only_be_so_large_all_together(
    do: Do, tmp_path: Path, program: bool, one: bool
) -> None:
    made: list[int] = []

    def make(job: Job[Params], directory: Path, size: int) -> None:
        directory.mkdir()
        names = ["a"] if one else ["a", "b", "c", "d"]
        script = "".join(f"head -c {size // len(names)} /dev/zero > {directory}/{name}\n" for name in names)
        if program:
            with job.subprocess(["/bin/sh", "-c", f"{script}true"]) as process:
                process.wait()
        else:
            subprocess.run(["/bin/sh", "-c", script], check=True)

    def task(job: Job[Params]) -> None:
        make(job, job.workdir / "first", 600_000)
        job.artifact("first", job.workdir / "first", index="a")
        for size in (400_000, 400_004):
            make(job, job.workdir / f"{size}", size)
            job.artifact("second", job.workdir / f"{size}", index="a")
            made.append(size)

    job = do(task, max_attempts=3, output_bytes=1_000_000)
    assert made == [400_000]
    assert (job.state, job.attempt) == (State.FAILED, 1)
    assert job.error is not None
    assert job.error.code is ErrorCode.INVALID_INPUT
    assert "1000000 bytes together (MAX_OUTPUT_BYTES)" in job.error.message
    assert not list((tmp_path / "work").iterdir())


def test_a_program_that_makes_files_without_end_is_ended_while_it_does(do: Do, tmp_path: Path) -> None:
    script = "i=0; while :; do head -c 60000 /dev/zero > file-$((i += 1)); done"

    def task(job: Job[Params]) -> None:
        with job.subprocess(["/bin/sh", "-c", script], cwd=job.workdir) as process:
            process.wait()

    job = do(task, max_attempts=3, output_bytes=100_000)
    assert job.attempt == 1
    assert job.error is not None
    assert job.error.code is ErrorCode.INVALID_INPUT
    assert not list((tmp_path / "work").iterdir())


def test_what_was_downloaded_is_not_counted_as_made(do: Do, tmp_path: Path) -> None:
    (tmp_path / "uploads").mkdir()
    (tmp_path / "uploads" / "input").write_bytes(b"x" * 5000)

    def task(job: Job[Params]) -> None:
        assert job.files.fetch(["uploads/input"], "input", print).stat().st_size == 5000
        (job.workdir / "made").write_bytes(b"x" * 900)
        job.artifact("made", job.workdir / "made")

    assert do(task, output_bytes=1000).state is State.SUCCEEDED


def test_a_checkpoint_outlives_the_attempt(do: Do, worker_stack: WorkerStack) -> None:
    def task(job: Job[Params]) -> None:
        assert job.checkpoint is None
        for bad in (float("nan"), object(), "x" * 70_000):
            with pytest.raises(RecordError):
                job.checkpoint = bad
        job.checkpoint = {"done": 1}
        job.checkpoint = {"done": [1, 2]}
        assert job.checkpoint == {"done": [1, 2]}
        raise OSError("and again")

    job = do(task, max_attempts=2)
    assert job.state is State.RETRYING
    worker_stack.store.redis.hdel(worker_stack.store.keys.job(job.id), "_not_before")
    ref = worker_stack.store.ref(job.id)
    assert ref is not None
    claim = worker_stack.store.claim(ref, token="next", lease_s=60, worker="next")
    assert claim is not None
    assert claim.checkpoint == '{"done":[1,2]}'
    worker_stack.store.end(claim, State.SUCCEEDED)


class Speechless(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (SystemExit(2), "SystemExit: 2"),
        (asyncio.CancelledError(), "CancelledError"),
        (Speechless(), "Speechless"),
    ],
)
def test_whatever_a_task_raises_is_the_jobs_error_and_leaves_no_file(
    do: Do, error: BaseException, message: str
) -> None:
    workdirs: list[Path] = []

    def task(job: Job[Params]) -> None:
        workdirs.append(job.workdir)
        raise error

    job = do(task)
    assert job.state is State.FAILED
    assert job.error is not None
    assert (job.error.code, job.error.message) == (ErrorCode.ERROR, message)
    assert not workdirs[0].exists()


def test_a_type_says_which_errors_are_tried_again(do: Do) -> None:
    policy = Retry(on=(OSError,), never=(FileNotFoundError,))
    for error, state in (
        (ConnectionError("x"), State.RETRYING),
        (FileNotFoundError("x"), State.FAILED),
        (ValueError("x"), State.FAILED),
    ):

        def task(job: Job[Params], error: Exception = error) -> None:
            raise error

        assert do(task, max_attempts=2, retry=policy).state is state


def test_the_log_says_how_each_attempt_ended(
    do: Do, worker_stack: WorkerStack, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(job: Job[Params]) -> None:
        raise OSError("away")

    def is_canceled(job: Job[Params]) -> None:
        worker_stack.store.cancel(job.id)
        while True:
            job.check()
            time.sleep(0.01)

    def is_stopped(job: Job[Params]) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)

    caplog.set_level(logging.INFO, "headway.sdk.attempt")
    said = []
    for task, attempts in ((lambda job: 1, 1), (fails, 1), (fails, 2), (is_canceled, 1), (is_stopped, 1)):
        caplog.clear()
        job = do(task, max_attempts=attempts, retry=Retry(first_s=5))
        said.append(caplog.messages[-1].removeprefix(f"job {job.id}: "))
    assert re.fullmatch(r"to be retried in \d+\.\d s", said.pop(2))
    assert said == ["succeeded", "failed (error)", "canceled", "released, as this worker shuts down"]


def test_the_work_directory_goes_with_the_attempt(do: Do, tmp_path: Path) -> None:
    def task(job: Job[Params]) -> None:
        (job.workdir / "half").write_text("half")
        raise RuntimeError("broken")

    assert do(task).state is State.FAILED
    assert list((tmp_path / "work").iterdir()) == []


def test_except_exception_does_not_swallow_a_cancellation(do: Do, worker_stack: WorkerStack) -> None:
    def task(job: Job[Params]) -> str:
        cancels(worker_stack, job.id)
        while True:
            try:
                job.sleep(10)
            except Exception:  # noqa: BLE001
                return "swallowed"

    assert do(task).state is State.CANCELED


def test_a_shield_holds_cancellation_back_until_its_end(do: Do, worker_stack: WorkerStack) -> None:
    steps = []

    def task(job: Job[Params]) -> None:
        with job.shield():
            cancels(worker_stack, job.id)
            # The lease thread has seen it when it would have been raised.
            until(lambda: job._stop.reason is not None)
            job.check()
            steps.append("within")
        with suppress(OSError):
            job.check()
        steps.append("after")

    assert do(task).state is State.CANCELED
    assert steps == ["within"]


def test_a_subprocess_ends_with_its_whole_group(do: Do, worker_stack: WorkerStack) -> None:
    pids: list[int] = []

    def task(job: Job[Params]) -> None:
        # The grandchild does not listen to TERM, and outlives its parent.
        script = "(trap '' TERM; while :; do sleep 0.1; done) & echo $!; wait"
        with job.subprocess(["/bin/sh", "-c", script], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            pids.extend((process.pid, int(process.stdout.readline())))
            cancels(worker_stack, job.id)
            process.wait()
        job.check()

    assert do(task).state is State.CANCELED
    for pid in pids:
        until(lambda pid=pid: gone(pid), what="it to go")


def test_a_task_that_succeeds_on_the_ruins_of_its_subprocess_is_canceled(
    do: Do, worker_stack: WorkerStack
) -> None:
    def task(job: Job[Params]) -> str:
        with job.subprocess(["sleep", "60"]) as process:
            cancels(worker_stack, job.id)
            process.wait()
        return "done"

    assert do(task).state is State.CANCELED


def test_a_program_that_is_not_there_exits_with_127(do: Do) -> None:
    def task(job: Job[Params]) -> list[Any]:
        with job.subprocess(["no-such-program"], stderr=subprocess.PIPE) as process:
            assert process.stderr is not None
            return [process.stderr.read().decode(), process.wait()]

    assert do(task).result == ["no-such-program: No such file or directory\n", 127]


def test_an_interrupt_reaches_a_task_that_sleeps(do: Do, worker_stack: WorkerStack) -> None:
    def task(job: Job[Params]) -> None:
        cancels(worker_stack, job.id)
        time.sleep(60)

    began = time.monotonic()
    assert do(task).state is State.CANCELED
    # Later, this very process would be given up.
    assert time.monotonic() - began >= 2


STUBBORN = """
import sys, time
from pathlib import Path
from headway.contract.settings import Settings
from headway.contract.store import JobStore
from headway.sdk import escalation, runtime
from headway.sdk.job_type import JobType, Params

def task(job):
    (job.workdir / "half").write_text("half")
    while True:
        try:
            time.sleep(1)
        except BaseException:
            pass

escalation.GIVE_UP_AFTER_S = 2.5
store = JobStore.of(Settings(redis_url=sys.argv[1], key_prefix="test:"))
this = runtime.Runtime(store, worker="stubborn", data_dir=Path(sys.argv[2]), lease_s=5)
this.run(JobType("test", "Test", "none", Params, None, task), sys.argv[3])
"""


def test_a_task_that_ignores_even_the_interrupt_takes_its_process_with_it(
    worker_stack: WorkerStack, tmp_path: Path
) -> None:
    new = NewJob(owner="owner", type="test", params={}, queue="none", max_attempts=1)
    job_id, *_ = worker_stack.store.create(new)
    arguments = [worker_stack.valkey.url, str(tmp_path), job_id]
    with subprocess.Popen([sys.executable, "-c", STUBBORN, *arguments], cwd=ROOT) as process:
        worker_stack.running(job_id)
        until(lambda: list(tmp_path.rglob("half")))
        worker_stack.store.cancel(job_id)
        assert process.wait(60) == 1
    assert worker_stack.job(job_id).state is State.CANCELED
    assert list((tmp_path / "work").iterdir()) == []


def test_the_lease_is_kept_while_the_task_says_nothing(do: Do, worker_stack: WorkerStack) -> None:
    job, due = silent_task(do, worker_stack)
    assert job.state is State.SUCCEEDED
    assert due == []


def test_the_lease_is_kept_after_an_error_that_nobody_expected(
    do: Do, worker_stack: WorkerStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    renew, errors = worker_stack.store.renew, iter([ValueError("a state that this version does not know")])

    def fails_once(*args: Any, **kwargs: Any) -> bool:
        for error in errors:
            raise error
        return renew(*args, **kwargs)

    monkeypatch.setattr(worker_stack.store, "renew", fails_once)
    job, due = silent_task(do, worker_stack)
    assert job.state is State.SUCCEEDED
    assert due == []


def silent_task(do: Do, stack: WorkerStack) -> tuple[JobRecord, list[str]]:
    """Run a task that is longer than its lease; return the job, and the alarms that went off for it."""
    due: list[str] = []

    def task(job: Job[Params]) -> None:
        until = time.monotonic() + 3
        while time.monotonic() < until:
            due.extend(found for found in stack.store.alarms.due(0) if found == job.id)
            time.sleep(0.05)

    return do(task), due


def test_tracked_items_are_counted(do: Do) -> None:
    def task(job: Job[Params]) -> list[int]:
        return list(job.track([3, 4, 5]))

    job = do(task)
    assert job.result == [3, 4, 5]
    assert job.progress is not None
    assert (job.progress.current, job.progress.total, job.progress.unit) == (3, 3, "items")


def test_the_job_authors_example_works_as_it_stands(worker_stack: WorkerStack, tmp_path: Path) -> None:
    code = (ROOT / "docs" / "job-authors.md").read_text().partition("```python\n")[2].partition("```")[0]
    module: dict[str, Any] = {"__name__": "squares"}
    try:
        exec(compile(code, "job-authors.md", "exec"), module)
    finally:
        _types.pop("demo.squares", None)
    runtime = Runtime(worker_stack.store, worker="test", data_dir=tmp_path, lease_s=2)

    def run(numbers: list[int]) -> JobRecord:
        new = NewJob(
            owner="owner", type="demo.squares", params={"numbers": numbers}, queue="none", max_attempts=1
        )
        job_id = worker_stack.store.create(new)[0]
        runtime.run(module["squares"], job_id)
        return worker_stack.job(job_id)

    job = run([3, 4])
    assert (job.state, job.result) == (State.SUCCEEDED, {"sum": 25})
    (artifact,) = job.artifacts
    assert (tmp_path / "artifacts" / job.id / "1" / artifact.name).read_text() == "9\n16"
    failed = run([2_000_000])
    assert failed.error is not None
    assert (failed.error.code, failed.error.message) == (
        ErrorCode.INVALID_INPUT,
        "a number is larger than a million",
    )


def test_no_thread_outlives_the_job(do: Do) -> None:
    do(lambda job: None)
    assert {t.name for t in threading.enumerate()}.isdisjoint({"reporter", "lease"})


def test_a_lost_lease_is_not_held_back_by_a_shield(do: Do, worker_stack: WorkerStack) -> None:
    raised = []

    def task(job: Job[Params]) -> None:
        worker_stack.store.redis.hset(worker_stack.store.keys.job(job.id), "_fence", "another's")
        try:
            with job.shield():
                job.sleep(10)
        except JobStopped as stopped:
            raised.append(type(stopped).__name__)
            raise

    job = do(task)
    assert raised == ["LeaseLost"]
    assert job.state is State.RUNNING, "the old attempt has written nothing"


@pytest.mark.parametrize("kind", ["queue", "type"])
def test_who_looked_while_the_queue_was_paused_takes_no_job_out_of_turn(
    worker_stack: WorkerStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: Any
) -> None:
    store, name = worker_stack.store, f"paused-{kind}"
    low, high = (
        store.create(NewJob("owner", name, {}, name, max_attempts=1, priority=priority))[0]
        for priority in (0, 9)
    )
    done: list[str] = []
    types = {name: JobType(name, "T", name, Params, None, lambda job: done.append(job.id), Retry())}
    run_script = store.database.run

    def resume_after_the_look(script: str, *args: Any) -> Any:
        reply = run_script(script, *args)
        if script in ("next", "take"):
            store.pauses.end(Subject(kind, name, queue=name))
        return reply

    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR2)}
    runtime = Runtime(store, worker="test", data_dir=tmp_path, lease_s=2)
    try:
        store.pauses.add(Subject(kind, name))
        runtime.run_next(types, name, low)
        assert done == [], "it is paused"
        monkeypatch.setattr(store.database, "run", resume_after_the_look)
        runtime.run_next(types, name, low)
        assert done[:1] in ([], [high])
        runtime.run_next(types, name, low)
        runtime.run_next(types, name, low)
        assert done == [high, low]
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"

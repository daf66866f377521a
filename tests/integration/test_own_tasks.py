"""HEADWAY_TASKS: a worker serves job types that lie outside of the checkout."""

from __future__ import annotations

from pathlib import Path

import pytest

from headway.contract.settings import ConfigError, load
from headway.contract.states import State
from tests.support.checkout import ROOT
from tests.support.worker_stack import WorkerStack

JOB = """
from headway import Job, Params, job

class Nothing(Params):
    pass

@job("{name}", params=Nothing, title="It")
def run(job: Job[Nothing]) -> str:
    return "{name}"
"""


def test_a_worker_finds_types_elsewhere_and_leaves_out_what_is_broken(tmp_path: Path) -> None:
    package = tmp_path / "code" / "myapp"
    (package / "jobs").mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "jobs" / "__init__.py").touch()
    (package / "jobs" / "one.py").write_text(JOB.format(name="my.one"))
    (package / "jobs" / "broken.py").write_text(JOB.format(name="my.broken") + "\nimport nowhere\n")
    (package / "jobs" / "exits.py").write_text("raise SystemExit(3)\n")
    (package / "jobs" / "two.py").write_text(JOB.format(name="my.two"))
    (tmp_path / "code" / "other.py").write_text(JOB.format(name="other"))
    path = f"{ROOT}:{tmp_path / 'code'}"
    named = "myapp.jobs, other,not_there"
    with WorkerStack(tmp_path / "data", PYTHONPATH=path, HEADWAY_TASKS=named) as stack:
        (worker,) = stack.store.registry.workers()
        mine = [name for name in worker.types if name.startswith(("my.", "other"))]
        assert mine == ["my.one", "my.two", "other"]
        assert "simulate" in worker.types
        assert stack.do("my.two").state is State.SUCCEEDED
        assert stack.do("other").result == "other"
        log = stack.log("worker")
        for name in ("myapp.jobs.broken", "myapp.jobs.exits", "not_there"):
            assert f"job types of {name} are left out" in log
        assert "No module named 'nowhere'" in log


def test_what_is_no_name_of_a_module_is_a_bad_setting() -> None:
    with pytest.raises(ConfigError, match=r"HEADWAY_TASKS='my-jobs'.*is not the name of a module"):
        load({"REDIS_URL": "redis://127.0.0.1", "HEADWAY_TASKS": "my-jobs"})


LEVELS = """
from headway import Job, Params, job

class Level(Params):
    level: str

@job("level", params=Level, title="It")
def run(job: Job[Level]) -> None:
    job.log("a line", job.params.level)
"""


def test_a_task_that_logs_at_a_level_that_is_none_is_told_so(tmp_path: Path) -> None:
    (tmp_path / "levels.py").write_text(LEVELS)
    environ = {"PYTHONPATH": f"{ROOT}:{tmp_path}", "HEADWAY_TASKS": "levels"}
    with WorkerStack(tmp_path / "data", **environ) as stack:
        assert stack.do("level", level="warning").state is State.SUCCEEDED
        failed = stack.do("level", level="warn", max_attempts=1)
        assert failed.error is not None
        assert "debug, info, warning, error, and not 'warn'" in failed.error.message

"""huey: `huey_consumer tests.bench.queue_projects.huey_project.huey`. Progress is a value under the task's
id, as its documentation has it; nothing is told that it changed."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from huey import RedisHuey

from tests.bench.queue_projects import measuring

huey = RedisHuey("bench", url=measuring.BROKER, results=False)


@huey.task()
def noop() -> None:
    pass


@huey.task(context=True)
def updates(task: Any) -> None:
    for n in range(measuring.UPDATES):
        huey.put(f"progress.{task.id}", {"current": n + 1, "total": measuring.UPDATES})


@huey.task()
def begin() -> None:
    measuring.note_begin()


if __name__ == "__main__":
    # By its name in the module, as the consumer knows it: this one is `__main__`.
    project = import_module("tests.bench.queue_projects.huey_project")
    measuring.send(lambda name: getattr(project, name)())

"""Celery: `celery -A tests.bench.queue_projects.celery_project worker`."""

from __future__ import annotations

from typing import Any

from celery import Celery

from tests.bench.queue_projects.measuring import BROKER, UPDATES, note_begin, send

app = Celery("bench", broker=BROKER, backend=BROKER)
app.conf.update(broker_connection_retry_on_startup=True, worker_hijack_root_logger=False)


@app.task(name="noop", ignore_result=True)
def noop() -> None:
    pass


@app.task(name="updates", bind=True)
def updates(self: Any) -> None:
    for n in range(UPDATES):
        self.update_state(state="PROGRESS", meta={"current": n + 1, "total": UPDATES})


@app.task(name="begin", ignore_result=True)
def begin() -> None:
    note_begin()


if __name__ == "__main__":
    send(app.send_task)

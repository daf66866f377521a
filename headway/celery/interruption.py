"""Interruption: ends a task whose job was canceled or took too long, by the means that its pool has."""

from __future__ import annotations

import ctypes
import logging
import threading
import time

from celery import Celery

from headway.celery.run import Canceled, Run

PATIENCE_S = 2.0
"""A task that Celery has not ended by then gets the exception wherever it is."""

logger = logging.getLogger("headway.celery")


class Interruption:
    """The task's next report of progress raises Canceled in any pool. Celery is asked to revoke the task
    and to end it, which prefork, gevent and eventlet can. If that does not come to pass, the exception is
    raised in the task's thread, which hears of it when it runs Python code again."""

    def __init__(self, app: Celery) -> None:
        self._app = app

    def begin(self, run: Run) -> None:
        """Interrupt a run; returns at once. Asking again changes nothing."""
        if run.interrupted or run.outcome is not None:
            return
        run.interrupted = True
        about = {"job": run.ref.id, "owner": run.ref.owner}
        logger.info(
            "task %s (%s) is interrupted, as its job is over", run.task_id, run.task.name, extra=about
        )
        threading.Thread(target=self._interrupt, args=(run,), name="headway-interrupt", daemon=True).start()

    def _interrupt(self, run: Run) -> None:
        if self._app.conf.worker_enable_remote_control:
            try:
                self._app.control.revoke(run.task_id, terminate=True)
            except Exception as error:  # noqa: BLE001 - any transport's
                logger.warning("task %s cannot be revoked: %s", run.task_id, error)
        time.sleep(PATIENCE_S)
        if run.outcome is None:
            # A greenlet's identifier names no thread, and then nothing happens.
            ctypes.pythonapi.PyThreadState_SetAsyncExc(
                ctypes.c_ulong(run.thread), ctypes.py_object(Canceled)
            )

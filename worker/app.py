"""The Celery application. Its tasks are the job types, sent by name with the job's id and no more."""

from __future__ import annotations

import os
import signal
from collections.abc import Collection, Mapping
from typing import Any

from celery import Celery
from celery.signals import worker_process_init, worker_process_shutdown

from headway import tracing
from headway.broker import QUEUE_TYPE, address
from headway.broker import options as transport_options
from headway.contract.files import new_files
from headway.contract.settings import Settings
from headway.contract.store import JobStore
from headway.sdk.job_type import JobType
from headway.sdk.runtime import Runtime
from headway.sdk.sandbox import Policy
from worker import broker
from worker.hints import Hints

BROKER_TIMEOUT_S = 5
"""Seconds for one command. If all connections died silently, that of the queues is noticed after 11 s, the
next command's after this; later, and the watchdog restarts the worker, with the jobs it has."""


def make_store(settings: Settings) -> JobStore:
    """Return a store with its own connections, not to be shared across a fork."""
    # A call that hangs must not outlive the lease it renews.
    return JobStore.of(settings, connections=8, timeout_s=min(5.0, settings.lease_s / 3))


def stop_signal(settings: Settings) -> signal.Signals:
    """Return the signal with which the worker tells its pool's processes to hand their jobs back.

    Whoever sends SIGTERM to the whole group reaches them with it too: if their jobs are to end first, that
    is not it.
    """
    return signal.SIGURG if settings.drain_jobs_s else signal.SIGTERM


def make_app(
    settings: Settings,
    types: Mapping[str, JobType[Any]],
    worker: str,
    left_to_others: Collection[str] = (),
) -> Celery:
    """The application with a task for each job type. Each pool process makes its own runtime, and claims
    jobs as `<worker>:<pid>`."""
    app = Celery("headway", set_as_current=False)
    app.conf.update(
        **broker.options(types, left_to_others),
        **QUEUE_TYPE,
        **address(settings),
        broker_connection_max_retries=None,
        broker_connection_retry_on_startup=True,
        broker_transport_options=transport_options(settings, timeout_s=BROKER_TIMEOUT_S),
        accept_content=["json"],
        result_accept_content=["json"],
        task_serializer="json",
        result_serializer="json",
        result_backend=None,
        task_ignore_result=True,
        # The lease, not the broker, knows who runs what.
        task_acks_late=False,
        worker_prefetch_multiplier=1,
        # Celery has it for Redis alone, and says so in the log of the others. They get as many messages
        # ahead as there are processes.
        worker_disable_prefetch=not settings.broker_url.startswith("amqp"),
        # Of RabbitMQ: a connection that died silently is noticed in twice this.
        broker_heartbeat=10,
        # After its job; another process takes its place.
        worker_max_tasks_per_child=settings.recycle_jobs or None,
        worker_max_memory_per_child=settings.recycle_mib * 1024 or None,
        worker_enable_remote_control=False,
        worker_send_task_events=False,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        worker_soft_shutdown_timeout=0,
        enable_utc=True,
        task_default_queue="default",
        task_create_missing_queues=True,
    )
    recycles = bool(settings.recycle_jobs or settings.recycle_mib)
    broker.served.waiting = Hints(settings, {name: of.queue for name, of in types.items()}).waiting
    runtimes: list[Runtime] = []

    def start_process(**_: object) -> None:
        tracing.start("headway-worker")
        runtimes[:] = [
            Runtime(
                make_store(settings),
                worker=f"{worker}:{os.getpid()}",
                data_dir=settings.data_dir.resolve(),
                lease_s=settings.lease_s,
                files=new_files(settings.files_url, settings.data_dir.resolve()),
                sandbox=Policy(settings.sandbox, settings.max_memory_bytes, settings.max_output_bytes),
                stop_signal=stop_signal(settings),
                # Celery counts messages.
                takes_more=lambda: broker.intake.open and not recycles,
            )
        ]

    def end_process(**_: object) -> None:
        tracing.flush()

    worker_process_init.connect(start_process, weak=False)
    worker_process_shutdown.connect(end_process, weak=False)

    def add(job_type: JobType[Any]) -> None:
        def run(job_id: str) -> None:
            runtimes[0].run_next(types, job_type.name, job_id)

        app.task(run, name=job_type.name, ignore_result=True)

    for job_type in types.values():
        add(job_type)
    return app

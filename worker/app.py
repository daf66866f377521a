"""The Celery application. Its tasks are the job types, sent by name with the job's id and no more."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from celery import Celery
from celery.signals import worker_process_init

from headway.contract.keys import Keys
from headway.contract.settings import Settings
from headway.contract.store import JobStore, connect
from headway.sdk.job_type import JobType
from headway.sdk.runtime import Runtime


def broker_options(settings: Settings) -> dict[str, Any]:
    """Transport options of Redis as a broker. Whoever sends needs the same `global_keyprefix`."""
    return {
        "global_keyprefix": settings.key_prefix,
        "socket_timeout": 30,
        "socket_connect_timeout": 5,
        "socket_keepalive": True,
        "health_check_interval": 10,
    }


def make_store(settings: Settings) -> JobStore:
    """A store with its own connections. Not to be shared across a fork."""
    # A call that hangs must not outlive the lease it renews.
    client = connect(settings.redis_url, connections=8, timeout_s=min(5.0, settings.lease_s / 3))
    return JobStore(
        client,
        Keys(settings.key_prefix, settings.partitions),
        events_per_job=settings.events_per_job,
        retention_s=settings.retention_s,
    )


def make_app(settings: Settings, types: Mapping[str, JobType[Any]], worker: str) -> Celery:
    """The application with a task for each job type. Each pool process makes its own runtime, and claims
    jobs as `<worker>:<pid>`."""
    app = Celery("headway", broker=settings.kombu_url, set_as_current=False)
    app.conf.update(
        broker_connection_max_retries=None,
        broker_connection_retry_on_startup=True,
        broker_transport_options=broker_options(settings),
        accept_content=["json"],
        result_accept_content=["json"],
        task_serializer="json",
        result_serializer="json",
        result_backend=None,
        task_ignore_result=True,
        # The lease, not the broker, knows who runs what.
        task_acks_late=False,
        worker_prefetch_multiplier=1,
        worker_disable_prefetch=True,
        worker_enable_remote_control=False,
        worker_send_task_events=False,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        worker_soft_shutdown_timeout=0,
        enable_utc=True,
        task_default_queue="default",
        task_create_missing_queues=True,
    )
    runtimes: list[Runtime] = []

    def start_process(**_: object) -> None:
        runtimes[:] = [
            Runtime(
                make_store(settings),
                worker=f"{worker}:{os.getpid()}",
                data_dir=settings.data_dir.resolve(),
                lease_s=settings.lease_s,
                sandbox=settings.sandbox,
            )
        ]

    worker_process_init.connect(start_process, weak=False)

    def add(job_type: JobType[Any]) -> None:
        def run(job_id: str) -> None:
            runtimes[0].run(job_type, job_id)

        app.task(run, name=job_type.name, ignore_result=True)

    for job_type in types.values():
        add(job_type)
    return app

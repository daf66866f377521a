"""The worker's process: it serves jobs until SIGTERM or SIGINT, and is gone within 5 seconds then."""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import signal
import socket
import sys
import threading
import time
import warnings
from collections.abc import Mapping
from contextlib import suppress
from multiprocessing.util import get_temp_dir
from types import FrameType
from typing import Any, NoReturn

import redis
from celery import Celery
from celery.apps.worker import Worker
from celery.platforms import EX_FAILURE, SecurityWarning
from celery.signals import worker_ready
from celery.worker import state

import headway.broker
from headway.contract.encoding import rfc3339
from headway.contract.files import FilesRefused, FilesUnavailable, new_files
from headway.contract.files_identity import identity_problem
from headway.contract.layout import LayoutError
from headway.contract.settings import (
    ConfigError,
    Settings,
    load_or_exit,
    protect_data_dir_or_exit,
    server_of,
)
from headway.contract.store import JobStore
from headway.sdk import sandbox
from headway.sdk.job_type import JobType, discover
from worker import broker
from worker.app import make_app, make_store, stop_signal
from worker.broker_watchdog import BrokerWatchdog
from worker.drain import Drain
from worker.log import configure
from worker.media import ffmpeg, release
from worker.registration import Registration
from worker.selection import select

CHECK_TIMEOUT_S = 5.0
"""Seconds that Redis or the broker has to answer a question, at the start and to the watchdog."""
STOP_S = 4.0
"""Seconds from the signal to the end, whatever the jobs do. Honcho kills after 5."""
REAP_S = 1.0
RESTART_PAUSE_S = 1.0
"""Seconds before the restart after an error that Celery does not recover from."""

logger = logging.getLogger("worker")


class Server(Worker):  # type: ignore[misc]
    """Celery's worker, but for how it stops: the jobs are told at once, and there is a deadline."""

    registration: Registration
    drain: Drain
    drain_jobs_s = 0.0
    """How long running jobs may take to end after SIGTERM."""
    stop_signal = signal.SIGTERM
    """What tells the pool's processes."""
    _draining = False
    _ending = False
    restarting = False
    """Whether it is to start once more when it has stopped."""
    was_ready = False

    def install_platform_tweaks(self, worker: Any) -> None:
        super().install_platform_tweaks(worker)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
            signal.signal(number, self._on_stop)
        signal.signal(signal.SIGHUP, signal.SIG_DFL)

    @property
    def told_to_stop(self) -> bool:
        """Whether it is to stop for good."""
        return (self._draining or self._ending) and not self.restarting

    def restart(self) -> None:
        """Stop in order, the jobs released, and start again in the same process."""
        self.restarting = True
        os.kill(os.getpid(), signal.SIGTERM)

    def _on_stop(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        # Honcho and a terminal both signal the whole group, so the same stop arrives more than once.
        if self._ending or (self._draining and number == signal.SIGTERM):
            return
        if number == signal.SIGTERM and self.drain_jobs_s and not self.restarting:
            self._draining = True
            self.drain.stop(self.drain_jobs_s, lambda: os.kill(os.getpid(), signal.SIGINT))
            return
        self._ending = True
        timer = threading.Timer(STOP_S, self._give_up)
        timer.daemon = True
        timer.start()
        # Now, as the deadline may leave no time for it. A signal's handler must not wait for Redis.
        threading.Thread(target=self.registration.stop, daemon=True).start()
        self._signal_pool(self.stop_signal)
        state.should_stop = os.EX_OK

    def _signal_pool(self, number: signal.Signals) -> None:
        for process in list(getattr(getattr(self.pool, "_pool", None), "_pool", ())):
            with suppress(ProcessLookupError, TypeError):
                os.kill(process.pid, number)

    def _give_up(self) -> None:
        """Kill the pool and exit. The subprocesses die with the pool's processes, and the jobs' leases
        run out."""
        self._signal_pool(signal.SIGKILL)
        # No exit handler runs from here on, and billiard's would have removed this.
        shutil.rmtree(get_temp_dir(), ignore_errors=True)
        if self.restarting:
            replace_process()
        os._exit(os.EX_OK)


def replace_process() -> NoReturn:
    """Become what was started here, with the same pid: whoever supervises it notices nothing. What is
    left of the pool is reaped first, as nobody will know of it afterwards."""
    deadline = time.monotonic() + REAP_S
    with suppress(ChildProcessError):
        while time.monotonic() < deadline:
            if os.waitpid(-1, os.WNOHANG) == (0, 0):
                time.sleep(0.02)
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def main() -> int:
    settings = load_or_exit()
    protect_data_dir_or_exit(settings)
    # It warns of root because of pickle, which this worker does not accept.
    warnings.simplefilter("ignore", SecurityWarning)
    configure(settings.log_level, settings.log_format)
    _check_redis(settings)
    _check_broker(settings)
    check_files(settings)
    about_sandbox = prepare_sandbox(settings)
    all_types = discover("worker.tasks", *settings.headway_tasks)
    try:
        types = select(all_types, settings)
    except ConfigError as error:
        print(f"headway: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    name = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
    app = make_app(settings, types, name, all_types.keys() - types.keys())
    queues = sorted({job_type.queue for job_type in types.values()})
    started_at = rfc3339(time.time() * 1000)
    store = make_store(settings)
    drain = Drain(store.pauses, name, settings.data_dir.resolve(), settings.min_free_bytes)
    registration = Registration(
        store,
        name,
        lambda: {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "concurrency": settings.worker_concurrency,
            "queues": queues,
            "sandbox": about_sandbox,
            "started_at": started_at,
            "dropped_messages": broker.drops.counts.total(),
            "disk_full": drain.disk_full,
        },
        {name: job_type.describe() for name, job_type in types.items()},
        settings.data_dir.resolve(),
        drain.look,
    )

    def start_registration(**_: object) -> None:
        registration.start()

    # Not earlier: a worker that counts as alive takes messages and handles SIGTERM.
    worker_ready.connect(start_registration)
    try:
        server = _serve(app, settings, types, registration, drain)
    finally:
        registration.stop()
    if server.told_to_stop:
        # Also if Celery has failed over that, as it does while the pool's processes start.
        return os.EX_OK
    if server.exitcode == EX_FAILURE and server.was_ready:
        logger.error("the worker ended by an error of its own, restarting")
        time.sleep(RESTART_PAUSE_S)
        server.restarting = True
    if server.restarting:
        replace_process()
    return int(server.exitcode or 0)


def _serve(
    app: Celery,
    settings: Settings,
    types: Mapping[str, JobType[Any]],
    registration: Registration,
    drain: Drain,
) -> Server:
    logger.info("serving %s with %d processes", ", ".join(types), settings.worker_concurrency)
    queues = sorted(
        {
            name
            for job_type in types.values()
            for name in (job_type.queue, broker.queue_of(job_type.queue, job_type.name))
        }
    )
    server = Server(
        app=app,
        hostname=f"headway-{os.getpid()}@{socket.gethostname()}",
        pool_cls="prefork",
        concurrency=settings.worker_concurrency,
        queues=queues,
        loglevel=settings.log_level,
        quiet=True,
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
    )
    server.registration, server.drain = registration, drain
    server.drain_jobs_s, server.stop_signal = settings.drain_jobs_s, stop_signal(settings)

    def restart() -> None:
        # First, as a worker with a dead connection may not stop in order either.
        registration.stop()
        server.restart()

    watchdog = BrokerWatchdog(
        headway.broker.connect(settings, timeout_s=CHECK_TIMEOUT_S),
        queues,
        settings.worker_concurrency,
        restart,
    )

    def start_watchdog(**_: object) -> None:
        server.was_ready = True
        watchdog.start()

    worker_ready.connect(start_watchdog)
    server.start()
    return server


def prepare_sandbox(settings: Settings) -> dict[str, Any]:
    """Return what `GET /workers` shows of the sandbox. Exit with status 2 and one line, if it is required
    and the kernel cannot make it; say in the log what is not as it should be."""
    missing = [] if settings.sandbox == "off" else sandbox.missing()
    if missing and settings.sandbox == "require":
        lacks = ", ".join(missing)
        print(
            f"headway: SANDBOX='require': this kernel (or container) has no {lacks}; see docs/security.md",
            file=sys.stderr,
        )
        raise SystemExit(2)
    if missing:
        logger.warning("encoders run without %s: see docs/security.md", ", ".join(missing))
    if settings.sandbox == "off":
        logger.warning("encoders run without a sandbox, as SANDBOX is off")
    with suppress(ffmpeg.FFmpegMissing):
        if old := release.warning(ffmpeg.locate("ffmpeg")):
            logger.warning("%s", old)
    return {"mode": settings.sandbox, "missing": missing}


def check_files(settings: Settings) -> None:
    """Exit with status 2 and one line, if the files here are not those of the other hosts, or the object
    storage refuses. One that cannot be reached is waited for by the jobs that need it.

    In a process of its own: obstore's threads do not outlive a fork, and the pool's processes are forked.
    """
    child = os.fork()
    if child == 0:
        try:
            problem = _problem_of_files(settings)
            if problem:
                print(f"headway: FILES_URL: {problem}", file=sys.stderr, flush=True)
            os._exit(2 if problem else 0)
        finally:
            os._exit(1)
    if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 2:
        raise SystemExit(2)


def _problem_of_files(settings: Settings) -> str:
    files = new_files(settings.files_url, settings.data_dir.resolve())
    store = make_store(settings)
    try:
        return identity_problem(files, store)
    except FilesRefused as error:
        return f"the object storage refuses: {error}"
    except (FilesUnavailable, redis.RedisError) as error:
        logger.warning("whether the files are those of the other hosts is not known: %s", error)
    except OSError as error:
        return f"the files cannot be read or written: {error.strerror or error}"
    finally:
        store.redis.close()
    return ""


def _check_redis(settings: Settings) -> None:
    """Exit with status 2 and one line, unless Redis takes writes, and the settings fit its layout."""
    store = JobStore.of(settings, connections=1, timeout_s=CHECK_TIMEOUT_S)
    try:
        store.database.check_writes()
    except LayoutError as error:
        print(f"headway: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except redis.RedisError as error:
        _exit_without("Redis", settings.redis_url, error)
    finally:
        store.servers.close()


def _check_broker(settings: Settings) -> None:
    """Exit with status 2 and one line, unless the broker answers."""
    connection = headway.broker.connect(settings, timeout_s=CHECK_TIMEOUT_S)
    try:
        connection.connect()
    except headway.broker.errors_of(connection) as error:
        _exit_without("the broker", settings.broker_url, error)
    finally:
        connection.release()


def _exit_without(what: str, url: str, error: BaseException) -> NoReturn:
    print(f"headway: {what} does not answer at {server_of(url)}: {error}", file=sys.stderr)
    raise SystemExit(2) from None

"""gunicorn's configuration; `python -m service web` starts it with this."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
import time
from typing import Any

from service.config import load_or_exit

_settings = load_or_exit()

bind = [
    f"[{_settings.host}]:{_settings.port}"
    if ":" in _settings.host
    else f"{_settings.host}:{_settings.port}"
]
workers = _settings.web_concurrency
worker_class = "gevent"
worker_connections = 20_000
backlog = 4096
keepalive = 75
timeout = 60
# The drain is over before this; what is left then is cut off.
graceful_timeout = max(1, round(_settings.drain_s) + 1)
# A list of hundreds of jobs is a long request line, and rubbish in Last-Event-ID has an answer.
limit_request_line = 0
limit_request_field_size = 65_536
control_socket_disable = True
loglevel = _settings.log_level.lower()

DRAIN_SHARE = 0.8
"""Of DRAIN_S in which the streams say goodbye; the rest is for their last bytes."""


# One directory for the counters of all workers; before any of them imports service.metrics.
_metrics = tempfile.mkdtemp(prefix="headway-metrics-")
os.environ["PROMETHEUS_MULTIPROC_DIR"] = _metrics

_drained = threading.Event()


def on_exit(server: Any) -> None:  # noqa: ARG001
    shutil.rmtree(_metrics, ignore_errors=True)


def child_exit(server: Any, worker: Any) -> None:  # noqa: ARG001
    """The gauges of a process that has gone count no more; its counters stay."""
    from prometheus_client import multiprocess

    multiprocess.mark_process_dead(worker.pid)  # type: ignore[no-untyped-call]


def post_worker_init(worker: Any) -> None:
    """Drain when the process is told to stop. gunicorn waits for requests, in vain for open streams,
    and not at all for the sockets that were handed over."""
    from service import wsgi

    def watch() -> None:
        while worker.alive:
            time.sleep(0.1)
        window_s = _settings.drain_s * DRAIN_SHARE
        worker.wsgi.extensions["headway"].hub.drain(window_s)
        wsgi.sockets.drain(window_s)
        _drained.set()

    threading.Thread(target=watch, name="drain", daemon=True).start()


def post_request(worker: Any, req: Any, environ: dict[str, Any], resp: Any) -> None:  # noqa: ARG001
    """A connection that was handed over has no next request."""
    if "headway.handed_over" in environ:
        req.must_close = True


def worker_exit(server: Any, worker: Any) -> None:  # noqa: ARG001
    _drained.wait(_settings.drain_s)

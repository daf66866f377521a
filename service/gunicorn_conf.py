"""gunicorn's configuration; `python -m service web` starts it with this."""

from __future__ import annotations

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


def post_worker_init(worker: Any) -> None:
    """Drain when the process is told to stop: gunicorn itself would wait for open streams, in vain."""

    def watch() -> None:
        while worker.alive:
            time.sleep(0.1)
        worker.wsgi.extensions["headway"].hub.drain(_settings.drain_s * DRAIN_SHARE)

    threading.Thread(target=watch, name="drain", daemon=True).start()

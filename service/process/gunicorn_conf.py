"""gunicorn's configuration; `python -m service web` starts it with this."""

from __future__ import annotations

import os
import resource
import shutil
import socket
import threading
import time
import warnings
from typing import Any

from gunicorn.glogging import Logger
from gunicorn.http import message, parser, wsgi

from headway.contract.settings import load_or_exit, protect_data_dir_or_exit
from service.api.auth import signing
from service.process import metrics_dir
from service.process.paced_socket import PacedSocket
from service.process.paced_worker import ConnectionLimit
from service.process.request_head import BoundedRequest

_settings = load_or_exit()
protect_data_dir_or_exit(_settings)

# A stream is a descriptor, and the usual soft limit is far below what the process can serve.
_soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (_hard, _hard))

bind = [
    f"[{_settings.host}]:{_settings.port}"
    if ":" in _settings.host
    else f"{_settings.host}:{_settings.port}"
]
workers = _settings.web_concurrency
worker_class = "service.process.paced_worker.PacedWorker"
worker_connections = 20_000
backlog = 4096
# Several processes that wait on one socket do not share: the one that is awake takes all. With a
# socket each, the kernel spreads the connections.
reuse_port = workers > 1
keepalive = 75
timeout = 60
# The drain is over before this; what is left then is cut off.
graceful_timeout = max(1, round(_settings.drain_s) + 1)
# gunicorn's own limit has no room for it.
limit_request_line = message.MAX_REQUEST_LINE = _settings.max_request_line_bytes
limit_request_fields = 40
limit_request_field_size = _settings.max_request_header_bytes // 2
parser.RequestParser.mesg_class = BoundedRequest
# Or a client could set SCRIPT_NAME, and get past a rule of the proxy's for a path.
forwarder_headers = ""
# What a proxy says is read by the gate, under every server: TRUSTED_PROXIES.
secure_scheme_headers: dict[str, str] = {}
control_socket_disable = True


class QuietLogger(Logger):  # type: ignore[misc]
    """gunicorn's, without its access log. It would make all parts of a line that nobody writes."""

    access_log_enabled = False


logger_class = QuietLogger
# Its lines of DEBUG have addresses in them, and what came of heads that broke off.
_gunicorn_level = "INFO" if _settings.log_level == "DEBUG" else _settings.log_level
logconfig_dict = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"ours": {"()": "headway.contract.logs.formatter", "style": _settings.log_format}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "ours"}},
    "root": {"handlers": ["stderr"], "level": _settings.log_level},
    "loggers": {
        "gunicorn.error": {"handlers": ["stderr"], "level": _gunicorn_level, "propagate": False},
    },
}

_default_headers = wsgi.Response.default_headers


def _without_server(response: Any) -> list[str]:
    return [line for line in _default_headers(response) if not line.startswith("Server:")]


wsgi.Response.default_headers = _without_server

DRAIN_SHARE = 0.8
"""Of DRAIN_S in which the streams say goodbye; the rest is for their last bytes."""


# One directory for the counters of all workers; before any of them imports service.metrics.
_metrics = metrics_dir.make()
os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(_metrics)

# Reading the keys of JWTs imports it, with PyJWT, before gevent patches ssl. Our own code fetches keys.
warnings.filterwarnings("ignore", r"Monkey-patching ssl .*NOT patched\): \['jwt\.jwks_client [^',]*'\]")

_drained = threading.Event()


def on_starting(server: Any) -> None:  # noqa: ARG001
    """The secrets are read here, so that workers of later have these if a file cannot be used then. A
    SECRET_FILE that is absent is made when it is needed."""
    if _settings.signing_secrets.exists():
        signing.reread(_settings.signing_secrets)
    _read_jwt_keys()


def on_reload(server: Any) -> None:  # noqa: ARG001
    """SIGHUP: the workers that come now have the secrets that the files have now."""
    signing.reread(_settings.signing_secrets)
    _read_jwt_keys()


def _read_jwt_keys() -> None:
    if "jwt" in _settings.auth and _settings.jwt_key_file is not None:
        # PyJWT is an extra.
        from service.api.auth import jwks

        jwks.reread(_settings.jwt_key_file, shared=_settings.jwt_algorithms.startswith("HS"))


def when_ready(server: Any) -> None:
    """Before the workers start: the master keeps the address, and takes no connections itself."""
    if reuse_port:
        for listener in server.LISTENERS:
            listener.sock.shutdown(socket.SHUT_RD)


def post_fork(server: Any, worker: Any) -> None:  # noqa: ARG001
    if reuse_port:
        for listener in worker.sockets:
            own = socket.socket(listener.FAMILY, socket.SOCK_STREAM)
            own.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            own.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            own.bind(listener.getsockname())
            own.listen(backlog)
            own.setblocking(False)
            listener.sock.close()
            listener.sock = own


def on_exit(server: Any) -> None:  # noqa: ARG001
    shutil.rmtree(_metrics, ignore_errors=True)


def child_exit(server: Any, worker: Any) -> None:  # noqa: ARG001
    """The gauges of a process that has gone count no more; its counters stay."""
    from prometheus_client import multiprocess

    multiprocess.mark_process_dead(worker.pid)  # type: ignore[no-untyped-call]


def post_worker_init(worker: Any) -> None:
    """Start the work in the background, and drain when the process is told to stop. gunicorn waits for
    requests, in vain for open streams, and not at all for the sockets that were handed over."""
    from headway import tracing
    from service.api.trusted_proxies import TrustedProxies
    from service.process import wsgi
    from service.process.refusals import Refusals

    PacedSocket.head_timeout_s = _settings.head_timeout_s
    PacedSocket.body_timeout_s = _settings.body_timeout_s
    worker.refusals = Refusals(audited=_settings.auth != "none")
    worker.connection_limit = ConnectionLimit(
        _settings.max_connections_per_caller, TrustedProxies(_settings.trusted_proxies).trusts
    )
    wsgi.start(wsgi.app)
    here = wsgi.app.extensions["headway"]

    def watch() -> None:
        while worker.alive:
            time.sleep(0.1)
        here.hub.drain()
        here.sockets.drain(_settings.drain_s * DRAIN_SHARE)
        tracing.flush()
        _drained.set()
        here.keeper.stop()

    threading.Thread(target=watch, name="drain", daemon=True).start()


def post_request(worker: Any, req: Any, environ: dict[str, Any], resp: Any) -> None:  # noqa: ARG001
    """A connection that was handed over has no next request."""
    if "headway.handed_over" in environ:
        req.must_close = True


def worker_exit(server: Any, worker: Any) -> None:  # noqa: ARG001
    _drained.wait(_settings.drain_s)

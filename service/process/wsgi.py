"""The WSGI entry point, `service.process.wsgi:app`, for gunicorn and any other WSGI server.

Importing it builds the application and starts nothing. `start` begins the work in the background, which
gunicorn_conf.py does in each worker process; under another server the first request does it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from flask import Flask

from headway import tracing
from headway.contract.logs import log_to_stderr
from headway.contract.settings import load_or_exit
from headway.loops import forever
from service import metrics
from service.api.app import create_app
from service.api.auth import audit
from service.api.context import Context
from service.api.gate import Gate
from service.api.many import ManyLoop
from service.api.socket_handover import HandOver
from service.process import gc_tuning
from service.scheduling.alarms import AlarmLoop
from service.scheduling.sweeper import Sweeper
from service.scheduling.webhooks import WebhookLoop

_starting = threading.Lock()


def start(app: Flask) -> None:
    """Start everything that works in the background of this process. Does nothing the second time."""
    if "headway.started" in app.extensions:
        return
    with _starting:
        if "headway.started" in app.extensions:
            return
        app.extensions["headway.started"] = True
        here: Context = app.extensions["headway"]
        settings = here.settings
        log_to_stderr(settings.log_level, settings.log_format)
        tracing.start("headway-web")
        audit.start()
        here.sockets.start()
        here.authentication.start()
        if here.authentication.required:
            audit.watch_keys(here.store.access)
        gc_tuning.start()
        _start_gauge(here)
        here.dispatch.start()
        here.keeper.start()
        AlarmLoop(here.store, here.keeper, here.dispatch, settings.lease_s, here.memory).start()
        ManyLoop(here).start()
        WebhookLoop(here.store, here.keeper, settings.webhook_allow).start()
        Sweeper(here.store, here.keeper, here.files, upload_ttl_s=settings.upload_ttl_s).start()


def _start_gauge(here: Context) -> None:
    """Copy to the metrics, once a second, what is counted without a lock."""
    sockets = here.sockets
    counters = metrics.STREAMS_OPENED, metrics.STREAMS_RESUMED, metrics.EVENTS_DELIVERED
    copied = 0, 0, 0

    def copy() -> None:
        nonlocal copied
        metrics.STREAMS_OPEN.set(here.limits.open)
        metrics.STREAMS_BEHIND.set(sockets.catching_up)
        counts = sockets.opened, sockets.resumed, sockets.delivered
        for counter, count, before in zip(counters, counts, copied, strict=True):
            counter.inc(count - before)
        copied = counts

    forever("gauge", copy, pause_s=1)


def _starting_with_a_request(wsgi_app: WSGIApplication, app: Flask) -> WSGIApplication:
    def serve(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        start(app)
        return wsgi_app(environ, start_response)

    return serve


app = create_app(load_or_exit())
app.wsgi_app = _starting_with_a_request(  # type: ignore[assignment]
    Gate(HandOver(app.wsgi_app, app.extensions["headway"]), app.extensions["headway"].settings), app
)

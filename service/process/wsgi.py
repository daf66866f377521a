"""The WSGI entry point, `service.process.wsgi:app`. gunicorn imports it in each worker process."""

from __future__ import annotations

import threading
import time

from headway.contract.logs import log_to_stderr
from headway.contract.settings import load_or_exit
from service import metrics
from service.api.app import create_app
from service.api.context import Context
from service.api.gate import Gate
from service.api.socket_handover import HandOver
from service.process import gc_tuning
from service.scheduling.alarms import AlarmLoop
from service.scheduling.sweeper import Sweeper
from service.streaming.sockets import Sockets, supported
from service.streaming.stream_limits import StreamLimits


def gauge(limits: StreamLimits, sockets: Sockets) -> None:
    """Hand on what is counted here without a lock, once a second."""
    delivered = 0
    while True:
        time.sleep(1)
        metrics.STREAMS_OPEN.set(limits.open)
        metrics.STREAMS_BEHIND.set(sockets.behind)
        metrics.EVENTS_DELIVERED.inc(sockets.delivered - delivered)
        delivered = sockets.delivered


settings = load_or_exit()
log_to_stderr(settings.log_level, settings.log_format)
app = create_app(settings)

_context: Context = app.extensions["headway"]
sockets = Sockets(_context.hub, _context.limits, settings.heartbeat_s)
if supported():
    sockets.start()
    app.wsgi_app = HandOver(app.wsgi_app, sockets, _context)  # type: ignore[method-assign]
app.wsgi_app = Gate(app.wsgi_app, settings)  # type: ignore[method-assign]
_context.hub.start()
gc_tuning.start()
threading.Thread(target=gauge, args=(_context.limits, sockets), name="gauge", daemon=True).start()
_context.dispatch.start()
AlarmLoop(_context.store, _context.dispatch, settings.lease_s).start()
Sweeper(_context.store, settings.data_dir, upload_ttl_s=settings.upload_ttl_s).start()

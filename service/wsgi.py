"""The entry point for WSGI servers: `service.wsgi:app`. gunicorn imports it in each worker process."""

from __future__ import annotations

import threading
import time

from service import garbage, metrics
from service.admission import Admission
from service.alarms import AlarmLoop
from service.app import create_app
from service.config import load_or_exit
from service.context import Context
from service.contract.logs import log_to_stderr
from service.handover import HandOver
from service.sockets import Sockets, supported


def gauge(admission: Admission, sockets: Sockets) -> None:
    """Hand on what is counted here without a lock, once a second."""
    delivered = 0
    while True:
        time.sleep(1)
        metrics.STREAMS_OPEN.set(admission.open)
        metrics.STREAMS_BEHIND.set(sockets.behind)
        metrics.EVENTS_DELIVERED.inc(sockets.delivered - delivered)
        delivered = sockets.delivered


settings = load_or_exit()
log_to_stderr(settings.log_level, settings.log_format)
app = create_app(settings)

_context: Context = app.extensions["headway"]
sockets = Sockets(_context.hub, _context.admission, settings.heartbeat_s)
if supported():
    sockets.start()
    app.wsgi_app = HandOver(app.wsgi_app, sockets, _context)  # type: ignore[method-assign]
_context.hub.start()
garbage.start()
threading.Thread(target=gauge, args=(_context.admission, sockets), name="gauge", daemon=True).start()
AlarmLoop(_context.store, _context.dispatch, settings.data_dir).start()

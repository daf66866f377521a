"""The entry point for WSGI servers: `service.wsgi:app`. gunicorn imports it in each worker process."""

from __future__ import annotations

from service.alarms import AlarmLoop
from service.app import create_app
from service.config import load_or_exit
from service.context import Context
from service.handover import HandOver
from service.logs import configure
from service.sockets import Sockets, supported

settings = load_or_exit()
configure(settings)
app = create_app(settings)

_context: Context = app.extensions["headway"]
sockets = Sockets(_context.hub, settings.heartbeat_s)
if supported():
    sockets.start()
    app.wsgi_app = HandOver(app.wsgi_app, sockets)  # type: ignore[method-assign]
_context.hub.start()
AlarmLoop(_context.store, _context.dispatch, settings.data_dir).start()

"""The entry point for WSGI servers: `service.wsgi:app`. gunicorn imports it in each worker process."""

from __future__ import annotations

from service.alarms import AlarmLoop
from service.app import create_app
from service.config import load_or_exit
from service.context import Context
from service.logs import configure

settings = load_or_exit()
configure(settings)
app = create_app(settings)

_context: Context = app.extensions["headway"]
_context.hub.start()
AlarmLoop(_context.store, _context.dispatch, settings.data_dir).start()

"""The Flask application."""

from __future__ import annotations

from flask import Flask

from headway.contract.settings import Settings
from headway.contract.store import JobStore
from service.api import artifacts, events, health, job_types, jobs, openapi, static, uploads, workers
from service.api.context import OWNER, Context
from service.api.problems import answer_problems
from service.scheduling.dispatch import Dispatch
from service.scheduling.fleet import Fleet
from service.scheduling.job_types import JobTypes
from service.streaming.hub import Hub
from service.streaming.poller import new_poller
from service.streaming.sockets import Sockets
from service.streaming.store_reader import WORKERS, StoreReader
from service.streaming.stream_limits import StreamLimits

STORE_CONNECTIONS = 32
"""Of one process. A request that needs one more waits for it."""

assert WORKERS < STORE_CONNECTIONS / 2, "readers that catch up must leave connections for requests"  # noqa: S101


def create_app(settings: Settings) -> Flask:
    """Returns an application with a store and a hub of its own. Its threads start with the first stream."""
    app = Flask(__name__, static_folder=None)
    store = JobStore.of(settings, connections=STORE_CONNECTIONS)
    hub = Hub(store)
    limits = StreamLimits(settings.max_streams, settings.max_streams_per_caller)
    app.extensions["headway"] = Context(
        settings,
        store,
        hub,
        Dispatch(settings),
        JobTypes(store),
        Fleet(store, OWNER),
        StoreReader(store),
        limits,
        Sockets(hub, limits, settings.heartbeat_s, new_poller()),
    )
    answer_problems(app)
    for resource in (jobs, events, job_types, workers, uploads, artifacts, health, openapi, static):
        app.register_blueprint(resource.bp)
    return app

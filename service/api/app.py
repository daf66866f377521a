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
from service.streaming.store_reader import StoreReader
from service.streaming.stream_limits import StreamLimits

STORE_CONNECTIONS = 32
"""Of one process. A request that needs one more waits for it."""


def create_app(settings: Settings) -> Flask:
    """An application with a store and a hub of its own; `start` begins what works in the background."""
    app = Flask(__name__, static_folder=None)
    store = JobStore.of(settings, connections=STORE_CONNECTIONS)
    app.extensions["headway"] = Context(
        settings,
        store,
        Hub(store),
        Dispatch(settings),
        JobTypes(store),
        Fleet(store, OWNER),
        StoreReader(store),
        StreamLimits(settings.max_streams, settings.max_streams_per_caller),
    )
    answer_problems(app)
    for resource in (jobs, events, job_types, workers, uploads, artifacts, health, openapi, static):
        app.register_blueprint(resource.bp)
    return app

"""The Flask application."""

from __future__ import annotations

from flask import Flask, Response, request

from headway.contract.files import new_files
from headway.contract.settings import Settings
from headway.contract.store import JobStore
from service.api import (
    artifacts,
    attempts,
    claims,
    events,
    groups,
    health,
    job_types,
    jobs,
    many,
    messages,
    openapi,
    session,
    static,
    submissions,
    tickets,
    uploads,
    webhooks,
    workers,
)
from service.api.auth import audit
from service.api.auth.authentication import Authentication
from service.api.auth.roles import PUBLIC, ROUTES
from service.api.context import Context
from service.api.files_check import FilesCheck
from service.api.problems import Problem, answer_problems
from service.api.upload_quota import UploadQuota
from service.scheduling.blocking import file_threads
from service.scheduling.dispatch import Dispatch
from service.scheduling.fleet import Fleet
from service.scheduling.job_types import JobTypes
from service.scheduling.keeper import Keeper
from service.scheduling.store_memory import StoreMemory
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
    # No redirects: their address would have the host in it, and the query with its ticket.
    app.url_map.merge_slashes = False
    store = JobStore.of(settings, connections=STORE_CONNECTIONS)
    files = new_files(settings.files_url, settings.data_dir, run=file_threads())
    hub = Hub(store)
    types = JobTypes(store)
    given = settings.model_fields_set
    # Without authentication all have one owner.
    one_owner = settings.auth == "none" and "max_streams_per_owner" not in given
    limits = StreamLimits(
        settings.max_streams,
        settings.max_streams_per_caller,
        0 if one_owner else settings.max_streams_per_owner,
        spare_local="max_streams_per_caller" not in given,
    )
    app.extensions["headway"] = Context(
        settings,
        store,
        files,
        FilesCheck(files, store),
        Authentication(settings, store),
        hub,
        Dispatch(settings),
        Keeper(store),
        types,
        Fleet(store, types),
        StoreReader(store),
        UploadQuota(files, store, settings.upload_quota_bytes),
        limits,
        Sockets(hub, limits, settings.heartbeat_s, new_poller()),
        StoreMemory(store),
    )
    answer_problems(app)
    _authorize_all(app)
    if settings.auth != "none":
        audit.watch(app)
    for resource in (
        submissions,
        jobs,
        events,
        groups,
        job_types,
        many,
        messages,
        workers,
        uploads,
        artifacts,
        claims,
        attempts,
        webhooks,
        session,
        tickets,
        health,
        openapi,
        static,
    ):
        app.register_blueprint(resource.bp)
    return app


def _authorize_all(app: Flask) -> None:
    @app.before_request
    def authorize() -> Response | None:
        method = "GET" if request.method == "HEAD" else request.method
        # Flask answers what matches no route, and OPTIONS, by itself.
        if request.url_rule is None or method == "OPTIONS":
            return None
        route = f"{method} {request.url_rule.rule}"
        if ROUTES.get(route) != PUBLIC:
            here: Context = app.extensions["headway"]
            try:
                here.authentication.authorize(request.environ, route)
            except Problem as error:
                # An error status would stop a browser's EventSource for good.
                if error.status == 503 and request.endpoint in events.STREAMS and not events.wants_json():
                    return events.come_back()
                raise
        return None

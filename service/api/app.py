"""The Flask application."""

from __future__ import annotations

import json
from typing import Any

from apiflask import APIFlask
from flask import Response, request
from flask.json.provider import DefaultJSONProvider

from headway.contract.settings import Settings
from headway.contract.store import JobStore
from service.api import events, files, health, job_types, jobs, openapi, static, workers
from service.api.context import OWNER, Context
from service.api.problems import Problem, answer_problems
from service.scheduling.dispatch import Dispatch
from service.scheduling.fleet import Fleet
from service.scheduling.job_types import JobTypes
from service.streaming.hub import Hub
from service.streaming.store_reader import StoreReader
from service.streaming.stream_limits import StreamLimits

MAX_BODY_BYTES = 1 << 20
"""Of a JSON body."""
STORE_CONNECTIONS = 32
"""Of one process; who needs one more waits for it."""


class StrictJSON(DefaultJSONProvider):
    """JSON as RFC 8259 has it: Python would also read NaN and Infinity."""

    def loads(self, s: str | bytes, **kwargs: Any) -> Any:
        try:
            return json.loads(s, parse_constant=_no_constant, **kwargs)
        except RecursionError:
            raise ValueError("nested too deeply") from None


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def create_app(settings: Settings) -> APIFlask:
    """An application with a store and a hub of its own; `start` begins what works in the background."""
    app = APIFlask(
        __name__,
        title="Headway",
        version="0.1.0",
        json_errors=False,
        docs_path="/docs",
        spec_path="/openapi.json",
    )
    app.json = StrictJSON(app)
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
    openapi.describe(app)
    for blueprint in (jobs.bp, events.bp, job_types.bp, workers.bp, files.bp, health.bp, static.bp):
        app.register_blueprint(blueprint)

    @app.before_request
    def _bound_the_body() -> None:
        if request.endpoint in ("files.upload", "files.upload_named"):
            return
        # One byte more, or a chunked body would be cut at the limit without a word.
        request.max_content_length = MAX_BODY_BYTES + 1
        if request.endpoint == "jobs.submit":
            if request.mimetype != "application/json":
                # A web page elsewhere can send any other type without asking.
                raise Problem(415, "send the job as application/json")
            if len(request.get_data()) > MAX_BODY_BYTES:
                raise Problem(413, f"the body is larger than {MAX_BODY_BYTES} bytes")

    @app.after_request
    def _secure(response: Response) -> Response:
        response.headers.setdefault("X-Content-Type-Options", "nosniff")
        response.headers.setdefault("Referrer-Policy", "same-origin")
        return response

    return app

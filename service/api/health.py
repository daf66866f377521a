"""GET /healthz, /readyz and /metrics."""

from __future__ import annotations

import redis
from apiflask import APIBlueprint
from flask import Response

from headway.contract.encoding import dumps
from service import metrics
from service.api.context import context
from service.api.problems import Problem
from service.streaming.primitives import time_limit

PING_S = 1.0
"""A store that takes longer to answer is not one to send readers to."""

bp = APIBlueprint("health", __name__, tag="Operations")


@bp.get("/healthz")
@bp.doc(summary="The process is alive")
def healthz() -> Response:
    return Response(dumps({"status": "alive"}), mimetype="application/json")


@bp.get("/readyz")
@bp.doc(summary="The process is able to serve", responses={503: "draining, or cut off from the store"})
def readyz() -> Response:
    here = context()
    if here.hub.draining:
        raise Problem(503, "draining")
    if not here.hub.connected:
        raise Problem(503, "the hub has no connection to Redis")
    answered = False
    try:
        with time_limit(PING_S):
            answered = here.store.redis.ping()
    except redis.RedisError:
        pass
    if not answered:
        raise Problem(503, "the store cannot be reached")
    return Response(dumps({"status": "ready"}), mimetype="application/json")


@bp.get("/metrics")
@bp.doc(summary="Metrics for Prometheus, of all processes of this web service")
def metrics_page() -> Response:
    return Response(metrics.exposition(), content_type=metrics.CONTENT_TYPE)

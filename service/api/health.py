"""GET /healthz, /readyz and /metrics."""

from __future__ import annotations

from contextlib import suppress
from typing import Literal

import redis
from flask import Response
from pydantic import BaseModel

from headway.contract.encoding import dumps
from service import metrics
from service.api.context import context
from service.api.operation import Answer, Resource
from service.api.problems import Problem
from service.streaming.primitives import time_limit

PING_S = 1.0
"""A store that takes longer to answer is not one to send readers to."""

bp = Resource("health", "Operations")


class Alive(BaseModel):
    status: Literal["alive"]


class Ready(BaseModel):
    status: Literal["ready"]


@bp.operation("GET", "/healthz", answers={200: Answer.json("it is", Alive)}, store=False)
def healthz() -> Response:
    """Whether the process is alive."""
    return Response(dumps({"status": "alive"}), mimetype="application/json")


@bp.operation(
    "GET",
    "/readyz",
    answers={200: Answer.json("it is", Ready)},
    problems={503: "it is draining, or cut off from Redis"},
)
def readyz() -> Response:
    """Whether the process is able to serve."""
    here = context()
    if here.hub.draining:
        raise Problem(503, "the process is stopping; its streams are being handed to others")
    if not here.hub.connected:
        raise Problem(503, "the streams have no connection to Redis; it is tried again all the time")
    answered = False
    try:
        with time_limit(PING_S):
            answered = here.store.redis.ping()
    except redis.RedisError:
        pass
    if not answered:
        raise Problem(503, f"Redis did not answer within {PING_S:g} s")
    return Response(dumps({"status": "ready"}), mimetype="application/json")


@bp.operation(
    "GET",
    "/metrics",
    answers={200: Answer("the metrics", {"text/plain": {"type": "string"}})},
    store=False,
)
def get_metrics() -> Response:
    """Metrics for Prometheus, of all processes of this web service."""
    dropped: dict[str, int] = {}
    with suppress(redis.RedisError), time_limit(PING_S):
        dropped = {worker.name: worker.dropped_messages for worker in context().store.registry.workers()}
    return Response(metrics.exposition(dropped), content_type=metrics.CONTENT_TYPE)

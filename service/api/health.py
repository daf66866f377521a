"""GET /healthz, /readyz and /metrics."""

from __future__ import annotations

import logging
from collections.abc import Collection
from contextlib import suppress
from typing import Literal

import redis
from flask import Response
from pydantic import BaseModel

from headway.contract.encoding import dumps
from service import metrics
from service.api.context import caller, context
from service.api.operation import Answer, Resource
from service.api.problems import Problem
from service.scheduling.store_metrics import StoreMetrics
from service.streaming.primitives import time_limit

log = logging.getLogger(__name__)

WRITE_S = 1.0
"""A store that takes longer for a write is not one to send readers to."""

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
    problems={503: "it is draining, cut off from Redis, or its files are not those of the other hosts"},
)
def readyz() -> Response:
    """Whether the process is able to serve."""
    here = context()
    if here.hub.draining:
        raise Problem(503, "the process is stopping; its streams are being handed to others")
    if not here.hub.connected:
        raise Problem(503, "the streams have no connection to Redis; it is tried again all the time")
    why = f"Redis did not answer within {WRITE_S:g} s"
    try:
        with time_limit(WRITE_S):
            here.store.database.check_writes()
            why = ""
    except redis.OutOfMemoryError:
        why = "Redis is full"
    except redis.RedisError as error:
        # What it says is not for everybody: it may hold addresses, names and commands.
        log.warning("the process is not ready: %s", error)
        why = "Redis cannot be reached, or what is there takes no writes; the log has the reason"
    if why:
        raise Problem(503, why)
    if problem := here.files_check.problem():
        raise Problem(503, problem)
    return Response(dumps({"status": "ready"}), mimetype="application/json")


@bp.operation(
    "GET",
    "/metrics",
    answers={200: Answer("the metrics", {"text/plain": {"type": "string"}})},
    store=False,
)
def get_metrics() -> Response:
    """Metrics for Prometheus, of all processes of this web service.

    The types of other owners are counted together, as `other`, unless the caller has the role `ops:all`.
    """
    here, who = context(), caller()
    of_store: list[StoreMetrics] = []
    types: Collection[str] | None = None if who.sees_only is None else ()
    with suppress(redis.RedisError), time_limit(WRITE_S):
        of_store.append(StoreMetrics.read(here.store))
        if types is not None:
            types = here.types.all(who.owner).keys() | here.store.listings.counts(who.owner).keys()
    return Response(metrics.exposition(*of_store, types=types), content_type=metrics.CONTENT_TYPE)

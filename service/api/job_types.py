"""GET /types."""

from __future__ import annotations

from apiflask import APIBlueprint
from flask import Response

from headway.contract.encoding import dumps
from service.api.context import context

bp = APIBlueprint("types", __name__, tag="Job types")


@bp.get("/types")
@bp.doc(
    summary="The job types", responses={200: "name, title, queue, JSON Schema of the parameters, alive"}
)
def types() -> Response:
    items = [
        {"name": t.name, "title": t.title, "queue": t.queue, "params": t.params, "alive": t.alive}
        for t in context().types.all(fresh=True).values()
    ]
    return Response(dumps({"items": items}), mimetype="application/json")

"""GET /types."""

from __future__ import annotations

from typing import Annotated, Any

from flask import Response
from pydantic import BaseModel, Field

from headway.contract.encoding import dumps
from service.api.context import caller, context
from service.api.operation import Answer, Resource

bp = Resource("types", "Job types")


class JobType(BaseModel):
    """A job type. `alive`: whether a worker that serves it is."""

    name: str
    title: str
    queue: str
    params: Annotated[dict[str, Any], Field(description="JSON Schema (2020-12) of its parameters")]
    alive: bool


class JobTypes(BaseModel):
    items: list[JobType]


@bp.operation("GET", "/types", answers={200: Answer.json("the types", JobTypes)})
def list_types() -> Response:
    """The job types, with the JSON Schema of their parameters: the workers' and the caller's own."""
    known = context().types.all(caller().owner, fresh=True)
    items = [{name: getattr(known[key], name) for name in JobType.model_fields} for key in sorted(known)]
    return Response(dumps({"items": items}), mimetype="application/json")

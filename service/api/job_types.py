"""GET /types."""

from __future__ import annotations

from typing import Annotated, Any

from flask import Response
from pydantic import BaseModel, Field

from headway.contract.encoding import dumps
from service.api.context import caller, context
from service.api.operation import Answer, Resource
from service.scheduling.fleet import View
from service.scheduling.job_types import JobType as Known

bp = Resource("types", "Job types")


class JobType(BaseModel):
    """A job type. `alive`: whether a worker that serves it is. `paused`: whether its jobs, or all of its
    queue, are claimed by none until an operator resumes them."""

    name: str
    title: str
    queue: str
    params: Annotated[dict[str, Any], Field(description="JSON Schema (2020-12) of its parameters")]
    alive: bool
    paused: bool


class JobTypes(BaseModel):
    items: list[JobType]


def described(known: Known, view: View) -> dict[str, Any]:
    """Return the document of a type."""
    paused = view.why_paused(known.name, known.queue) is not None
    return {
        **{name: getattr(known, name) for name in JobType.model_fields if name != "paused"},
        "paused": paused,
    }


@bp.operation("GET", "/types", answers={200: Answer.json("the types", JobTypes)})
def list_types() -> Response:
    """The job types, with the JSON Schema of their parameters: the workers' and the caller's own."""
    here = context()
    known = here.types.all(caller().owner, fresh=True)
    view = here.fleet.view(caller().owner, fresh=True)
    items = [described(known[name], view) for name in sorted(known)]
    return Response(dumps({"items": items}), mimetype="application/json")

"""The /groups endpoints."""

from __future__ import annotations

from contextlib import suppress
from typing import Annotated

from flask import Response
from flask.blueprints import BlueprintSetupState
from pydantic import BaseModel, ConfigDict, Field
from werkzeug.routing import PathConverter

from headway.contract.records import MAX_LABEL_CHARS, Group, is_name
from service.api.context import caller, context
from service.api.jobs import CannotRepeat, again, retry_once
from service.api.names import Name
from service.api.operation import Answer, Resource, json_answer
from service.api.problems import Problem
from service.api.submissions import create, refuse_when_full

bp = Resource("groups", "Groups")


class GroupName(PathConverter):
    """Any name but one that would be the path of an action on another group."""

    regex = r"(?!.*/(?:cancel|retry)$)[^/].*?"


def _know_group_names(state: BlueprintSetupState) -> None:
    state.app.url_map.converters["group"] = GroupName


bp.record_once(_know_group_names)

_NO_GROUP = {404: "there is no such group"}


class GroupSettings(BaseModel):
    """The body of PUT /groups/{group}: all of its settings."""

    model_config = ConfigDict(extra="forbid")

    expected: Annotated[int, Field(ge=1, le=10_000_000)] | None = None
    """How many jobs the group will have. It ends when so many have ended; without it never."""
    title: Name | None = None


def _find(group: str) -> bytes:
    """Return a group of the caller's. Raises Problem."""
    who = caller()
    who.check_group(group)
    found = context().store.groups.get(who.owner, group)
    if found is None:
        raise Problem(404, f"there is no group {group[:MAX_LABEL_CHARS]!r}")
    return found


@bp.operation(
    "GET", "/groups/<group:group>", answers={200: Answer.json("the group", Group)}, problems=_NO_GROUP
)
def get_group(group: str) -> Response:
    """One group: its jobs by state, and how much of them is done."""
    return json_answer(_find(group))


@bp.operation(
    "PUT",
    "/groups/<group:group>",
    body=GroupSettings,
    answers={200: Answer.json("the group", Group)},
)
def put_group(group: str, body: GroupSettings) -> Response:
    """Say how many jobs a group will have, and what it is called."""
    who = caller()
    who.check_group(group)
    if not is_name(group):
        detail = f"a group's name has 1 to {MAX_LABEL_CHARS} characters and no control characters"
        raise Problem(422, detail, errors=[("", detail)])
    refuse_when_full(context())
    groups = context().store.groups
    return json_answer(groups.put(who.owner, group, expected=body.expected, title=body.title))


@bp.operation(
    "POST",
    "/groups/<path:group>/cancel",
    answers={
        202: Answer.json("the group, whose live jobs are canceled or about to be", Group),
        200: Answer.json("the group, none of whose jobs was live", Group),
    },
    problems=_NO_GROUP,
)
def cancel_group(group: str) -> Response:
    """Cancel all live jobs of a group."""
    _find(group)
    canceled = context().store.groups.cancel(caller().owner, group)
    return json_answer(_find(group), 202 if canceled else 200)


@bp.operation(
    "POST",
    "/groups/<path:group>/retry",
    answers={
        202: Answer.json("the group, with the new jobs in place of those they repeat", Group),
        200: Answer.json("the group, which has nothing to retry", Group),
    },
    problems={
        **_NO_GROUP,
        429: "the owner submits too fast or has too many live jobs; ask again for the rest",
        503: "Redis cannot be reached, or it or the disk is nearly full",
    },
)
def retry_group(group: str) -> Response:
    """Submit all failed and canceled jobs of a group again, each as a new job that takes its place.

    Whoever asks again gets no job twice: a job that was replaced is not submitted again.
    """
    here = context()
    _find(group)
    refuse_when_full(here)
    made = 0
    for job_id in here.store.groups.to_retry(caller().owner, group):
        page = here.store.read(job_id, None, 0)
        if page is not None and page.ended:
            with suppress(CannotRepeat):
                made += create(here, again(here, page), retry_once(job_id))[2]
    return json_answer(_find(group), 202 if made else 200)

"""Operation: what happens between a request and its view."""

from __future__ import annotations

import inspect
import json
import sys
from typing import Any

from flask import Flask, Response
from pydantic import BaseModel, ConfigDict

from service.api.operation import JSON, Resource
from service.api.problems import answer_problems


class Empty(BaseModel):
    model_config = ConfigDict(extra="forbid")


def test_neither_a_body_that_does_not_fit_nor_its_faults_are_held_while_hints_are_looked_up() -> None:
    held: list[Any] = []

    def hints() -> dict[str, Any]:
        # Others may have to wait here, each with a body of its own.
        held.append(sys.exc_info()[1])
        held.extend(
            value for frame in inspect.stack() if (value := frame.frame.f_locals.get("body")) == BODY
        )
        return {"known_types": ["a"]}

    app, resource = Flask(__name__), Resource("r", "R")
    answer_problems(app)

    @resource.operation("POST", "/", {}, body=Empty, hints=hints)
    def view(body: Empty) -> Response:
        raise AssertionError

    app.register_blueprint(resource)
    answer = app.test_client().post("/", data=json.dumps(BODY), content_type=JSON)
    assert (answer.status_code, answer.get_json()["known_types"]) == (422, ["a"])
    assert answer.get_json()["errors"][0]["pointer"] == "/key 0"
    assert held == [None]


BODY = {f"key {i}": i for i in range(50)}

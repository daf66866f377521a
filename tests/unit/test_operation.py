"""Operation: what happens between a request and its view."""

from __future__ import annotations

import inspect
import json
import sys
from typing import Any, Self

import pytest
from flask import Flask, Response
from pydantic import BaseModel, ConfigDict, model_validator

from service.api.operation import JSON, MAX_BODY_BYTES, Resource
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


def test_others_have_their_turn_between_the_steps_of_a_large_body(monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[str] = []
    monkeypatch.setattr("service.api.operation.give_way", lambda: steps.append("others"))

    class Steps(BaseModel):
        @model_validator(mode="after")
        def _validated(self) -> Self:
            steps.append("validated")
            return self

    app, resource = Flask(__name__), Resource("r", "R")
    for path, most in (("/large", MAX_BODY_BYTES + 1), ("/small", MAX_BODY_BYTES)):

        def view(body: Steps) -> Response:
            steps.append("view")
            return Response()

        view.__name__ = path[1:]
        resource.operation("POST", path, {}, body=Steps, max_body=most)(view)
    app.register_blueprint(resource)
    for path in ("/large", "/small"):
        assert app.test_client().post(path, data="{}", content_type=JSON).status_code == 200
    assert steps == ["others", "validated", "others", "view", "validated", "view"]

"""The OpenAPI document, held against the URL map and the records."""

from __future__ import annotations

from typing import Any

import pytest
from openapi_spec_validator import validate

from headway.contract.events import EventType
from headway.contract.records import DOCUMENT, Job
from headway.contract.settings import load
from service.api.app import create_app
from service.api.openapi import document
from service.api.operation import Operation

APP = create_app(load({"REDIS_URL": "redis://127.0.0.1:1"}))
PAGES = {"/", "/web/<path:name>", "/docs", "/docs/<path:name>", "/openapi.json"}
"""Routes that are no operations of the API."""


@pytest.fixture(scope="module")
def spec() -> dict[str, Any]:
    return document(APP)


def operations(spec: dict[str, Any]) -> list[dict[str, Any]]:
    return [operation for item in spec["paths"].values() for operation in item.values()]


def test_the_document_is_valid(spec: dict[str, Any]) -> None:
    validate(spec)
    assert spec["openapi"].startswith("3.1")


def test_every_route_is_an_operation_of_the_document_or_a_page() -> None:
    for rule in APP.url_map.iter_rules():
        is_operation = isinstance(APP.view_functions[rule.endpoint], Operation)
        assert is_operation != (rule.rule in PAGES), rule.rule


def test_operations_have_ids_of_their_own_and_say_what_they_do(spec: dict[str, Any]) -> None:
    ids = [operation["operationId"] for operation in operations(spec)]
    assert len(set(ids)) == len(ids) >= 15
    assert all(operation["summary"] for operation in operations(spec))


def test_every_refusal_is_a_problem(spec: dict[str, Any]) -> None:
    problem = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/ProblemDocument"}}}
    for operation in operations(spec):
        refusals = {s: r for s, r in operation["responses"].items() if s >= "4"}
        assert "403" in refusals
        assert all(refusal["content"] == problem for refusal in refusals.values())
    submit = spec["paths"]["/jobs"]["post"]
    assert set(submit["responses"]) == {
        "202",
        "200",
        "400",
        "401",
        "403",
        "408",
        "409",
        "413",
        "415",
        "421",
        "422",
        "429",
        "503",
    }
    assert submit["requestBody"]["required"] is True


def test_each_model_is_one_component(spec: dict[str, Any]) -> None:
    names = list(spec["components"]["schemas"])
    assert not [name for name in names if "__" in name or "-" in name], "two classes of one name"
    used = str(spec)
    assert all(used.count(f"#/components/schemas/{name}'") for name in names if name != "StreamEvent")


def test_the_job_of_the_document_is_the_record(spec: dict[str, Any]) -> None:
    job = spec["components"]["schemas"]["Job"]
    assert tuple(job["properties"]) == DOCUMENT
    assert tuple(job["required"]) == tuple(Job.model_fields)
    answer = spec["components"]["schemas"]["JobAnswer"]
    assert set(answer["properties"]) == {*DOCUMENT, "waiting_reason", "children"}


def test_every_event_of_a_stream_has_a_schema(spec: dict[str, Any]) -> None:
    mapping = spec["components"]["schemas"]["StreamEvent"]["discriminator"]["mapping"]
    assert set(mapping) == {*EventType, "heartbeat"}
    for path in ("/events", "/jobs/{job_id}/events"):
        content = spec["paths"][path]["get"]["responses"]["200"]["content"]
        assert content["text/event-stream"]["x-itemSchema"] == {"$ref": "#/components/schemas/StreamEvent"}


def test_parameters_are_those_of_the_models_and_never_null(spec: dict[str, Any]) -> None:
    listing = {p["name"]: p for p in spec["paths"]["/jobs"]["get"]["parameters"]}
    assert set(listing) == {*("state", "type", "group", "label", "older_s", "owner", "limit", "cursor")}
    assert listing["state"]["schema"] == {"$ref": "#/components/schemas/State"}
    assert listing["limit"]["schema"] == {"type": "integer", "minimum": 1, "maximum": 500, "default": 50}
    headers = [p["name"] for p in spec["paths"]["/jobs"]["post"]["parameters"] if p["in"] == "header"]
    assert headers == ["Idempotency-Key", "traceparent", "tracestate"]

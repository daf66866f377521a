"""The reducer, by the cases that it shares with the browser's (tests/web/cases)."""

from __future__ import annotations

import copy
import functools
import json
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest

from headway.client.job import Artifact, Event, Job, newer, order, reduce
from headway.contract import records

CASES = Path(__file__).parent.parent / "web" / "cases"
REDUCE = json.loads((CASES / "reduce.json").read_text())
IDS = json.loads((CASES / "ids.json").read_text())


@pytest.mark.parametrize("case", REDUCE["cases"], ids=lambda case: case["name"])
def test_events_make_of_a_job_what_the_cases_say(case: dict[str, Any]) -> None:
    job = None if case["job"] is None else {**REDUCE["base"], **case["job"]}
    wanted = None if case["expect"] is None else {**(job or REDUCE["base"]), **case["expect"]}
    given = copy.deepcopy(job)
    found = functools.reduce(reduce, (Event(**event) for event in case["events"]), job)
    assert found == wanted
    assert job == given, "the job that was given is left alone"
    if job and case["expect"] == {}:
        assert found is job, "no change is the same object"


@pytest.mark.parametrize("case", IDS["cases"], ids=lambda case: f"{case['a']} {case['b']}")
def test_ids_compare_as_the_cases_say(case: dict[str, Any]) -> None:
    a, b = order(case["a"]), order(case["b"])
    assert (a > b) - (a < b) == case["expect"]


def test_of_two_documents_the_newer_is_kept_whichever_was_read_first() -> None:
    older = {**REDUCE["base"], "last_event_id": "1000-5"}
    later = {**REDUCE["base"], "last_event_id": "1000-12"}
    assert newer(older, later) is newer(later, older) is later
    assert newer(None, older) is older


@pytest.mark.parametrize(("typed", "record"), [(Job, records.Job), (Artifact, records.Artifact)])
def test_a_typed_dict_has_the_fields_of_the_services_record(typed: Any, record: Any) -> None:
    # What only some answers have.
    assert set(typed.__annotations__) - {"waiting_reason", "children"} == set(record.model_fields)
    for name, field in record.model_fields.items():
        optional = type(None) in get_args(field.annotation)
        hint = get_type_hints(typed)[name]
        assert hint is Any or optional == (type(None) in get_args(hint)), name

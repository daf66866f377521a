"""The job types: what a form and the service's validation are made from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from pydantic import ValidationError

import worker
from headway.sdk.job_type import DuplicateJobType, JobType, Params, discover, job
from worker.tasks.video_encode import EncodeParams

TYPES = discover("worker.tasks")


@pytest.mark.parametrize("job_type", TYPES.values(), ids=list(TYPES))
def test_each_parameter_has_what_a_form_needs(job_type: JobType[Any]) -> None:
    described = json.loads(job_type.describe())
    assert set(described) == {"name", "title", "queue", "params", "max_attempts"}
    schema = described["params"]
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["additionalProperties"] is False
    assert "$defs" not in schema, "a form does not follow references"
    for name, field in schema["properties"].items():
        assert field["title"], name
        assert field["description"], name
        for option in field.get("anyOf", [field]):
            if option["type"] in ("integer", "number"):
                assert {"minimum", "exclusiveMinimum"} & set(option), name
                assert "maximum" in option, name


@pytest.mark.parametrize("job_type", TYPES.values(), ids=list(TYPES))
def test_schema_and_model_agree_on_the_defaults(job_type: JobType[Any]) -> None:
    given = {"input": "sample:1"} if "input" in job_type.params.model_fields else {}
    full = job_type.params.model_validate(given).model_dump()
    jsonschema.validate(full, json.loads(job_type.describe())["params"])


def test_a_job_type_is_one_file_in_tasks() -> None:
    files = {path.stem for path in (Path(worker.__file__).parent / "tasks").glob("[!_]*.py")}
    assert files == {name.replace(".", "_") for name in TYPES}
    assert {t.queue for t in TYPES.values()} == {"default", "file", "video"}


def test_two_tasks_cannot_have_one_name() -> None:
    with pytest.raises(DuplicateJobType):
        job("simulate", params=Params, title="Again")(lambda job: None)


def test_encode_params_are_checked() -> None:
    for wrong in (
        {"input": "http://example.com/x.mp4"},
        {"input": "sample:1", "preset": "flv"},
        {"input": "sample:1", "width": 641},
        {"input": "sample:1", "height": 0},
        {"input": "sample:1", "crf": 64},
        {"input": "sample:1", "start_s": -1},
        {"input": "sample:1", "duration_s": 0},
        {"input": "sample:1", "duration_s": float("nan")},
        {"input": "sample:1", "threads": 8},
        {},
    ):
        with pytest.raises(ValidationError):
            EncodeParams.model_validate(wrong)

"""The OpenAPI document as others use it: a fuzzer, and generators of clients, on the real service."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from headway.contract.states import State
from tests.support import credentials
from tests.support.fake_worker import claim, log, progress
from tests.support.npm import package
from tests.support.sse import Reader
from tests.support.stack import Stack

pytestmark = pytest.mark.long

HERE = Path(__file__).parent
TYPE = {
    "name": "simulate",
    "title": "Nobody works on it",
    "queue": "nobody",
    "params": {"type": "object", "properties": {"duration_s": {"type": "number"}}},
}


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    stack = Stack(
        tmp_path_factory.mktemp("openapi"), DRAIN_S="0", HEARTBEAT_S="0.2", MAX_UPLOAD_BYTES="100000"
    )
    try:
        stack.start_web()
        stack.store.registry.register("worker", {"simulate": json.dumps(TYPE)}, 3600)
        yield stack
    finally:
        stack.close()


@pytest.fixture
def document(web: Stack, tmp_path: Path) -> Path:
    path = tmp_path / "openapi.json"
    path.write_bytes(web.call("GET", "/openapi.json")[2])
    return path


def run(*command: str | Path, cwd: Path, **environ: str) -> str:
    environ = {**os.environ, **environ}
    ran = subprocess.run(command, cwd=cwd, env=environ, capture_output=True, text=True, timeout=200)
    assert ran.returncode == 0, ran.stdout[-8000:] + ran.stderr[-4000:]
    return ran.stdout


def test_schemathesis_finds_nothing_in_any_operation(web: Stack) -> None:
    web.call("POST", f"/jobs/{web.submit('simulate', {})['id']}/cancel")
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "run", f"{web.url}/openapi.json", "--seed", "1"),
        *("--phases", "coverage,fuzzing,stateful", "--max-examples", "6", "--max-time", "60"),
        *(
            "--header",
            credentials.LINE,
            "--request-timeout",
            "10",
            "--workers",
            "2",
            "--warnings",
            "off",
            "--no-color",
        ),
    ]
    places = {"PYTHONPATH": str(HERE / "schemathesis"), "SCHEMATHESIS_HOOKS": "hooks"}
    try:
        said = run(*command, cwd=HERE / "schemathesis", **places)
    finally:
        # It pauses whatever it finds.
        for pause in web.store.pauses.all():
            web.store.pauses.end(pause)
    assert "Tested: 52" in said, said


def test_openapi_python_client_makes_a_client_that_submits_a_job_and_reads_it(
    web: Stack, document: Path, tmp_path: Path
) -> None:
    config = tmp_path / "config.yml"
    config.write_text("post_hooks: []\n")
    command = [
        *(sys.executable, "-m", "openapi_python_client", "generate", "--path", document),
        *("--output-path", tmp_path / "made", "--meta", "none", "--config", config, "--fail-on-warning"),
    ]
    run(*command, cwd=tmp_path)
    program = tmp_path / "program.py"
    program.write_text("""
import sys
from made import AuthenticatedClient
from made.api.jobs import get_job, submit_job
from made.api.files import upload
from made.models import ProblemDocument, Submission, SubmissionParams
from made.types import File

with AuthenticatedClient(base_url=sys.argv[1], token=sys.argv[2]) as client:
    params = SubmissionParams.from_dict({"duration_s": 5})
    job = submit_job.sync(client=client, body=Submission(type_="simulate", params=params, group="g"))
    read = get_job.sync(job.id, client=client)
    assert (read.id, read.state.value, read.group) == (job.id, "queued", "g"), read
    assert read.params.to_dict() == {"duration_s": 5}
    refused = submit_job.sync(client=client, body=Submission(type_="none"))
    assert isinstance(refused, ProblemDocument), refused
    assert "simulate" in refused.known_types
    print(job.id)
""")
    command = [sys.executable, "-W", "error", program, web.url, credentials.KEY]
    said = run(*command, cwd=tmp_path, PYTHONPATH=str(tmp_path))
    assert web.get(f"/jobs/{said.strip()}")[1]["type"] == "simulate"


def test_openapi_typescript_makes_types_that_fit_their_use(document: Path, tmp_path: Path) -> None:
    run(
        "node", package("openapi-typescript/bin/cli.js"), document, "-o", tmp_path / "made.ts", cwd=tmp_path
    )
    (tmp_path / "use.ts").write_text("""
import type { components, operations } from "./made";
type Job = components["schemas"]["Job"];
type StreamEvent = components["schemas"]["StreamEvent"];
export function fraction(job: Job): number | null {
  return job.progress?.fraction ?? null;
}
export function line(event: StreamEvent): string {
  if (event.event === "log") return event.data.message;
  if (event.event === "end") return event.data.state;
  return event.event;
}
export const body: NonNullable<operations["submit_job"]["requestBody"]>["content"]["application/json"] = {
  type: "simulate",
  params: { duration_s: 5 },
};
// @ts-expect-error: there is no such state
export const wrong: Job["state"] = "asleep";
""")
    tsc = package("typescript/bin/tsc")
    run("node", tsc, "--strict", "--noEmit", "--target", "es2022", "use.ts", cwd=tmp_path)


def test_events_and_answers_are_what_their_schemas_say(web: Stack, document: Path) -> None:
    components = json.loads(document.read_text())["components"]

    def check(name: str, value: Any) -> None:
        Draft202012Validator({"$ref": f"#/components/schemas/{name}", "components": components}).validate(
            value
        )

    job_id = web.submit("simulate", {"duration_s": 1}, group="g", labels={"a": "b"})["id"]
    held = claim(web.store, job_id)
    with Reader(web.url, f"/jobs/{job_id}/events?heartbeat=event") as reader:
        events = list(reader.take(1))
        web.store.append(held, 1, [log(1), progress(2)])
        while events[-1].event != "heartbeat":
            events += reader.take(1)
        web.store.end(held, State.SUCCEEDED, result={"x": [1]})
        events += reader.until_end()
    with Reader(web.url, f"/jobs/{job_id}/events", "1-1") as reader:
        events += reader.take(1)
    assert {e.event for e in events} >= {"snapshot", "log", "progress", "heartbeat", "end", "reset"}
    for event in events:
        check("StreamEvent", asdict(event))
    as_json = {"Accept": "application/json"}
    page = web.get(f"/jobs/{job_id}/events?after=0", headers=as_json)[1]
    assert [e["event"] for e in page["events"]][-1] == "end"
    check("EventPage", page)
    check("EventPage", web.get(f"/jobs/{job_id}/events?after=1-1", headers=as_json)[1])
    check("JobAnswer", web.get(f"/jobs/{job_id}")[1])
    check("JobsPage", web.get("/jobs")[1])
    check("Workers", web.get("/workers")[1])
    check("JobTypes", web.get("/types")[1])
    check("ProblemDocument", web.get("/jobs/none")[1])

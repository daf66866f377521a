"""`jobs.d.ts` and `records.d.ts` declare what the service says and takes, the modules keep to it, and
types.ts uses all of it."""

from __future__ import annotations

import json
import re
import subprocess
import types
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import pytest
from pydantic import BaseModel

from headway.contract.events import EventType
from headway.contract.records import (
    Artifact,
    Group,
    Job,
    JobError,
    Links,
    Progress,
    Record,
    StageProgress,
    Unique,
)
from headway.contract.states import ErrorCode, State
from service.api.many import Selection
from service.api.submission import Submission, UniqueKey
from service.api.webhooks import WebhookTarget
from tests.support.npm import package
from tests.web.test_javascript import node  # noqa: F401

HERE = Path(__file__).parent
WEB = HERE.parent.parent / "web"
DECLARED = re.compile(r"^(?:export )?(?:class|interface) (\w+).*?\{\n(.*?)^\}", re.M | re.S)
MEMBER = re.compile(r"^  (?:readonly )?\"?([\w-]+)\"?(?=[?(:<])", re.M)
OBJECTS = """
// What a browser has, as far as it is asked for before anything is connected.
Object.assign(globalThis, {
  location: {href: "http://127.0.0.1:8000/"},
  navigator: {},
  addEventListener() {},
});
const {Headway, Problem, newKey} = await import(process.argv[1]);
const headway = new Headway();
const job = headway.job("0-x"), feed = headway.watch({jobs: []});
feed.stop();
const made = {Headway: headway, Problem: new Problem(404, {}), JobHandle: job, JobFeed: feed, newKey};
const declared = JSON.parse(process.argv[2]);
const missing = Object.entries(declared).flatMap(([name, members]) =>
  members.filter((member) => !(member in made[name])).map((member) => `${name}.${member}`));
console.log(JSON.stringify(missing));
process.exit();
"""


def types_text() -> str:
    return "".join((WEB / name).read_text("utf-8") for name in ("records.d.ts", "jobs.d.ts"))


def bodies() -> list[tuple[str, str]]:
    """The name and the body of each class and interface, without comments."""
    return DECLARED.findall(re.sub(r"/\*\*.*?\*/", "", types_text(), flags=re.S))


def declared() -> dict[str, set[str]]:
    """The members of each class and interface."""
    return {name: set(MEMBER.findall(body)) - {"constructor"} for name, body in bodies()}


PLAIN = {str: "string", int: "number", float: "number", bool: "boolean", type(None): "null", Any: "unknown"}
RECORDS = {Job: "Job", Progress: "Progress", StageProgress: "Stage", Artifact: "Artifact"}
RECORDS |= {JobError: "JobError", Links: "Links", Group: "Group", Unique: "Unique"}
NAMED = {**RECORDS, WebhookTarget: "WebhookTarget", UniqueKey: "Unique"}


def typescript(annotation: Any) -> str:
    """The TypeScript type of what a field of a record is in JSON."""
    if get_origin(annotation) in (Union, types.UnionType):
        return " | ".join(typescript(one) for one in get_args(annotation))
    if get_origin(annotation) is Annotated:
        return typescript(get_args(annotation)[0])
    if get_origin(annotation) is list:
        one = typescript(get_args(annotation)[0])
        return f"({one})[]" if " | " in one else f"{one}[]"
    if get_origin(annotation) is dict:
        return f"Record<{', '.join(map(typescript, get_args(annotation)))}>"
    if get_origin(annotation) is Literal:
        return " | ".join(f'"{value}"' for value in get_args(annotation))
    if isinstance(annotation, type) and issubclass(annotation, StrEnum):
        return annotation.__name__
    return PLAIN.get(annotation) or NAMED[annotation]


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.__name__)
def test_the_types_declare_the_records_of_the_service(record: type[Record]) -> None:
    expected = {
        # What may be left out of a submission is there in every answer.
        f"{field.alias or name}{'' if field.is_required() or record is Unique else '?'}: "
        f"{typescript(field.annotation)};"
        for name, field in record.model_fields.items()
    }
    (body,) = (body for name, body in bodies() if name == RECORDS[record])
    found = {line.strip() for line in body.splitlines() if line.strip()}
    # GET adds it to the record.
    assert (
        found - {"waiting_reason?: string | null;", "children?: { counts: Record<State, number> } | null;"}
        == expected
    )


SENT = {
    Submission: ("JobOptions", "type params run lease_s"),
    WebhookTarget: ("WebhookTarget", ""),
    Selection: ("JobFilter", "dry_run"),
}
"""What a request may have in it, what it is called here, and what stands elsewhere, or is no page's."""
WIDER = {
    "run_at?: string;": "run_at?: string | Date;",
    "unique?: Unique;": 'unique?: Partial<Unique> & Pick<Unique, "key">;',
    # Selection has no use for its enumeration, which it would have to be given.
    f"state?: {' | '.join(json.dumps(state) for state in State)};": "state?: State;",
}


@pytest.mark.parametrize("model", SENT, ids=lambda model: model.__name__)
def test_the_types_declare_all_that_a_request_may_have(model: type[BaseModel]) -> None:
    name, elsewhere = SENT[model]
    expected = set()
    for field, info in model.model_fields.items():
        if field in elsewhere.split():
            continue
        said = typescript(info.annotation).removesuffix(" | null")
        line = f"{field}{'' if info.is_required() else '?'}: {said};"
        expected.add(WIDER.get(line, line))
    (body,) = (body for interface, body in bodies() if interface == name)
    assert {line.strip() for line in body.splitlines() if line.strip()} == expected


def test_the_types_name_every_state_error_code_and_event() -> None:
    text = types_text()
    for name, values in (("State", State), ("ErrorCode", ErrorCode)):
        found = re.search(rf"export type {name} = (.*?);", text)
        assert found
        assert re.findall(r'"(\w+)"', found[1]) == [value.value for value in values]
    # The client handles these itself.
    internal = {"heartbeat", EventType.SHUTDOWN}
    assert declared()["EventData"] == {event.value for event in EventType} - internal


def test_the_modules_and_what_a_user_writes_keep_to_the_types(node: str) -> None:  # noqa: F811
    options = "--noEmit --allowJs --checkJs --strict --target es2022 --module nodenext"
    names = ("jobs.js", "job-progress.js", "job-progress.d.ts", "dashboard/main.js")
    names += ("element/log.js", "client/submission.js", "client/upload.js", "client/live-jobs.js")
    roots = [str(WEB / name) for name in names]
    compiler = [node, str(package("typescript/bin/tsc"))]
    command = [
        *compiler,
        *options.split(),
        "--lib",
        "es2023,dom,dom.iterable",
        *roots,
        str(HERE / "types.ts"),
    ]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert ran.returncode == 0, ran.stdout


def test_what_the_types_promise_is_there(node: str) -> None:  # noqa: F811
    found = declared()
    events = {"addEventListener", "removeEventListener"}
    asked = {
        "Headway": found["Headway"],
        "Problem": found["Problem"],
        "JobHandle": found["JobHandle"] | found["Connection"] | events,
        "JobFeed": found["JobFeed"] | found["Connection"] | events,
    }
    assert all(len(members) >= 6 for members in asked.values())
    # `state` is a job's once it is known: until then the property is there, and undefined.
    command = [node, "--input-type=module", "-e", OBJECTS, f"{WEB}/jobs.js"]
    members = json.dumps({name: sorted(members) for name, members in asked.items()})
    ran = subprocess.run([*command, members], capture_output=True, text=True, timeout=200)
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout) == []


def test_every_public_member_is_used_in_what_the_compiler_checks() -> None:
    used = (HERE / "types.ts").read_text("utf-8")
    unused = {
        f"{name}.{member}"
        for name, members in declared().items()
        for member in members
        if not re.search(rf"\b{member}\b", used)
    }
    assert not unused

"""What jobs.d.ts promises is there, and types.ts uses all of it."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

from tests.web.test_javascript import node  # noqa: F401

HERE = Path(__file__).parent
WEB = HERE.parent.parent / "web"
DECLARED = re.compile(r"^(?:export )?(?:class|interface) (\w+).*?\{\n(.*?)^\}", re.M | re.S)
MEMBER = re.compile(r"^  (?:readonly )?(\w+)(?=[?(:<])", re.M)
OBJECTS = """
// What a browser has, as far as it is asked for before anything is connected.
Object.assign(globalThis, {
  location: {href: "http://127.0.0.1:8000/"},
  navigator: {},
  addEventListener() {},
  EventSource: class extends EventTarget { close() {} },
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


def declared() -> dict[str, set[str]]:
    """The members of each class and interface."""
    text = re.sub(r"/\*\*.*?\*/", "", (WEB / "jobs.d.ts").read_text("utf-8"), flags=re.S)
    return {name: set(MEMBER.findall(body)) - {"constructor"} for name, body in DECLARED.findall(text)}


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

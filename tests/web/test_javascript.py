"""The modules of web/ under node: their own tests, and the reducer against the store."""

from __future__ import annotations

import gzip
import json
import re
import subprocess
from pathlib import Path

import pytest

from headway.contract.encoding import dumps
from headway.contract.events import ZERO, EventType
from headway.contract.new_job import NewJob
from headway.contract.records import Artifact, artifacts_json
from headway.contract.states import ErrorCode, State
from headway.contract.store import Claim, JobStore, Report
from tests.support.npm import package
from tests.support.programs import program

HERE = Path(__file__).parent
WEB = HERE.parent.parent / "web"
MAX_LINES = 400
BUNDLE = WEB / "job-progress.min.js"
MAX_BYTES = 8_192
"""Of the element with its client in one file, as it is sent."""


@pytest.fixture(scope="session")
def node() -> str:
    """Node.js 20 or newer."""
    return program("node")


def test_the_modules_pass_their_own_tests(node: str) -> None:
    tests = sorted(str(path) for path in HERE.glob("*.test.js"))
    assert tests
    ran = subprocess.run([node, "--test", *tests], capture_output=True, text=True, timeout=200)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_the_reducer_makes_of_events_what_the_store_makes_of_the_job(node: str, store: JobStore) -> None:
    new = NewJob(owner="ann", type="t", params={"a": 1}, queue="q", max_attempts=3, group="g")
    job_id = store.create(new)[0]
    steps: list[dict[str, object]] = []
    seen = ZERO

    def look() -> None:
        """Note what happened since the last look, and the document that the store has now."""
        nonlocal seen
        page = store.read(job_id, seen, 100)
        assert page is not None
        assert page.events, "every step has an event"
        events = [{"id": str(e.id), "event": e.type, "data": json.loads(e.data)} for e in page.events]
        seen = page.events[-1].id
        steps.append({"events": events, "document": json.loads(page.document)})

    def claim(token: str) -> Claim:
        ref = store.ref(job_id)
        assert ref is not None
        claimed = store.claim(ref, token=token, lease_s=9, worker="w")
        assert claimed is not None
        return claimed

    def progress(fraction: float | None) -> Report:
        body = dumps({"fraction": fraction, "current": 3, "unit": "frames", "data": {}})
        return Report(EventType.PROGRESS, body, "progress", body)

    artifacts: dict[str, Artifact] = {}

    def artifact(name: str, size: int) -> Report:
        made = Artifact(name=name, media_type="a/b", size=size, url=f"/{name}", attempt=1)
        artifacts[name] = made
        value = artifacts_json(artifacts.values())
        return Report(EventType.ARTIFACT, made.model_dump_json(), "artifacts", value)

    look()
    first = claim("1")
    look()
    store.append(
        first, 1, [progress(0.25), Report(EventType.LOG, dumps({"level": "info", "message": "x"}))]
    )
    look()
    store.append(first, 2, [artifact("a", 1), artifact("b", 1), artifact("a", 2)])
    look()
    store.append(first, 3, [progress(None)])
    look()
    store.retry(first, delay_s=0, reason="again")
    look()
    second = claim("2")
    look()
    store.append(second, 1, [progress(0.5)])
    store.cancel(job_id)
    look()
    store.append(second, 2, [progress(0.6)])
    look()
    store.end(second, State.CANCELED, error=(ErrorCode.CANCELED, "the job was canceled"))
    look()

    ran = subprocess.run(
        [node, str(HERE / "replay.js")], input=json.dumps(steps), capture_output=True, text=True, timeout=30
    )
    assert ran.returncode == 0, ran.stderr


FLOORS = ["client", "element", "dashboard"]
"""A module imports from its own folder and from those before it. Public modules stand above `element`."""


def test_no_module_imports_from_a_higher_folder() -> None:
    for path in WEB.rglob("*.js"):
        if path.parent == WEB:
            continue
        mine = FLOORS.index(path.relative_to(WEB).parts[0])
        code = re.sub(r"/\*\*.*?\*/", "", path.read_text("utf-8"), flags=re.S)
        for target in re.findall(r"""(?:from|import\(?) ?"(\.[^"]+)\"""", code):
            there = (path.parent / target).resolve().relative_to(WEB).parts
            floor = FLOORS.index(there[0]) if len(there) > 1 else FLOORS.index("element")
            assert floor <= mine, f"{path.relative_to(WEB)} imports {target}"


def test_no_file_of_the_page_is_too_long_to_read() -> None:
    long = {
        path.name: lines
        for path in WEB.rglob("*.*")
        if (lines := len(path.read_text(encoding="utf-8").splitlines())) >= MAX_LINES
    }
    assert not long


def test_the_one_file_form_is_what_the_modules_make(node: str, tmp_path: Path) -> None:
    package("esbuild")
    made = tmp_path / BUNDLE.name
    ran = subprocess.run(
        [node, str(HERE / "bundle.js"), str(made)], capture_output=True, text=True, timeout=60
    )
    assert ran.returncode == 0, ran.stderr
    assert made.read_text("utf-8") == BUNDLE.read_text("utf-8"), "run `make bundle`"


def test_a_page_with_a_bar_loads_one_small_file() -> None:
    text = BUNDLE.read_text("utf-8")
    assert not re.search(r"""(?:import|from) *["']""", text), "nothing comes at once but the file itself"
    assert len(gzip.compress(text.encode())) <= MAX_BYTES

"""The docs name every setting, route, event, command and job type, and the README's own code works."""

from __future__ import annotations

import argparse
import ast
import json
import os
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import get_args

import pytest
from prometheus_client import REGISTRY

from headway.cli.parser import make_parser
from headway.contract.events import EventType
from headway.contract.settings import Settings, load
from headway.contract.states import ErrorCode, State
from headway.sdk.job import Job
from headway.sdk.job_type import discover
from headway.sdk.meter import Stage
from headway.sdk.retry import Retry
from service.__main__ import _parser
from service.api.app import create_app
from service.api.event_models import ResetReason
from service.scheduling.store_metrics import StoreMetrics

ROOT = Path(__file__).parent.parent.parent
README = (ROOT / "README.md").read_text()
PROTOCOL = (ROOT / "docs" / "protocol.md").read_text()
GROUPS = (ROOT / "docs" / "groups.md").read_text()
OPERATORS = (ROOT / "docs" / "operators.md").read_text()
CLIENTS = (ROOT / "docs" / "clients.md").read_text()
FRONTENDS = (ROOT / "docs" / "frontends.md").read_text()


def test_every_setting_is_in_the_readmes_table_with_its_default() -> None:
    rows = dict(re.findall(r"(?m)^\| `([A-Z_]+)` \| (\S*) ?\|", README))
    assert list(rows) == [name.upper() for name in Settings.model_fields]
    settings = load({"REDIS_URL": "redis://127.0.0.1"})
    said_otherwise = {
        **dict.fromkeys(("REDIS_URL", "REDIS_CA_FILE", "DATA_GROUP", "SECRET_FILE", "JWT_KEY_FILE"), ""),
        **dict.fromkeys(
            ("ALLOWED_HOSTS", "CORS_ORIGINS", "WEBHOOK_ALLOW", "HEADWAY_TASKS", "QUEUES", "TYPES"), ""
        ),
        **dict.fromkeys(("JWT_JWKS_URL", "JWT_ISSUER", "JWT_AUDIENCE", "PARTITIONS"), ""),
        "REDIS_TLS_VERIFY": "`1`",
        "FILES_URL": "",
        "FILES_REDIRECT": "`1`",
        "KEEP_PROGRESS": "`0`",
        "CELERY_BROKER_URL": "`REDIS_URL`",
        "TRUSTED_PROXIES": "loopback",
        "WORKER_CONCURRENCY": "cores",
    }
    for name, default in rows.items():
        value = getattr(settings, name.lower())
        shown = f"{value:.0f}" if isinstance(value, float) else str(value)
        assert default == said_otherwise.get(name, f"`{shown}`"), name


def test_every_route_is_in_the_docs() -> None:
    app = create_app(load({"REDIS_URL": "redis://127.0.0.1:1"}))
    internal = {"/static/<path:filename>", "/web/<path:name>"}
    missing = []
    for rule in app.url_map.iter_rules():
        path = re.sub(r"<(?:\w+:)?(?:\w+_)?(\w+)>", r"{\1}", rule.rule)
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}:
            named = f"`{method} {path}`" in PROTOCOL or f"`{path}`" in PROTOCOL + README
            if not named and rule.rule not in internal and not path.startswith("/docs"):
                missing.append(f"{method} {path}")
    assert not missing


def commands() -> dict[str, argparse.ArgumentParser]:
    """Those of `headway` and of `python -m service`."""
    (serving,) = (a for a in _parser()._actions if isinstance(a, argparse._SubParsersAction))
    return {**make_parser()[1], **serving.choices}


@pytest.mark.parametrize("name", commands())
def test_every_command_is_in_the_docs_with_its_options(name: str) -> None:
    text = said_of(name)
    # What all of them have stands before the first.
    common = {"--help", "-h", "--url", "--token", "--json"}
    for action in commands()[name]._actions:
        for option in {*action.option_strings} - common:
            assert re.search(rf"(?<![\w-]){option}(?![\w-])", text), option
        if isinstance(action, argparse._StoreAction) and not action.option_strings and action.metavar:
            assert str(action.metavar).partition("=")[0] in text


def said_of(command: str) -> str:
    """The command's row in a table, or the section that has it in its title."""
    row = re.search(rf"(?m)^\| `{command}\b.*$", OPERATORS)
    if row:
        return row[0]
    section = re.search(rf"(?ms)^### [^\n]*\b{command}\b.*?(?=^##)", CLIENTS)
    assert section, command
    return section[0]


def test_what_all_commands_have_is_in_the_docs() -> None:
    for option in ("--url", "--token", "--json"):
        assert sum(option in parser._option_string_actions for parser in commands().values()) >= 8
        assert f"`{option}`" in CLIENTS


def test_every_attribute_and_option_of_the_browsers_side_is_in_the_docs() -> None:
    source = (ROOT / "web" / "job-progress.js").read_text()
    found = re.search(r"observedAttributes\s*=\s*(\[.*?\])", source)
    assert found
    for attribute in json.loads(found[1]):
        assert re.search(rf"(?m)^\| `{attribute}[=`]", FRONTENDS), attribute
    types = (ROOT / "web" / "jobs.d.ts").read_text()
    options = re.search(r"interface HeadwayOptions \{(.*?)\n\}", types, re.S)
    assert options
    for option in re.findall(r"(?m)^  (\w+)\?", options[1]):
        assert re.search(rf"\b{option}\b", FRONTENDS), option
    statuses = re.search(r"type Status = (.*);", types)
    assert statuses
    for status in re.findall(r'"(.*?)"', statuses[1]):
        assert f"`{status}`" in FRONTENDS, status


@pytest.mark.parametrize("event", list(EventType))
def test_every_event_has_a_section_with_an_example(event: EventType) -> None:
    section = PROTOCOL.partition(f"\n### {event}\n")[2].partition("\n### ")[0].partition("\n## ")[0]
    assert f"\nevent: {event}\n" in section


def test_counts_in_the_docs_have_every_state_as_in_the_answer() -> None:
    counts = re.findall(r'"counts":(\{.*?\})', PROTOCOL + GROUPS)
    assert counts
    for one in counts:
        assert list(json.loads(one)) == [*State]


def test_every_state_error_code_and_reason_is_in_the_docs() -> None:
    source = "".join(path.read_text() for path in (ROOT / "service").rglob("*.py"))
    reasons = set(get_args(ResetReason))
    assert set(re.findall(r'"(cursor_\w+|events_missed)"', source)) == reasons
    for word in [*State, *ErrorCode, *sorted(reasons)]:
        assert f"`{word}`" in PROTOCOL, word


def test_every_reason_why_a_job_waits_is_in_the_docs() -> None:
    table = PROTOCOL.partition("| `waiting_reason` |")[2].partition("\n\n")[0]
    tree = ast.parse((ROOT / "service" / "scheduling" / "fleet.py").read_text())
    returned = [
        ast.unparse(node.value) for node in ast.walk(tree) if isinstance(node, ast.Return) and node.value
    ]
    reasons = [re.split(r"{.*?}", text.lstrip("f")[1:-1]) for text in returned if re.match("f?['\"]", text)]
    assert len(reasons) > 9
    missing = [each for each in reasons if not re.search(f"`{'.+'.join(map(re.escape, each))}`", table)]
    assert missing == []


def test_every_job_type_and_parameter_is_in_the_readme() -> None:
    for name, job_type in discover("worker.tasks").items():
        row = re.search(rf"(?m)^\| `{re.escape(name)}` \|(.*)\|$", README)
        assert row, name
        for parameter in job_type.params.model_fields:
            assert f"`{parameter}`" in row[1], f"{name}: {parameter}"


def test_every_metric_is_in_the_operators_table_as_it_is_exposed() -> None:
    rows = dict(re.findall(r"(?m)^\| `(headway_\w+)` \| (\w+) \|", OPERATORS))
    server = {"used_memory": 0, "maxmemory": 0, "connected_slaves": 0, "master_repl_offset": 0}
    families = [*REGISTRY.collect(), *StoreMetrics({}, [], {}, [server]).collect()]
    ours = {family.name: family.type for family in families if family.name.startswith("headway_")}
    assert len(ours) >= 13
    assert rows == {f"{name}_total" if kind == "counter" else name: kind for name, kind in ours.items()}


def test_all_that_a_task_can_use_is_in_the_docs() -> None:
    text = (ROOT / "docs" / "job-authors.md").read_text()
    for name in vars(Job):
        assert name.startswith("_") or re.search(rf"\bjob\.{name}\b", text), name
    for name, value in vars(Stage).items():
        assert name.startswith("_") or not callable(value) or f"stage.{name}(" in text, name
    for field in fields(Retry):
        assert f"{field.name}=" in text, field.name


def anchors(text: str) -> set[str]:
    """Of the headings, as GitHub makes them."""
    plain = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in re.findall(r"(?m)^#+ (.*)$", text))
    return {heading.replace(" ", "-") for heading in plain}


@pytest.mark.parametrize(
    "path", [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))], ids=lambda p: p.name
)
def test_whatever_the_docs_link_to_exists(path: Path) -> None:
    for target in re.findall(r"\]\(([^):]+)\)", path.read_text()):
        name, _, anchor = target.partition("#")
        linked = path.parent / name if name else path
        assert linked.exists(), target
        assert not anchor or anchor in anchors(linked.read_text()), target


def test_the_readme_follows_an_event_through_every_room() -> None:
    way = README.partition("### How an event travels")[2].partition("\n###")[0]
    named = set(re.findall(r"\]\(([^)]+)\)", way))
    rooms = ("headway/sdk/", "headway/contract/lua/", "service/streaming/", "web/")
    assert all(any(name.startswith(room) for name in named) for room in rooms)


def test_the_readmes_job_type_is_a_job_type(tmp_path: Path) -> None:
    """In a process of its own, as the registration is for good."""
    module = tmp_path / "text_words.py"
    module.write_text(README.partition("```python\n")[2].partition("```")[0])
    code = "import text_words; print(text_words.words.describe())"
    described = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(described.stdout)["name"] == "text.words"


def test_every_make_target_of_the_readme_exists() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in set(re.findall(r"`make (\w+)`|(?m:^    make (\w+))", README)):
        assert f"\n{''.join(target)}:" in makefile


def test_every_picture_is_shown_and_every_page_has_its_four() -> None:
    text = (ROOT / "docs" / "dashboard.md").read_text()
    shown = set(re.findall(r"screenshots/([\w-]+)\.webp", text))
    assert shown == {path.stem for path in (ROOT / "docs" / "screenshots").iterdir()}
    pages = {name.rsplit("-", 2)[0] for name in shown}
    assert len(shown) == 4 * len(pages)

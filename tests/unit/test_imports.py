"""Who may import whom: the rules of the layout, read off the sources."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
FRAMEWORKS = {
    "billiard",
    "celery",
    "flask",
    "gevent",
    "greenlet",
    "gunicorn",
    "kombu",
    "werkzeug",
}
FLOORS = {
    "headway.loops": (),
    "headway.contract": (),
    "headway.client": (),
    "headway.tracing": ("headway.contract",),
    "headway.sdk": ("headway.contract", "headway.loops", "headway.tracing"),
    "headway.celery": ("headway.contract", "headway.sdk", "headway.loops", "headway.tracing"),
    "headway.cli": ("headway.client", "headway.version"),
    "headway.cli.keys": ("headway.contract",),
    "headway.version": (),
    "headway.broker": ("headway.contract",),
    "headway": (
        "headway.version",
        "headway.loops",
        "headway.contract",
        "headway.client",
        "headway.sdk",
        "headway.cli",
    ),
    "service.metrics": ("headway",),
    "service.streaming": ("headway", "service.metrics"),
    "service.scheduling": ("headway", "service.metrics"),
    "service.api": ("headway", "service.metrics", "service.streaming", "service.scheduling"),
    "service.process": ("headway", "service"),
    "service": ("headway", "service"),
    "worker.media": ("headway",),
    "worker.tasks": ("headway", "worker.media"),
    "worker": ("headway", "worker"),
}
"""What each folder may import beside itself. Arrows point down only."""
KNOWS_NO_FRAMEWORK = ("headway.contract", "headway.sdk")
KNOWS_NO_HTTP = ("service.streaming", "service.scheduling")
HTTP_FRAMEWORKS = {"flask", "werkzeug"}
NEEDS_HTTPX = "headway.client.httpx_transport"
"""Of the client's modules the only one that needs more than Python."""

Sources = dict[str, str]


def sources(*packages: str) -> Sources:
    """Module name → source of everything below the packages."""
    found = {}
    for package in packages:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path.read_text()
    return found


def imports(module: str, source: str, modules: Mapping[str, str]) -> Iterator[tuple[str, bool]]:
    """What a module imports, wherever in it, and whether that happens as soon as it is imported.

    `from package import name` is an import of `package.name` if that is a module.
    """
    tree = ast.parse(source)
    late = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        at_once = id(node) not in late
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, at_once
        elif isinstance(node, ast.ImportFrom):
            start = node.module or ""
            if node.level:
                package = module.split(".")[: -node.level]
                start = ".".join([*package, *([node.module] if node.module else [])])
            for alias in node.names:
                full = f"{start}.{alias.name}"
                yield (full if full in modules else start), at_once


def below(module: str, *packages: str) -> bool:
    return any(module == package or module.startswith(package + ".") for package in packages)


def breaches(found: Sources) -> list[str]:
    """Each rule that a source breaks, in words."""
    broken = []
    graph: dict[str, set[str]] = {}
    for module, source in found.items():
        graph[module] = set()
        for target, at_once in imports(module, source, found):
            if at_once and target in found and target != module:
                graph[module].add(target)
            top = target.partition(".")[0]
            floor = max((name for name in FLOORS if below(module, name)), key=len)
            if top in ("headway", "service", "worker") and not below(target, floor, *FLOORS[floor]):
                broken.append(f"{module} imports {target}: {floor} may import {FLOORS[floor] or 'nothing'}")
            if (
                below(module, "headway.client")
                and module != NEEDS_HTTPX
                and top != "headway"
                and top not in sys.stdlib_module_names
            ):
                broken.append(f"{module} imports {target}: the client needs nothing but Python")
            if below(module, *KNOWS_NO_FRAMEWORK) and top in FRAMEWORKS:
                broken.append(f"{module} imports {target}: {floor} knows no framework")
            if below(module, *KNOWS_NO_HTTP) and top in HTTP_FRAMEWORKS:
                broken.append(f"{module} imports {target}: {floor} knows no HTTP framework")
        if any(
            isinstance(node, ast.Name | ast.Attribute)
            and "TYPE_CHECKING" in (getattr(node, "id", ""), getattr(node, "attr", ""))
            for node in ast.walk(ast.parse(source))
        ):
            broken.append(f"{module} uses TYPE_CHECKING: an import that hides a cycle")
    return broken + [f"a cycle: {' → '.join(cycle)}" for cycle in cycles(graph)]


def cycles(graph: Mapping[str, set[str]]) -> Iterator[list[str]]:
    done: set[str] = set()

    def visit(module: str, path: list[str]) -> Iterator[list[str]]:
        if module in path:
            yield [*path[path.index(module) :], module]
            return
        if module in done:
            return
        for target in sorted(graph.get(module, ())):
            yield from visit(target, [*path, module])
        done.add(module)

    for module in sorted(graph):
        yield from visit(module, [])


def test_the_import_rules_hold() -> None:
    found = sources("headway", "service", "worker")
    assert len(found) > 15
    assert not breaches(found)


@pytest.mark.parametrize(
    ("module", "source", "words"),
    [
        ("headway.sdk.job", "import worker.app", "headway.sdk may import"),
        ("headway.sdk.job", "import celery", "no framework"),
        (
            "headway.contract.store",
            "from service.streaming import hub",
            "headway.contract may import nothing",
        ),
        ("headway.contract.store", "from ..sdk import job", "headway.contract may import nothing"),
        ("headway.contract.store", "from flask import Flask", "no framework"),
        ("headway.contract.store", "import gevent.monkey", "no framework"),
        ("headway.client.watch", "import httpx", "nothing but Python"),
        ("headway.client.watch", "from headway.contract import keys", "headway.client may import nothing"),
        ("service.api.jobs", "import worker.app", "service.api may import"),
        ("service.api.jobs", "def late():\n    from worker import app", "service.api may import"),
        ("service.api.jobs", "import service.process.wsgi", "service.api may import"),
        ("service.streaming.hub", "from service.api import jobs", "service.streaming may import"),
        ("service.streaming.hub", "import flask", "no HTTP framework"),
        ("service.api.jobs", "from typing import TYPE_CHECKING", ""),
        ("service.api.jobs", "import typing\nif typing.TYPE_CHECKING:\n    import json", "hides a cycle"),
        (
            "service.streaming.hub",
            "from service.streaming import sse\nfrom service.streaming import user",
            "a cycle",
        ),
        ("worker.app", "from service.streaming import hub", "worker may import"),
        ("worker.tasks.x", "import service.streaming.hub as h", "worker.tasks may import"),
    ],
)
def test_a_source_that_breaks_a_rule_is_found(module: str, source: str, words: str) -> None:
    found = {
        "headway.contract": "",
        "headway.contract.keys": "",
        "headway.contract.store": "from headway.contract import keys",
        "headway.sdk": "",
        "headway.sdk.job": "from headway.contract.store import JobStore",
        "service": "",
        "service.streaming": "",
        "service.streaming.hub": "",
        "service.streaming.sse": "",
        "service.streaming.user": "import service.streaming.hub",
        "service.api": "",
        "service.api.jobs": "from service.streaming import hub",
        "worker": "",
        "worker.app": "from headway.contract.store import JobStore\nfrom headway.sdk import job",
    }
    assert not breaches(found)
    broken = breaches({**found, module: source})
    assert any(words in line for line in broken) if words else not broken


def test_importing_the_contract_loads_no_framework() -> None:
    """What the sources cannot show: an import of an import."""
    import subprocess

    code = "import sys, headway.contract.store, headway.contract.settings; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    assert "redis" in loaded
    assert not FRAMEWORKS & set(loaded)


def test_importing_a_module_leaves_the_environment_as_it_is() -> None:
    """Whoever imports it, a test for one, starts other processes, which would be given what it sets."""
    import subprocess

    names = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for room in ("headway", "service", "worker")
        for path in (ROOT / room).rglob("*.py")
        # Programs, and what only a server of WSGI reads.
        if path.stem not in ("__init__", "__main__", "gunicorn_conf", "wsgi")
    ]
    code = (
        "import importlib, os, sys; before = dict(os.environ)\n"
        "for name in sys.argv[1:]: importlib.import_module(name)\n"
        "print({**before, **os.environ} == before)"
    )
    ran = subprocess.run([sys.executable, "-c", code, *names], cwd=ROOT, capture_output=True, text=True)
    assert ran.stdout == "True\n", ran.stderr

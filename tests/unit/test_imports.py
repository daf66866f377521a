"""Who may import whom: the rules of the layout, read off the sources."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
FRAMEWORKS = {
    "apiflask",
    "billiard",
    "celery",
    "flask",
    "gevent",
    "greenlet",
    "gunicorn",
    "kombu",
    "werkzeug",
}
SHARED = ("service.contract", "service.config")

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
            if below(module, "service") and below(target, "worker"):
                broken.append(f"{module} imports {target}: the service sends tasks by name")
            if below(module, "worker") and below(target, "service") and not below(target, *SHARED):
                broken.append(f"{module} imports {target}: of the service only {' and '.join(SHARED)}")
            own = below(target, "service.client") or target.partition(".")[0] in sys.stdlib_module_names
            if below(module, "service.client") and not own:
                broken.append(f"{module} imports {target}: the client needs nothing but Python")
            if below(module, "service.contract"):
                if target.partition(".")[0] in FRAMEWORKS:
                    broken.append(f"{module} imports {target}: the contract knows no framework")
                if below(target, "service") and not below(target, "service.contract"):
                    broken.append(f"{module} imports {target}: the contract knows nothing around it")
        if any(
            isinstance(node, ast.Name | ast.Attribute)
            and "TYPE_CHECKING" in (getattr(node, "id", ""), getattr(node, "attr", ""))
            for node in ast.walk(ast.parse(source))
        ):
            broken.append(f"{module} uses TYPE_CHECKING: an import that hides a cycle")
    if found.get("service", "").strip():
        broken.append("service/__init__.py is not empty: the worker runs it")
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
    found = sources("service", "worker")
    assert len(found) > 15
    assert not breaches(found)


@pytest.mark.parametrize(
    ("module", "source", "words"),
    [
        ("service.jobs", "import worker.app", "sends tasks by name"),
        ("service.jobs", "def late():\n    from worker import app", "sends tasks by name"),
        ("worker.app", "from service import hub", "of the service only"),
        ("worker.tasks.x", "import service.hub as h", "of the service only"),
        ("worker.tasks.x", "from service.configuration import a", "of the service only"),
        ("service.contract.store", "from flask import Flask", "no framework"),
        ("service.contract.store", "import gevent.monkey", "no framework"),
        ("service.contract.store", "from service import hub", "nothing around it"),
        ("service.contract.store", "from ..hub import Hub", "nothing around it"),
        ("service.client.watch", "import httpx", "nothing but Python"),
        ("service.client.watch", "from service.contract import keys", "nothing but Python"),
        ("service.jobs", "from typing import TYPE_CHECKING", ""),
        ("service.jobs", "import typing\nif typing.TYPE_CHECKING:\n    import json", "hides a cycle"),
        ("service", "VERSION = 1", "not empty"),
        ("service.hub", "from service import sse\nfrom service import hub_user", "a cycle"),
    ],
)
def test_a_source_that_breaks_a_rule_is_found(module: str, source: str, words: str) -> None:
    found = {
        "service": "",
        "service.hub": "",
        "service.hub_user": "import service.hub",
        "service.sse": "",
        "worker": "",
        "worker.app": "from service.contract.store import JobStore\nfrom service import config",
        "service.contract": "",
        "service.contract.store": "from service.contract import keys",
        "service.contract.keys": "",
        "service.config": "",
    }
    assert not breaches(found)
    broken = breaches({**found, module: source})
    assert any(words in line for line in broken) if words else not broken


def test_importing_the_contract_loads_no_framework() -> None:
    """What the sources cannot show: an import of an import."""
    import subprocess

    code = "import sys, service.contract.store, service.config; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    assert "redis" in loaded
    assert not FRAMEWORKS & set(loaded)

"""What a script or a command loads: nothing that serves, works or draws."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys

import pytest

import headway
from tests.unit.test_imports import FRAMEWORKS, ROOT

HEAVY = FRAMEWORKS | {"argcomplete", "pydantic", "redis", "rich"}


MAIN = "from headway.cli.main import main\n"


@pytest.mark.parametrize(
    "code",
    [
        "import headway.client",
        "from headway import Client",
        "import headway.cli.parser",
        f"{MAIN}try: main(['watch', '--help'])\nexcept SystemExit: pass",
        f"{MAIN}assert main(['types', '--url', 'http://127.0.0.1:9']) == 2",
        f"{MAIN}assert main(['watch', 'x', '--url', 'http://127.0.0.1:9']) == 2",
    ],
)
def test_the_client_and_its_commands_load_nothing_heavy(code: str) -> None:
    code += "\nimport sys; print('loaded:', *sys.modules)"
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    loaded = set(ran.stdout.rpartition("loaded:")[2].split())
    assert "headway.client.watch" in loaded
    assert not HEAVY & loaded


@pytest.mark.parametrize("missing", ["celery", "pydantic"])
def test_what_instruments_a_celery_project_names_its_extra_if_something_is_missing(missing: str) -> None:
    code = f"import sys; sys.modules[{missing!r}] = None\nimport headway.celery"
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    said = ran.stderr.splitlines()[-1]
    assert said == f"ImportError: headway.celery needs {missing}: pip install 'headway[celery]'"


def test_import_headway_loads_no_other_module_of_it() -> None:
    code = "import sys, headway; print(*(name for name in sys.modules if name.startswith('headway')))"
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["headway"]


def test_the_stub_names_what_the_package_has_and_from_where() -> None:
    stub = ast.parse((ROOT / "headway" / "__init__.pyi").read_text())
    imported = {
        alias.asname: node.module
        for node in stub.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert imported == headway._HOME  # type: ignore[attr-defined]
    assert set(imported) == set(headway.__all__)  # type: ignore[attr-defined]
    for name in imported:
        assert getattr(headway, name) is getattr(importlib.import_module(imported[name]), name)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        headway.nothing  # type: ignore[attr-defined]  # noqa: B018

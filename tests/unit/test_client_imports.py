"""What a script or a command loads: nothing that serves, works or draws."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.unit.test_imports import FRAMEWORKS, ROOT

HEAVY = FRAMEWORKS | {"argcomplete", "pydantic", "redis", "rich"}


MAIN = "from service.__main__ import main\n"


@pytest.mark.parametrize(
    "code",
    [
        "import headway.client",
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

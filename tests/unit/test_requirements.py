"""The requirements files pin everything that gets installed, exactly."""

from __future__ import annotations

import re
from importlib import metadata
from pathlib import Path

from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent.parent


def pins(path: Path) -> list[Requirement]:
    lines = (line.partition("#")[0].strip() for line in path.read_text().splitlines())
    return [Requirement(line) for line in lines if line]


def needed(requirement: Requirement, extras: frozenset[str]) -> bool:
    if requirement.marker is None:
        return True
    environment = default_environment()
    return any(requirement.marker.evaluate({**environment, "extra": extra}) for extra in extras | {""})  # type: ignore[arg-type]


def test_whatever_a_pin_brings_is_pinned_too() -> None:
    listed = [*pins(ROOT / "requirements.txt"), *pins(ROOT / "tests" / "requirements.txt")]
    pinned = {canonicalize_name(requirement.name) for requirement in listed}
    todo = [(r.name, frozenset(r.extras)) for r in listed if needed(r, frozenset())]
    seen = set()
    while todo:
        name, extras = todo.pop()
        if (name, extras) in seen:
            continue
        seen.add((name, extras))
        brought = map(Requirement, metadata.requires(name) or [])
        todo += [(r.name, frozenset(r.extras)) for r in brought if needed(r, extras)]
    installed = {canonicalize_name(name): metadata.version(name) for name, _ in seen}
    missing = [f"{name}=={version}" for name, version in installed.items() if name not in pinned]
    assert not missing, "add these to the second part of the requirements file"


def test_every_pin_is_exact_and_installed() -> None:
    for path in (ROOT / "requirements.txt", ROOT / "tests" / "requirements.txt"):
        for requirement in pins(path):
            assert re.fullmatch(r"==[^*,]+", str(requirement.specifier)), requirement
            if needed(requirement, frozenset()):
                assert metadata.version(requirement.name) in requirement.specifier

"""One number of a benchmark."""

from __future__ import annotations

from dataclasses import dataclass

SECONDS = 3.0
"""How long each of them measures."""


@dataclass(frozen=True)
class Figure:
    what: str
    value: float
    unit: str

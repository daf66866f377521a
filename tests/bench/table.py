"""The result: samples of several runs in, medians with their spread out, as a table and as JSON."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

MISSING = "–"


@dataclass(frozen=True, slots=True)
class Sample:
    """What one run measured of one server in one case. A name ends with its unit: `p99 ms`."""

    scenario: str
    case: str
    who: str
    values: dict[str, float]


@dataclass(frozen=True, slots=True)
class Spread:
    median: float
    low: float
    high: float
    runs: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        return cls(statistics.median(values), min(values), max(values), len(values))


@dataclass(frozen=True, slots=True)
class Row:
    case: str
    who: str
    values: dict[str, Spread] = field(default_factory=dict)


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least this share of all does not exceed (nearest rank); NaN of none."""
    if not values:
        return math.nan
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def rows(samples: Iterable[Sample]) -> list[Row]:
    """One row a case and server, in the order of their first samples."""
    found: dict[tuple[str, str], dict[str, list[float]]] = {}
    for sample in samples:
        columns = found.setdefault((sample.case, sample.who), {})
        for name, value in sample.values.items():
            columns.setdefault(name, []).append(value)
    return [
        Row(case, who, {name: Spread.of(values) for name, values in columns.items()})
        for (case, who), columns in found.items()
    ]


def number(value: float) -> str:
    """Three digits, or the whole number: 0.0123, 4.56, 78.9, 12,345."""
    if value == 0:
        return "0"
    size = abs(value)
    if size >= 100 or value == int(value):
        return f"{value:,.0f}"
    digits = 2 - math.floor(math.log10(size))
    text = f"{value:.{digits}f}"
    return text.rstrip("0").rstrip(".") if float(text) == int(float(text)) else text


def cell(spread: Spread | None) -> str:
    """The median, and in brackets the lowest and the highest where they look different."""
    if spread is None:
        return MISSING
    median, low, high = number(spread.median), number(spread.low), number(spread.high)
    return median if low == high else f"{median} ({low}–{high})"


def text(title: str, found: Sequence[Row]) -> str:
    """A table in Markdown, its columns padded so that it reads as plain text too."""
    names = list(dict.fromkeys(name for row in found for name in row.values))
    lines = [["", "", *names]]
    for row in found:
        lines.append([row.case, row.who, *(cell(row.values.get(name)) for name in names)])
    widths = [max(3, *(len(line[i]) for line in lines)) for i in range(len(names) + 2)]

    def line_text(cells: Sequence[str]) -> str:
        padded = [
            c.ljust(w) if i < 2 else c.rjust(w) for i, (c, w) in enumerate(zip(cells, widths, strict=True))
        ]
        return "| " + " | ".join(padded) + " |"

    rule = (
        "|" + "|".join("-" * (w + 2) if i < 2 else "-" * (w + 1) + ":" for i, w in enumerate(widths)) + "|"
    )
    return "\n".join([f"## {title}", "", line_text(lines[0]), rule, *map(line_text, lines[1:])])


def as_json(samples: Iterable[Sample]) -> list[dict[str, Any]]:
    """Every sample, and so every run: medians can be made of it again."""
    return [{"scenario": s.scenario, "case": s.case, "who": s.who, "values": s.values} for s in samples]

"""Rate: how many pictures per second there are, measured from when they are shown. Pure."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from fractions import Fraction

_ROUNDING_S = 0.0012
"""Timestamps in milliseconds are off by up to 0.5 ms at both ends of an interval."""
_INVISIBLE_S = 0.002
"""Packets this close are one picture and the reference picture that is not shown (VP8, VP9)."""
STANDARD_RATES = [Fraction(n * 1000, 1001) for n in (24, 30, 60, 120)]


@dataclass(frozen=True, slots=True)
class Rate:
    """Pictures per second, measured. Of a variable rate it is that of the usual interval."""

    fps: Fraction
    constant: bool


def intervals(times: list[float]) -> list[float]:
    """Return the times between pictures in the order of their display, sorted."""
    shown = sorted(times)
    steps = [b - a for a, b in itertools.pairwise(shown) if b - a > 1e-6]
    visible = [step for step in steps if step > _INVISIBLE_S]
    return sorted(visible if len(visible) * 2 >= len(steps) else steps)


def measure_rate(times: list[float]) -> Rate | None:
    """Return the rate of pictures shown at these times; None for fewer than two."""
    steps = intervals(times)
    if not steps:
        return None
    usual = steps[len(steps) // 2]
    near = [step for step in steps if abs(step - usual) <= max(_ROUNDING_S, usual * 0.02)]
    period = sum(near) / len(near)
    on_grid = all(
        abs(step - period * round(step / period)) <= max(_ROUNDING_S * 1.5, period * 0.05) for step in steps
    )
    constant = len(near) >= 0.9 * len(steps) and on_grid
    return Rate(_nice(1 / period, 0.002 if len(near) > 20 else 0.02), constant)


def _nice(fps: float, tolerance: float) -> Fraction:
    """Return the common rate that was meant, else the nearest simple fraction."""
    near = [Fraction(round(fps)), *STANDARD_RATES, Fraction(round(fps * 2), 2)]
    best = min(near, key=lambda rate: abs(float(rate) - fps))
    if best > 0 and abs(float(best) - fps) <= fps * tolerance / 4:
        return best
    return Fraction(fps).limit_denominator(1001)

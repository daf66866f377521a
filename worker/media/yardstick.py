"""Yardstick: what an encode's progress is measured by."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

from headway.sdk.meter import Stage
from worker.media.command import pictures
from worker.media.ffmpeg import Tick

_TELLS_POSITIONS = Path("/proc/self/fdinfo").is_dir()
_ROUNDING = 0.02
"""An output may end by this share later than what was measured of the input."""


@dataclass(frozen=True, slots=True)
class Yardstick:
    """Pictures or seconds of the result where its length was measured, else bytes of the source read, else
    pictures of an unknown number."""

    unit: Literal["frames", "s", "bytes"]
    total: float | None
    rate: float | None = None

    @classmethod
    def of(cls, length_s: float | None, rate: Fraction | None, source: Path | None) -> Yardstick:
        """`rate` is that of the result's pictures, None for sound alone."""
        if length_s is not None:
            if rate is None:
                return cls("s", round(length_s, 3))
            return cls("frames", pictures(length_s, rate), float(rate))
        if source is not None and _TELLS_POSITIONS:
            return cls("bytes", source.stat().st_size)
        return cls("s" if rate is None else "frames", None, None if rate is None else float(rate))

    @property
    def by_position(self) -> bool:
        return self.unit == "bytes"

    def read(self, tick: Tick) -> float | None:
        """Return how far it is, in units; None if this tick does not tell."""
        if self.unit == "bytes":
            return tick.position
        if self.unit == "s" or self.rate is None:
            return None if tick.out_time_s is None else round(tick.out_time_s, 3)
        return tick.frame

    def note(self, stage: Stage, tick: Tick) -> None:
        """Tell the stage. Once there is more than there was to be, the total is unknown."""
        current = self.read(tick)
        if self.by_position:
            stage.total = None if current is None else self.total
        current = stage.current if current is None else max(current, stage.current)
        if stage.total is not None and current > stage.total:
            if current > stage.total * (1 + _ROUNDING) + 1:
                stage.total = None
            else:
                current = stage.total
        stage.update(current, **figures(tick))


def figures(tick: Tick) -> dict[str, Any]:
    """Return what a person may want to see beside the bar; what ffmpeg does not know is left out."""
    found = {
        "fps": tick.fps,
        "speed": tick.speed,
        "bitrate": tick.bitrate,
        "size": tick.total_size,
        "time_s": None if tick.out_time_s is None else round(tick.out_time_s, 3),
    }
    return {name: value for name, value in found.items() if value is not None}

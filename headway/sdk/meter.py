"""Meter: turns the numbers that a task notes into progress. No I/O, no clock of its own."""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from headway.contract.encoding import RecordError, clip, dumps
from headway.contract.records import (
    HIGHEST_FRACTION,
    MAX_DATA_BYTES,
    MAX_MESSAGE_CHARS,
    Progress,
    StageProgress,
)
from headway.sdk.stopping import Stop

WINDOW_S = 15.0
"""Time over which rate and ETA are averaged."""
RATE_AFTER_S = 1.0
"""A rate over a shorter time is noise."""
ETA_AFTER_S = 2.0
ETA_AFTER_FRACTION = 0.02
"""An ETA before both of these says nothing about the end."""

MAX_ETA_S = 365 * 86_400.0
"""A longer estimate is not given."""
MAX_NUMBER = 2**53
"""JavaScript's integers are exact up to this."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class StageWeight:
    """A stage's place among the stages of its job: its share of the whole, and the shares before and after
    it. The three sum to 1; `index` counts from 1. Without a share nobody knows how much of the whole it is,
    and the job's fraction is unknown while it lasts."""

    index: int = 1
    count: int = 1
    before: float = 0.0
    share: float | None = 1.0
    after: float = 0.0


class Plan:
    """The stages of a job, in order, and the weight of each: its duration relative to the others."""

    def __init__(self, weights: Mapping[str, float]) -> None:
        """Raises ValueError for no stages, or for a weight that is not positive and finite."""
        if not weights or not all(math.isfinite(w) and w > 0 for w in weights.values()):
            raise ValueError(f"the weights of a plan are positive numbers, not {dict(weights)}")
        whole = sum(weights.values())
        before = 0.0
        self._weights: dict[str, StageWeight] = {}
        for index, (name, weight) in enumerate(weights.items(), 1):
            share = weight / whole
            after = max(0.0, 1 - before - share)
            self._weights[name] = StageWeight(index, len(weights), before, share, after)
            before += share

    def weight(self, stage: str) -> StageWeight:
        """Return a stage's weight. Raises ValueError for a stage that is not in the plan."""
        if stage not in self._weights:
            raise ValueError(f"no stage {stage!r} in the plan, which has {', '.join(self._weights)}")
        return self._weights[stage]


class Stage:
    """One part of a job. The task notes numbers here; a thread of the reporter reads them."""

    __slots__ = (
        "_stop",
        "current",
        "data",
        "done",
        "message",
        "name",
        "started",
        "total",
        "unit",
        "weight",
    )

    def __init__(
        self,
        name: str,
        total: float | None,
        unit: str | None,
        weight: StageWeight,
        started: float,
        stop: Stop,
    ) -> None:
        self.name = name
        self.total = total
        """How much there is, in units; None while unknown. May be set when it becomes known."""
        self.unit = unit
        self.weight = weight
        self.started = started
        self.current: float = 0
        self.message: str | None = None
        self.data: dict[str, Any] = {}
        self.done = False
        self._stop = stop

    def update(self, current: float, message: str | None = None, **data: Any) -> None:
        """Note how far the stage is: absolute, in units. Cheap: the latest value is sent 4 times a second.

        `message` stays until the next one, each key of `data` until it is set again.
        Raises JobStopped if the job must end.
        """
        self.current = current
        if message is not None:
            self.message = message
        if data:
            # A new dict: the reporter may be reading the old one.
            self.data = {**self.data, **data}
        if self._stop.pending:
            self._stop.check()

    def advance(self, n: float = 1) -> None:
        """Note `n` more units. Raises JobStopped if the job must end."""
        self.current += n
        if self._stop.pending:
            self._stop.check()


class Meter:
    """Reads the running stage whenever asked; the fraction never falls."""

    def __init__(self, fraction: float = 0.0) -> None:
        """`fraction` is what was reached before, by an attempt that goes on."""
        self.stage: Stage | None = None
        """The running stage, or the last one. Set by the task, read by the reporter."""
        self._seen: Stage | None = None
        self._window: deque[tuple[float, float]] = deque()
        self._fraction = fraction
        self._peak: float = 0
        self._warned = False

    def read(self, now: float) -> Progress | None:
        """Return the progress at `now` (monotonic seconds), or None before the first stage."""
        stage = self.stage
        if stage is None:
            return None
        if stage is not self._seen:
            self._seen, self._peak = stage, 0
            self._window.clear()
        total = self._number(stage.total)
        if total is not None and total <= 0:
            total = None
        self._peak = current = max(self._peak, self._number(stage.current) or 0)
        self._window.append((now, current))
        while len(self._window) > 2 and self._window[0][0] < now - WINDOW_S:
            self._window.popleft()

        part = 1.0 if stage.done else None if total is None else min(current / total, 1.0)
        fraction = None
        if part is not None and stage.weight.share is not None:
            self._fraction = max(
                self._fraction, min(stage.weight.before + part * stage.weight.share, HIGHEST_FRACTION)
            )
            fraction = self._fraction
        rate = self._rate()
        return Progress.model_construct(
            fraction=_rounded(fraction),
            current=current,
            total=total,
            unit=stage.unit,
            message=None if stage.message is None else clip(str(stage.message), MAX_MESSAGE_CHARS),
            stage=StageProgress.model_construct(
                name=stage.name, index=stage.weight.index, count=stage.weight.count, fraction=_rounded(part)
            ),
            rate=None if rate is None else float(f"{rate:.4g}"),
            eta_s=self._eta(stage, now, current, total, rate),
            data=self._data(stage.data),
        )

    def final(self, now: float) -> Progress:
        """Return the progress of the job once it has succeeded."""
        return finished(self.read(now) or Progress())

    def _rate(self) -> float | None:
        (since, before), (until, after) = self._window[0], self._window[-1]
        if until - since < RATE_AFTER_S:
            return None
        return (after - before) / (until - since)

    def _eta(
        self, stage: Stage, now: float, current: float, total: float | None, rate: float | None
    ) -> float | None:
        """Return seconds to the job's end: what is left of this stage, and later ones by their weights.
        None for a stage that runs on though nothing was to be left of it."""
        if total is None or current >= total or stage.done:
            return None
        if not rate or now - stage.started < ETA_AFTER_S:
            return None
        if current / total < ETA_AFTER_FRACTION:
            return None
        if stage.weight.share is None:
            return None
        later = total / rate * stage.weight.after / stage.weight.share
        seconds = (total - current) / rate + later
        return round(seconds, 1) if seconds <= MAX_ETA_S else None

    def _number(self, value: Any) -> float | None:
        """Return a number that every reader understands: no NaN, no infinity, nothing beyond 2^53."""
        if value is None:
            return None
        try:
            number = value if type(value) is int else float(value)
        except (TypeError, ValueError, OverflowError):
            number = math.nan
        if not abs(number) <= MAX_NUMBER:
            self._warn("a progress number cannot be sent: %.100r", value)
            return None
        return number

    def _data(self, data: dict[str, Any]) -> dict[str, Any]:
        try:
            dumps(data, MAX_DATA_BYTES, "progress.data")
        except RecordError as error:
            self._warn("progress.data is left out: %s", error)
            return {}
        return data

    def _warn(self, message: str, *args: object) -> None:
        if not self._warned:
            self._warned = True
            log.warning(message, *args)


def finished(last: Progress) -> Progress:
    """Return the progress of a job that has succeeded, for the last one that it reported."""
    stage = last.stage
    return last.model_copy(
        update={
            "fraction": 1.0,
            "current": last.current if last.total is None else last.total,
            "stage": None if stage is None else stage.model_copy(update={"fraction": 1.0}),
            "rate": None,
            "eta_s": None,
        }
    )


def _rounded(fraction: float | None) -> float | None:
    return None if fraction is None else round(fraction, 5)

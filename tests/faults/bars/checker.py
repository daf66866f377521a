"""What bars showed, held against what the jobs were: values in, lies out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

CLOCK_MS = 50
"""Between the machine's time as Valkey has it and as a page has it."""


class Look(NamedTuple):
    """What a person sees of a job: the percent is None while the total is unknown."""

    state: str
    attempt: int
    percent: int | None


class Showing(NamedTuple):
    """A bar that looked the same from one sample to another: ms. `awake`: not in the moment in which the
    page found out that it had stood still."""

    bar: str
    job: str
    since: int
    until: int
    look: Look
    fresh: bool
    awake: bool
    samples: int


class Version(NamedTuple):
    """How a job looked from that moment on."""

    ms: int
    look: Look


@dataclass
class Verdict:
    lies: list[str]
    samples: int = 0
    fresh: int = 0
    excused: int = 0
    """Fresh in the moment of waking, and too old."""
    oldest_ms: int = 0
    """The oldest that was shown as fresh by a page that was awake."""


def versions(events: Iterable[tuple[int, str, Mapping[str, Any]]]) -> list[Version]:
    """How a job looked, by its events (ms, type, data) in their order."""
    found: list[Version] = []
    state, attempt, fraction = "", 0, None
    for ms, kind, data in events:
        if kind == "state":
            if data["attempt"] > attempt:
                fraction = None
            state, attempt = data["state"], data["attempt"]
        elif kind == "progress":
            attempt, fraction = data["attempt"], data["fraction"]
        elif kind == "end":
            state, attempt = data["state"], data["attempt"]
            fraction = (data["progress"] or {}).get("fraction")
        look = Look(state, max(1, attempt), _percent(state, fraction))
        if not found or found[-1].look != look:
            found.append(Version(ms, look))
    return found


def _percent(state: str, fraction: float | None) -> int | None:
    if state == "succeeded":
        return 100
    if fraction is None:
        return None if state == "running" else 0
    return int(min(0.999, fraction) * 100 + 1e-9)


def check(jobs: Mapping[str, list[Version]], showings: Iterable[Showing], bound_ms: int) -> Verdict:
    """No bar shows what never was or is yet to be, none goes back, and what a bar shows as fresh was true
    at most `bound_ms` ago."""
    verdict = Verdict([])
    reached: dict[str, int] = {}
    for shown in showings:
        verdict.samples += shown.samples
        verdict.fresh += shown.samples * shown.fresh
        history = jobs[shown.job]
        at = max(
            (
                n
                for n, version in enumerate(history)
                if version.look == shown.look and version.ms <= shown.until + CLOCK_MS
            ),
            default=None,
        )
        if at is None or history[at].ms > shown.since + CLOCK_MS:
            verdict.lies.append(f"{shown.bar}: {shown.look} at {shown.since}: not yet, or never")
            continue
        if at < reached.get(shown.bar, 0):
            verdict.lies.append(f"{shown.bar}: back to {shown.look} at {shown.since}")
        reached[shown.bar] = at
        if not shown.fresh or at + 1 == len(history):
            continue
        age = shown.until - history[at + 1].ms
        if age > bound_ms and not shown.awake:
            verdict.excused += shown.samples
        elif shown.awake:
            verdict.oldest_ms = max(verdict.oldest_ms, age)
            if age > bound_ms:
                now = history[at + 1].look
                verdict.lies.append(f"{shown.bar}: {shown.look} as fresh, {age} ms after it was {now}")
    return verdict

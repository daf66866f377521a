"""Texts from outside on a terminal, and what is said of a job in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from service.client import Event, Job


def shown(text: object) -> str:
    """On one line, and harmless: what does not print (control characters, escape sequences, overrides of
    the direction, lone surrogates) is shown as its escape."""
    return "".join(
        c if c.isprintable() else " " if c in "\t\xa0" else c.encode("unicode-escape").decode()
        for c in str(text)
    )


def percent(job: Job) -> str:
    """100 % is for what has succeeded, and for nothing else."""
    if job["state"] == "succeeded":
        return "100 %"
    fraction = (job["progress"] or {}).get("fraction")
    return "" if fraction is None else f"{min(int(fraction * 100 + 1e-9), 99)} %"


def figures(progress: Mapping[str, Any]) -> list[str]:
    """Stage, rate and time left, those of them that are known."""
    parts = []
    stage = progress.get("stage")
    if stage:
        of = f" {stage['index']}/{stage['count']}" if stage["count"] > 1 else ""
        parts.append(f"{stage['name']}{of}")
    if progress.get("eta_s") is not None:
        parts.append(f"{duration(progress['eta_s'])} left")
    if progress.get("rate") is not None:
        parts.append(f"{progress['rate']:.3g} {progress.get('unit') or ''}/s".replace(" /s", "/s"))
    if progress.get("message"):
        parts.append(str(progress["message"]))
    return parts


def duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def standing(job: Job) -> str:
    """How it stands, and why."""
    words = [job["state"]]
    if job["state"] in ("running", "retrying") and job["attempt"] > 1:
        words.append(f"(attempt {job['attempt']} of {job['max_attempts']})")
    if job["cancel_requested"] and job["state"] == "running":
        words.append("(canceling)")
    error, waits_for = job["error"], job.get("waiting_reason")
    if error and job["state"] == "failed":
        words.append(f"{error['code']}: {error['message']}")
    elif waits_for and job["state"] in ("queued", "retrying"):
        words.append(f"({waits_for})")
    return " ".join(words)


def line(job: Job) -> str:
    """A job as it stands, on one line."""
    parts = [job["id"], job["type"], standing(job), percent(job), *figures(job["progress"] or {})]
    if job["finished_at"]:
        parts = parts[:3]
    return shown("  ".join(part for part in parts if part))


def log_line(event: Event) -> str:
    return shown(f"{event.data['at']} {event.data['level']:<7} {event.data['message']}")

"""Texts from outside on a terminal, and what is said of a job in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from headway.client import Event, Job


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


def figures(progress: Mapping[str, Any], *, moving: bool = True) -> list[str]:
    """Time left, stage and rate, those of them that are known, the most wanted first. Time left and rate
    only while it is known to be `moving`."""
    parts = []
    if moving and progress.get("eta_s") is not None:
        parts.append(f"{duration(progress['eta_s'])} left")
    stage = progress.get("stage")
    if stage:
        of = f" {stage['index']}/{stage['count']}" if stage["count"] > 1 else ""
        parts.append(f"{stage['name']}{of}")
    if moving and progress.get("rate") is not None:
        rate = progress["rate"]
        number = f"{rate:,.0f}" if rate >= 100 else f"{rate:.3g}"
        parts.append(f"{number} {progress.get('unit') or ''}/s".replace(" /s", "/s"))
    if progress.get("message"):
        parts.append(str(progress["message"]))
    return parts


def duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def attempt(job: Job) -> str:
    """What a stopping worker hands back counts as no attempt that failed, so there may be more of them."""
    of = f" of {job['max_attempts']}" if job["attempt"] <= job["max_attempts"] else ""
    return f"attempt {job['attempt']}{of}"


def standing(job: Job, why: str | None = None) -> str:
    """How it stands, and why it does not run; by default that is what the service said of it."""
    words = job["state"]
    if job["state"] == "retrying":
        words += f" (after {attempt(job)})"
    elif job["state"] == "running" and job["attempt"] > 1:
        words += f" ({attempt(job)})"
    if job["cancel_requested"] and job["state"] == "running":
        words += " (canceling)"
    error, why = job["error"], why or job.get("waiting_reason")
    if error and job["state"] == "failed":
        code = "" if error["code"] == "error" else f" ({error['code']})"
        words += f"{code}: {error['message']}"
    elif why and job["state"] in ("queued", "retrying"):
        words += f": {why}"
    return words


def line(job: Job, why: str | None = None) -> str:
    """A job as it stands, on one line."""
    parts = [job["id"], job["type"], standing(job, why)]
    if job["state"] == "running":
        parts += [percent(job), *figures(job["progress"] or {}, moving=not job["cancel_requested"])]
    return shown("  ".join(part for part in parts if part))


def log_line(event: Event) -> str:
    return shown(f"{event.data['at']} {event.data['level']:<7} {event.data['message']}")


def artifact_line(event: Event) -> str:
    size = f"{event.data['size']:,} bytes"
    return shown(f"{event.data['job']}  artifact {event.data['name']} ({size})")


def missed_line(event: Event) -> str:
    """Of a `reset`."""
    words = f"events were missed, this is the state now ({event.data['reason']})"
    return shown(f"{event.job_id}  {words}" if event.job_id else words)

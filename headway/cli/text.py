"""What the command prints about jobs, and how text from outside becomes harmless in a terminal."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from headway.cli.one_line import sanitized
from headway.client import Event, Group, Job


def percent(job: Job) -> str:
    """Return a job's percentage, or "" if unknown. Only a job that has succeeded has 100 %."""
    if job["state"] == "succeeded":
        return "100 %"
    fraction = (job["progress"] or {}).get("fraction")
    return "" if fraction is None else f"{min(int(fraction * 100 + 1e-9), 99)} %"


def figures(progress: Mapping[str, Any], *, moving: bool = True) -> list[str]:
    """Return time left, stage, rate and message, as far as they are known, the most important first. Time
    left and rate only if the progress is known to be `moving`."""
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
    """Return m:ss, or h:mm:ss from an hour on. All durations of the command are written like this."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def attempt(job: Job) -> str:
    """Return which attempt it is. Attempts that a stopping worker released do not count, so the number may
    exceed the maximum."""
    of = f" of {job['max_attempts']}" if job["attempt"] <= job["max_attempts"] else ""
    return f"attempt {job['attempt']}{of}"


def standing(job: Job, why: str | None = None) -> str:
    """Return a job's state, and why it does not run: `why`, or the reason in its document."""
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
    elif why and job["state"] in ("queued", "retrying", "waiting"):
        words += f": {why}"
    return words


def job_line(job: Job, why: str | None = None) -> str:
    """Return a job's present state in one line."""
    parts = [job["id"], job["type"], standing(job, why)]
    if job["state"] in ("running", "waiting"):
        parts += [percent(job), *figures(job["progress"] or {}, moving=not job["cancel_requested"])]
    return sanitized("  ".join(part for part in parts if part))


def log_line(event: Event) -> str:
    return sanitized(f"{event.data['at']} {event.data['level']:<7} {event.data['message']}")


def message_line(event: Event) -> str:
    """Return the line for a message of the task, or to it."""
    data = event.data
    arrow = "›" if data["from"] == "task" else "‹"
    text = data["data"] if isinstance(data["data"], str) else json.dumps(data["data"], ensure_ascii=False)
    return sanitized(f"{data['job']}  {arrow} {data['name']}: {text}")


def group_line(group: Group) -> str:
    """Return a group's present state in one line."""
    ended = sum(group["counts"][state] for state in ("succeeded", "failed", "canceled"))
    all_ = max(sum(group["counts"].values()), group["expected"] or 0)
    fraction = group["fraction"]
    share = "" if fraction is None else f"{min(int(fraction * 100 + 1e-9), 100)} %"
    counts = ", ".join(f"{count} {state}" for state, count in group["counts"].items() if count)
    left = f"{duration(group['eta_s'])} left" if group["eta_s"] is not None else ""
    name = f"{group['group']} ({group['title']})" if group["title"] else group["group"]
    parts = [name, group["state"], share, f"{ended} of {all_} ended", counts, left]
    return sanitized("  ".join(filter(None, parts)))


def artifact_line(event: Event) -> str:
    size = f"{event.data['size']:,} bytes"
    return sanitized(f"{event.data['job']}  artifact {event.data['name']} ({size})")


def missed_line(event: Event) -> str:
    """Return the line for a `reset`."""
    words = f"events were missed; this is the state now ({event.data['reason']})"
    return sanitized(f"{event.job_id}  {words}" if event.job_id else words)


def parameter_lines(schema: Mapping[str, Any]) -> list[str]:
    """Return a line for each parameter in the JSON Schema of a job type: its default and allowed values."""
    lines = []
    for name, parameter in schema.get("properties", {}).items():
        default = f"={json.dumps(parameter['default'])}" if "default" in parameter else " (required)"
        allowed = ", ".join(filter(None, map(_allowed, _alternatives(parameter, schema.get("$defs", {})))))
        lines.append(sanitized(f"{name}{default}{f'  ({allowed})' if allowed else ''}"))
    return lines


def _alternatives(schema: Mapping[str, Any], defs: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    if "$ref" in schema:
        schema = defs.get(schema["$ref"].rpartition("/")[2], {})
    if "anyOf" not in schema:
        return [schema]
    return [part for one in schema["anyOf"] for part in _alternatives(one, defs)]


def _allowed(schema: Mapping[str, Any]) -> str:
    """Return the values that a schema allows, in words; "" if it names no limits."""
    if "enum" in schema:
        return ", ".join(map(str, schema["enum"]))
    if schema.get("type") == "boolean":
        return "true, false"
    low, high = schema.get("minimum"), schema.get("maximum")
    if low is not None and high is not None:
        return f"{low:,} to {high:,}"
    above, at_most = schema.get("exclusiveMinimum"), "" if high is None else f"at most {high:,}"
    at_least = f"at least {low:,}" if low is not None else "" if above is None else f"above {above:,}"
    return ", ".join(filter(None, (at_least, at_most)))

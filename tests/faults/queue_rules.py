"""What must hold of the queue in any history: which job begins when, and which never."""

from __future__ import annotations

from collections import Counter, defaultdict
from datetime import datetime
from itertools import pairwise
from typing import Any

from tests.faults.findings import Found, of_attempt, order
from tests.faults.history import History, Stored
from tests.faults.services import DRAIN_S, STOPPED_S

QUEUES = {"simulate": "default", "video.encode": "video"}
STANDSTILL_S = 12.0
"""A worker asks what is next, and then claims it; between the two it may be paused for so long."""
BUSY_S = 15.0
"""How much later than promised a worker may end on a machine that does much else."""


def begun(events: list[Stored]) -> Stored | None:
    """The event with which a job began, or None."""
    return next((e for e in events if e.event == "state" and e.data["state"] == "running"), None)


def ms_of(event: Stored) -> int:
    return order(event.id)[0]


def ms_at(text: str) -> float:
    return datetime.fromisoformat(text).timestamp() * 1000


def no_job_begins_before_its_time(h: History) -> Found:
    """No attempt begins before the job's run_at."""
    for job_id, document in h.documents.items():
        first = begun(h.events.get(job_id, []))
        if document["run_at"] and first and ms_of(first) < ms_at(document["run_at"]):
            yield job_id, f"began at {first.data['at']}, before {document['run_at']}"


def no_job_begins_after_it_expires(h: History) -> Found:
    """A job that expires is given so long as was asked for, begins before that or never, and fails then."""
    asked = {s.key: s.body.get("expires_s") for s in h.submissions}
    for job_id, document in h.documents.items():
        events = h.events.get(job_id, [])
        expires_s = asked.get(document["labels"].get("key", ""))
        if (document["expires_at"] is None) != (expires_s is None):
            yield job_id, f"was to expire after {expires_s} s, and does at {document['expires_at']}"
        if not document["expires_at"] or not events:
            continue
        expires = ms_at(document["expires_at"])
        since = max(ms_at(document["created_at"]), ms_at(document["run_at"] or document["created_at"]))
        if expires_s and abs(expires - since - expires_s * 1000) > 1:
            yield job_id, f"expires {(expires - since) / 1000} s after its time, and not {expires_s} s"
        first = begun(events)
        if first and ms_of(first) >= expires:
            yield job_id, f"began at {first.data['at']}, and was to expire at {document['expires_at']}"
        end = events[-1]
        if not first and document["state"] == "failed" and ms_of(end) < expires:
            yield job_id, f"has failed, though it could have begun until {document['expires_at']}"


def no_two_jobs_have_a_unique_key(h: History) -> Found:
    """Of the jobs with one unique key there is never more than one that holds it."""
    holders: dict[str, list[tuple[tuple[int, int], tuple[int, int], str]]] = defaultdict(list)
    for job_id, document in h.documents.items():
        events = h.events.get(job_id, [])
        if not document["unique"] or not events:
            continue
        last = events[-1]
        if document["unique"]["while"] == "queued":
            last = begun(events) or last
        holders[document["unique"]["key"]].append((order(events[0].id), order(last.id), job_id))
    for key, held in holders.items():
        held.sort()
        for (_, until, one), (since, _, other) in pairwise(held):
            if since < until:
                yield other, f"was made while {one} had the unique key {key!r}"


def what_is_paused_takes_nothing(h: History) -> Found:
    """While a type or queue is paused, no attempt at its jobs begins."""
    for held in h.holds:
        for job_id, document in h.documents.items():
            kind = document["type"]
            if held.name != (kind if held.kind == "types" else QUEUES.get(kind)):
                continue
            for event in h.events.get(job_id, []):
                # One with `cancel_requested` says that cancellation was asked for.
                data = event.data if event.event == "state" else {}
                begins = data.get("state") == "running" and "cancel_requested" not in data
                if begins and held.since * 1000 < ms_of(event) < held.until * 1000:
                    yield (
                        job_id,
                        f"attempt {of_attempt(event)} began {ms_of(event) / 1000 - held.since:.2f} s after "
                        f"{held.kind} {held.name} was paused",
                    )


def a_higher_priority_goes_first(h: History) -> Found:
    """No job begins while another of its type and owner, of a higher priority, or of the same priority and
    group and older, has waited for its first start for longer than a worker can stand still. The groups of
    one priority take turns."""
    jobs: list[tuple[float, float, int, tuple[int, int], dict[str, Any]]] = []
    for job_id, document in h.documents.items():
        events = h.events.get(job_id, [])
        if not events:
            continue
        # Before its time it is not in the line, and then joins it at the end: that is not recorded.
        first = begun(events)
        since = ms_at(document["run_at"]) if document["run_at"] else float(ms_of(events[0]))
        waited_until = float(ms_of(first or events[-1]))
        jobs.append((since, waited_until, document["priority"], order(events[0].id), document))
    for since, until, priority, made, document in jobs:
        for _, began, lower, later, other in jobs:
            if other["type"] != document["type"] or not other["attempt"]:
                continue
            same_line = (
                not document["run_at"] and not other["run_at"] and document["group"] == other["group"]
            )
            precedes = lower < priority or (lower == priority and same_line and made < later)
            if precedes and since + STANDSTILL_S * 1000 < began < until and not _paused(h, document, began):
                yield (
                    document["id"],
                    f"of priority {priority} had waited for {(began - since) / 1000:.1f} s when "
                    f"{other['id']} of priority {lower} began",
                )


def _paused(h: History, document: dict[str, Any], ms: float) -> bool:
    """Whether the job's type may just have been paused, so that it was left out of the line."""
    return any(
        held.kind == "types"
        and held.name == document["type"]
        and held.since - STANDSTILL_S < ms / 1000 < held.until + STANDSTILL_S
        for held in h.holds
    )


def batches_are_all_or_nothing(h: History) -> Found:
    """Of the jobs of a batch there are all, or none; and all if it was accepted."""
    made = Counter(d["labels"].get("batch") for d in h.documents.values())
    asked = Counter(s.body["labels"]["batch"] for s in h.submissions if "batch" in s.body["labels"])
    for batch, size in asked.items():
        if made[batch] not in (0, size):
            yield batch, f"has {made[batch]} of its {size} jobs"


def a_worker_that_is_told_to_end_ends_in_order(h: History) -> Found:
    """It ends by itself and in time, and leaves no attempt without an outcome."""
    for stop in h.stops:
        if stop.disturbed:
            continue
        name = f"worker {stop.pids[0]}"
        if stop.status != 0 or stop.seconds > DRAIN_S + STOPPED_S + BUSY_S:
            yield name, f"ended with status {stop.status} {stop.seconds:.1f} s after it was told to"
        for attempt in h.attempts:
            if attempt.pid in stop.pids and attempt.outcome is None:
                yield (
                    attempt.job,
                    f"nothing came of attempt {attempt.attempt}; {name} was told to end",
                )


QUEUE_RULES = (
    no_job_begins_before_its_time,
    no_job_begins_after_it_expires,
    no_two_jobs_have_a_unique_key,
    what_is_paused_takes_nothing,
    a_higher_priority_goes_first,
    batches_are_all_or_nothing,
    a_worker_that_is_told_to_end_ends_in_order,
)

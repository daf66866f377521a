"""What must hold of any history. Pure: a history in, violations out.

Each rule is a function with a sentence; `RULES` names them all. What the rules mean by an attempt's
number being "of" an event is the `attempt` that every event carries.

A store that takes a replica for its primary may have lost what it had accepted last (`History.lossy`). Then
jobs and events that somebody was told of may be in it no more; but whoever reads a stream is told so.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from tests.faults.findings import Found, Violation, of_attempt, order
from tests.faults.history import Delivered, History, Reading, Stored
from tests.faults.queue_rules import QUEUE_RULES
from tests.faults.reference_reducer import begin, replay

IDLE_S = 30.0
"""A job may wait so long while a worker is free."""
ENCODER_S = 10.0
"""An encoder may outlive its attempt by so much. Undisturbed it is 5 s; here whoever should end it may be
restarting, and the machine is busy."""
GAP_S = 2.0
"""Two looks further apart than this say nothing about the time between them."""
ANSWERS = {0, 200, 202, 503}
"""503: the store is away. Anything else is a service that has lost its head."""
MESSAGE_ANSWERS = {0, 200, 201, 409, 429, 503}
STREAM_ANSWERS = {0, 200, 204}


# -- progress that was not kept ------------------------------------------------------------------------


def with_lost_progress(h: History) -> History:
    """The history with the progress that jobs have not kept after their end, as far as a reader got it.
    What two readers got must be the same, and nobody got what lies in no such place."""
    got: dict[str, dict[str, Delivered]] = defaultdict(dict)
    for reading in h.readings:
        for e in reading.events:
            if e.event == "progress":
                got[e.data["job"]].setdefault(e.id, e)
    events = {}
    for job_id, stored in h.events.items():
        known = {e.id for e in stored}
        lost = [
            Stored(e.id, "", e.event, e.data)
            for e in got[job_id].values()
            if e.id not in known and gap_of(stored, e.id) is not None
        ]
        events[job_id] = sorted([*stored, *lost], key=lambda e: order(e.id))
    return replace(h, events=events)


def gap_of(events: list[Stored], event_id: str) -> Stored | None:
    """The first event after progress that was not kept, if this could be the id of some of that."""
    for e in events:
        if e.kept is not None and order(e.kept) < order(event_id) <= order(e.prev):
            return e
    return None


# -- submissions and jobs ------------------------------------------------------------------------------


def submissions_make_one_job(h: History) -> Found:
    """An accepted submission made one job, the same for every repeat, unless another had its unique key; an
    unanswered one made none or one; and there is no job that nobody submitted."""
    made: dict[str, set[str]] = defaultdict(set)
    for job_id, document in h.documents.items():
        made[document["labels"].get("key", "")].add(job_id)
    for s in h.submissions:
        jobs = made.pop(s.key, set())
        if len(jobs) > 1:
            yield s.key, f"made {len(jobs)} jobs: {sorted(jobs)}"
        told = {answer.job for answer in s.answers if answer.status in (200, 202) and answer.job}
        if len(told | jobs) > 1 and not h.lossy:
            yield s.key, f"was told of {sorted(told)}, and the store has {sorted(jobs)}"
        key = (s.body.get("unique") or {}).get("key")
        for answer in s.answers:
            if answer.status not in ANSWERS:
                yield s.key, f"was answered with {answer.status}"
            if answer.status in (200, 202) and answer.job not in jobs and not h.lossy:
                held = h.documents.get(answer.job or "", {}).get("unique") or {}
                if key is None or held.get("key") != key:
                    yield s.key, f"was told of {answer.job}, and the store has {sorted(jobs)}"
    for key, jobs in made.items():
        yield key or "nobody", f"submitted {sorted(jobs)}"


def one_end_and_nothing_after_it(h: History) -> Found:
    """Every job in the store has exactly one `end`, and it is its last event."""
    for job_id, events in h.events.items():
        ends = [i for i, event in enumerate(events) if event.event == "end"]
        if len(ends) != 1:
            yield job_id, f"has {len(ends)} ends; it is {h.documents.get(job_id, {}).get('state')}"
        elif ends[0] != len(events) - 1:
            yield job_id, f"has {len(events) - 1 - ends[0]} events after its end"


def no_write_with_an_old_fence(h: History) -> Found:
    """After the first event of an attempt there is none of an earlier one."""
    for job_id, events in h.events.items():
        newest = 0
        for event in events:
            if of_attempt(event) < newest:
                yield (
                    job_id,
                    f"{event.event} {event.id} of attempt {of_attempt(event)} after one of {newest}",
                )
            newest = max(newest, of_attempt(event))


def progress_never_falls(h: History) -> Found:
    """(attempt, fraction) never falls, in the store and for any reader; 1 only in `succeeded`."""
    for job_id, events in h.events.items():
        yield from _falls(job_id, ((e.event, e.data) for e in events))
    for reading in map(_after_resets(h), h.readings):
        by_job: dict[str, list[tuple[str, Any]]] = defaultdict(list)
        for e in reading.events:
            if e.event in ("progress", "end"):
                by_job[_job_of(e.event, e.data)].append((e.event, e.data))
        for job_id, found in by_job.items():
            for _, detail in _falls(job_id, found):
                yield f"{reading.name} of {job_id}", detail


def _falls(job_id: str, events: Iterable[tuple[str, Any]]) -> Found:
    reached = (0, 0.0)
    for event, data in events:
        progress = data if event == "progress" else (data["progress"] or {}) if event == "end" else {}
        fraction = progress.get("fraction")
        if fraction is None:
            continue
        here = (int(data["attempt"]), float(fraction))
        if here < reached:
            yield job_id, f"progress fell from {reached} to {here}"
        if (fraction == 1) != (event == "end" and data["state"] == "succeeded"):
            yield job_id, f"fraction {fraction} in {event} ({data.get('state')})"
        reached = here


def rest_is_the_replay(h: History) -> Found:
    """The job as REST gives it equals the replay of its events; so does every snapshot and reset."""
    bodies = {s.key: s.body for s in h.submissions}
    moments: dict[str, dict[str, dict[str, Any]]] = {}
    for job_id, events in h.events.items():
        document = h.documents.get(job_id)
        if document is None:
            yield job_id, "is in the store and not in REST"
            continue
        body = bodies.get(document["labels"].get("key", ""), {})
        # What follows from the submission and the clock is another rule's.
        told = {name: document[name] for name in ("max_attempts", "expires_at")}
        told["owner"] = h.owner
        job = {**begin(job_id, {k: v for k, v in body.items() if k != "expires_s"}), **told}
        if "max_attempts" in body and body["max_attempts"] != document["max_attempts"]:
            yield job_id, f"max_attempts {document['max_attempts']}"
        at = moments[job_id] = {}
        for event in events:
            before, job = job, replay(job, [event])
            at[event.id] = job
            if event.event == "end":
                yield from _end_follows(job_id, before, event)
        yield from _differs(job_id, "REST", document, job)
    for reading in map(_after_resets(h), h.readings):
        for e in reading.events:
            for shown in _states_in(e):
                expected = moments.get(shown["id"], {}).get(shown["last_event_id"])
                gap = gap_of(h.events.get(shown["id"], []), shown["last_event_id"])
                if expected is None and gap is not None and gap.kept in moments[shown["id"]]:
                    # Of the progress that it shows nobody else has heard.
                    of_it = {n: shown[n] for n in ("progress", "updated_at", "last_event_id")}
                    expected = {**moments[shown["id"]][gap.kept], **of_it}
                if expected is None and _is_over(h, reading):
                    continue
                if expected is not None and _unheard(h, shown):
                    expected = {**expected, "progress": shown["progress"]}
                if expected is None:
                    yield (
                        reading.name,
                        f"{e.event} of {shown['id']} at no event of it: {shown['last_event_id']}",
                    )
                else:
                    yield from _differs(f"{reading.name} of {shown['id']}", e.event, shown, expected)


def _unheard(h: History, shown: dict[str, Any]) -> bool:
    """Whether a state may show progress that was not kept and that nobody got before: there is some behind
    the last that somebody did get."""
    until = order(shown["last_event_id"])
    events = [e for e in h.events[shown["id"]] if order(e.id) <= until]
    for before, event in zip(reversed(events[:-1]), reversed(events), strict=False):
        if event.event == "progress":
            return False
        if event.kept is not None and event.prev != before.id:
            return True
    return False


def _end_follows(job_id: str, before: dict[str, Any], end: Stored) -> Found:
    """The end says what was before it, but for what ending changes."""
    changes = {"state", "result", "error", "finished_at", "updated_at", "last_event_id", "cancel_requested"}
    if end.data["state"] == "succeeded":
        changes.add("progress")
        if (end.data["progress"] or {}).get("fraction") != 1:
            yield job_id, "succeeded, and not at 100 %"
    if end.data["last_event_id"] != end.id:
        yield job_id, f"the end {end.id} calls itself {end.data['last_event_id']}"
    if before["cancel_requested"] and not end.data["cancel_requested"]:
        yield job_id, "the end has forgotten that cancellation was asked for"
    for name in before.keys() - changes:
        if before[name] != end.data[name]:
            yield job_id, f"the end has {name} {end.data[name]!r}, and before it was {before[name]!r}"


def _differs(subject: str, what: str, document: dict[str, Any], expected: dict[str, Any]) -> Found:
    for name in sorted(document.keys() | expected.keys()):
        if document.get(name) != expected.get(name):
            yield (
                subject,
                f"{what} has {name} {document.get(name)!r}, its events make {expected.get(name)!r}",
            )


def _states_in(e: Delivered) -> list[dict[str, Any]]:
    if e.event == "snapshot":
        return [e.data]
    if e.event == "reset":
        return e.data["jobs"] if "jobs" in e.data else [e.data["job"]]
    return []


def outcomes_are_those_asked_for(h: History) -> Found:
    """Nothing is canceled that nobody canceled; what must fail fails; the log and the messages of an
    attempt of `simulate` have every line once and in order, to its last if it succeeded, whose last count
    is exact."""
    by_key = {s.key: s for s in h.submissions}
    for job_id, document in h.documents.items():
        submission = by_key.get(document["labels"].get("key", ""))
        if submission is None:
            continue
        if document["state"] == "canceled" and not submission.canceled:
            yield job_id, "was canceled, and nobody asked for that"
        if document["type"] == "simulate":
            yield from _simulated(job_id, document, h.events.get(job_id, []), lossy=h.lossy)


def _simulated(job_id: str, document: dict[str, Any], events: list[Stored], *, lossy: bool) -> Found:
    params = document["params"]
    succeeded = document["state"] == "succeeded"
    fails = params.get("fail_at") is not None
    if succeeded and fails and document["attempt"] <= params.get("fail_attempts", 10**9):
        yield job_id, f"succeeded in attempt {document['attempt']}, which had to fail"
    updates = max(params.get("stages", 1), round(params["duration_s"] * params["rate"]))
    if succeeded and (document["result"] or {}).get("updates") != updates:
        yield job_id, f"made {document['result']} and not {updates} updates"
    for kind in ("log", "message"):
        every = params.get(f"{kind}_every", 0)
        if not every:
            continue
        lines: dict[int, list[str]] = defaultdict(list)
        for event in events:
            if event.event == kind and kind == "log":
                lines[of_attempt(event)].append(event.data["message"])
            elif event.event == kind and event.data["from"] == "task":
                lines[of_attempt(event)].append("update {} of {}".format(*event.data["data"]))
        if succeeded:
            lines.setdefault(document["attempt"], [])
        for attempt, found in lines.items():
            complete = succeeded and attempt == document["attempt"]
            count = updates // every if complete else len(found)
            expected = [f"update {n * every} of {updates}" for n in range(1, count + 1)]
            if lossy:
                every_line = (f"update {n * every} of {updates}" for n in range(1, updates // every + 1))
                expected = [line for line in every_line if line in found]
            if found != expected:
                yield job_id, f"the {kind}s of attempt {attempt} are {found}, and not {expected}"


def messages_arrive_once(h: History) -> Found:
    """A message that was accepted is one event of its job, however often it was sent; one that was not
    answered is one or none; and no client's message is there that nobody sent."""
    arrived: dict[tuple[str, str], int] = defaultdict(int)
    for job_id, events in h.events.items():
        for event in events:
            if event.event == "message" and event.data["from"] == "client":
                arrived[job_id, event.data["data"]] += 1
    for said in h.said:
        count = arrived.pop((said.job, said.text), 0)
        for status in set(said.answers) - MESSAGE_ANSWERS:
            if status == 404 and h.lossy and said.job not in h.events:
                continue
            yield said.job, f"the message {said.text} was answered with {status}"
        accepted = bool({200, 201} & set(said.answers))
        if count > 1 or (accepted and not count and not h.lossy):
            yield said.job, f"the message {said.text}, answered {said.answers}, is there {count} times"
        if accepted and 409 in said.answers and not h.lossy:
            yield said.job, f"the message {said.text} was accepted, and refused when it was sent again"
    for job_id, text in arrived:
        yield job_id, f"has the message {text}, which nobody sent"


def artifacts_are_of_the_newest_attempt(h: History) -> Found:
    """One committed artifact a name, by the newest attempt that made one, and its file is there, whole."""
    sizes = {(f.job, f.attempt, f.name): f.size for f in h.files}
    for job_id, document in h.documents.items():
        names = [a["name"] for a in document["artifacts"]]
        if len(set(names)) != len(names):
            yield job_id, f"has an artifact twice: {names}"
        for a in document["artifacts"]:
            if document["state"] == "succeeded" and a["attempt"] != document["attempt"]:
                yield (
                    job_id,
                    f"succeeded in attempt {document['attempt']} with {a['name']} of {a['attempt']}",
                )
            size = sizes.get((job_id, a["attempt"], a["name"]))
            if size != a["size"] or not size:
                yield job_id, f"{a['name']} of attempt {a['attempt']} has {size} bytes and not {a['size']}"
        encoded = document["type"] == "video.encode" and document["state"] == "succeeded"
        if encoded and "video.mp4" not in names:
            yield job_id, f"encoded a video, and has only {names}"


# -- streams -------------------------------------------------------------------------------------------


def chains_are_unbroken(h: History) -> Found:
    """Ids strictly increase in every stream, and each event names the one before it."""
    chains = {**h.events, "feed": h.feed, **{f"feed of {g}": events for g, events in h.groups.items()}}
    for name, events in chains.items():
        before = "0-0"
        for event in events:
            if event.kept is not None:
                follows = order(event.kept) <= order(before) <= order(event.prev)
            else:
                follows = event.prev in ("", before)
            if not follows:
                yield name, f"{event.id} names {event.prev} before it, and it was {before}"
            if order(event.id) <= order(before):
                yield name, f"{event.id} after {before}"
            before = event.id


def feeds_hold_what_their_jobs_hold(h: History) -> Found:
    """A feed is the events of its jobs but for progress, in the order of their ids."""
    groups = {job_id: document["group"] for job_id, document in h.documents.items()}
    for group in [None, *h.groups]:
        feed = h.feed if group is None else h.groups[group]
        expected = sorted(
            (
                (order(e.id), e.event)
                for job_id, events in h.events.items()
                for e in events
                if e.event != "progress" and (group is None or groups.get(job_id) == group)
            )
        )
        found = [(order(e.id), e.event) for e in feed if e.event != "group-end"]
        if found != expected:
            missing = [i for i in expected if i not in set(found)]
            extra = [i for i in found if i not in set(expected)]
            yield f"feed of {group or 'all'}", f"lacks {missing[:5]}, and has {extra[:5]} that no job has"


def readers_miss_nothing(h: History) -> Found:
    """Ids strictly increase for every reader over all its connections; what it got is what the store has;
    and something is missing only after a reset, or if it is progress that newer progress replaced."""
    groups = {job_id: document["group"] for job_id, document in h.documents.items()}
    for reading in map(_after_resets(h), h.readings):
        gone = h.lossy and not all(job_id in h.events for job_id in reading.jobs or ())
        for status in (c.status for c in reading.connections if c.status not in STREAM_ANSWERS):
            if status != 404 or not gone:
                yield reading.name, f"a stream was answered with {status}"
        if not reading.done and not (gone and reading.connections[-1].status in (0, 404)):
            yield reading.name, "never saw its end"
        if _is_over(h, reading):
            known = {e.id for job_id in reading.jobs or () for e in h.events.get(job_id, ())}
            states = ("reset", "snapshot", "cursor")
            kept = [e for e in reading.events if e.event in states or e.id in known]
            reading = replace(reading, events=kept)
        jobs = [
            job_id
            for job_id in h.events
            if (reading.jobs is None and (reading.group is None or groups.get(job_id) == reading.group))
            or (reading.jobs is not None and job_id in reading.jobs)
        ]
        yield from _reads(
            reading, {job_id: h.events[job_id] for job_id in jobs}, h.groups.get(reading.group or "", [])
        )


def _after_resets(h: History) -> Callable[[Reading], Reading]:
    """What a reader has after the last reset: what it saw before was taken back, if the store loses
    anything. In any other history that is all of it."""

    def told(reading: Reading) -> Reading:
        if not h.lossy:
            return reading
        resets = [i for i, e in enumerate(reading.events) if e.event == "reset"]
        return replace(reading, events=reading.events[resets[-1] if resets else 0 :], foreign=True)

    return told


def _is_over(h: History, reading: Reading) -> bool:
    """Whether it has gone, or been sent away, and cannot be told that what it saw last was lost."""
    sent_away = any(c.status == 404 for c in reading.connections)
    return h.lossy and reading.jobs is not None and (reading.done or sent_away)


def _reads(reading: Reading, streams: dict[str, list[Stored]], feed: list[Stored]) -> Found:
    stored = {e.id: (job_id, e) for job_id, events in streams.items() for e in events}
    stored |= {e.id: ("", e) for e in feed if e.event == "group-end"}
    name = reading.name
    last = (0, 0)
    since = (0, 0)
    """Up to here a snapshot or a reset speaks for all events."""
    shown: set[str] = set()
    got: set[str] = set()
    begun = False
    resets = 0
    for e in reading.events:
        at = order(e.id)
        if e.event == "reset":
            resets += 1
            since = last = at
            got.clear()
            shown.clear()
            continue
        if e.event == "cursor":
            since = last = max(at, last)
            continue
        if at <= last and not (e.event == "snapshot" and at == last):
            yield name, f"{e.event} {e.id} after {last}, on connection {e.connection}"
        last = max(last, at)
        if e.event == "snapshot":
            if begun and reading.jobs is not None and len(reading.jobs) == 1:
                yield name, f"a snapshot {e.id} after events"
            since = max(since, at)
            shown.add(e.data["id"])
            continue
        # What is told of a group is replaced by what is told next, and not kept.
        if e.event in ("shutdown", "group"):
            continue
        begun = True
        found = stored.get(e.id)
        if found is None:
            yield name, f"{e.event} {e.id} is not in the store"
            continue
        _, event = found
        if (event.event, event.data) != (e.event, e.data):
            yield name, f"{e.id} is {event.event} in the store and came as {e.event}, or with other data"
        got.add(e.id)
    if resets and not reading.foreign:
        yield name, f"{resets} resets, though nothing was lost or trimmed"
    single = reading.jobs is not None
    for job_id, events in streams.items():
        base = since
        if reading.jobs is not None and len(reading.jobs) > 1 and job_id not in shown:
            # Without a cursor, a list of jobs is given only the end of those that have ended.
            base = max(base, min((order(e.id) for e in events if e.id in got), default=base))
        for i, event in enumerate(events):
            if event.id in got or not base < order(event.id) <= last:
                continue
            if event.event == "progress" and _replaced(events[i + 1 :], got, last, single):
                continue
            yield name, f"never got {event.event} {event.id} of {job_id}"


def _replaced(later: list[Stored], got: set[str], last: tuple[int, int], single: bool) -> bool:
    """Whether the reader was given what makes a progress of no use: newer progress; on a feed also a
    change of state, since there only running jobs have progress."""
    for event in later:
        if event.event == "progress" and event.id in got:
            return True
        if not single and event.event in ("state", "end"):
            return event.id in got
        if order(event.id) > last:
            return False
    return False


def groups_are_their_jobs(h: History) -> Found:
    """A group has one end, the last event of its feed, and it counts its jobs as they ended; whoever read
    the feed got it. What is told of a group never has fewer jobs than before, nor fewer that have ended."""
    for name, feed in h.groups.items():
        states = Counter(d["state"] for d in h.documents.values() if d["group"] == name)
        ends = [e for e in feed if e.event == "group-end"]
        if not states:
            continue
        if len(ends) != 1 or feed[-1] != ends[0]:
            yield f"group {name}", f"has {len(ends)} ends, and its feed ends with {feed[-1].event}"
        for end in ends:
            if {s: n for s, n in end.data["counts"].items() if n} != states:
                yield f"group {name}", f"ended with {end.data['counts']}, and its jobs are {dict(states)}"
    for reading in map(_after_resets(h), h.readings):
        if reading.group is None:
            continue
        got = [e for e in reading.events if e.event in ("group", "group-end")]
        ended = sum(e.event == "group-end" for e in got)
        if h.groups.get(reading.group) and ended != 1:
            yield reading.name, f"was told {ended} times that the group has ended"
        before = (0, 0)
        for e in got:
            counts = e.data["counts"]
            now = (sum(counts.values()), sum(counts[s] for s in ("succeeded", "failed", "canceled")))
            if now[0] < before[0] or now[1] < before[1]:
                yield reading.name, f"was told of {now} jobs (all, ended) in {e.id} after {before}"
            before = now


# -- workers -------------------------------------------------------------------------------------------


def attempts_have_one_holder(h: History) -> Found:
    """No attempt is begun twice, none that the store does not know; and what a worker ended, and was not
    refused, is how the job ended, in that attempt."""
    begun: set[tuple[str, int]] = set()
    for a in h.attempts:
        document = h.documents.get(a.job)
        if document is None:
            continue
        if h.lossy:
            continue
        if (a.job, a.attempt) in begun:
            yield a.job, f"attempt {a.attempt} was begun twice"
        begun.add((a.job, a.attempt))
        if a.attempt > document["attempt"]:
            yield a.job, f"attempt {a.attempt} ran, and the store knows of {document['attempt']}"
        ends = {"succeeded": "succeeded", "failed": "failed", "canceled": "canceled"}
        expected = ends.get(a.outcome or "")
        if expected and not a.void and (document["state"], document["attempt"]) != (expected, a.attempt):
            yield (
                a.job,
                f"attempt {a.attempt} ended as {expected}, and the job is {document['state']} in attempt "
                f"{document['attempt']}",
            )


def no_encoder_without_its_job(h: History) -> Found:
    """No encoder works for long on an attempt that is over; in the end there is none, and no file."""
    stray: dict[tuple[int, str, int], float] = defaultdict(float)
    for before, look in zip(h.looks, h.looks[1:], strict=False):
        step = look.at - before.at
        seen = {(e.pid, e.job, e.attempt) for e in before.encoders}
        for e in look.encoders:
            key = (e.pid, e.job, e.attempt)
            if e.held or not look.calm or not before.calm or key not in seen or step > GAP_S:
                continue
            if look.running.get(e.job) != e.attempt:
                stray[key] += step
    for (pid, job_id, attempt), seconds in stray.items():
        if seconds > ENCODER_S:
            yield job_id, f"encoder {pid} of attempt {attempt} worked on for {seconds:.1f} s after it"
    for what in h.left:
        yield what, "was left when all jobs had ended"


def no_job_waits_beside_a_free_worker(h: History) -> Found:
    """No job waits for 30 s while a worker is free, the time not counted in which the store was away."""
    waited: dict[tuple[str, int], float] = defaultdict(float)
    for before, look in zip(h.looks, h.looks[1:], strict=False):
        step = look.at - before.at
        if not (look.free and before.free and look.calm and before.calm) or step > GAP_S:
            continue
        both = {(w.job, w.attempt) for w in before.waiting}
        for w in look.waiting:
            if (w.job, w.attempt) in both:
                waited[w.job, w.attempt] += step
    for (job_id, _), seconds in waited.items():
        if seconds > IDLE_S:
            yield job_id, f"waited for {seconds:.0f} s while a worker was free"


RULES: tuple[Callable[[History], Found], ...] = (
    submissions_make_one_job,
    one_end_and_nothing_after_it,
    no_write_with_an_old_fence,
    progress_never_falls,
    rest_is_the_replay,
    outcomes_are_those_asked_for,
    messages_arrive_once,
    artifacts_are_of_the_newest_attempt,
    chains_are_unbroken,
    feeds_hold_what_their_jobs_hold,
    groups_are_their_jobs,
    readers_miss_nothing,
    attempts_have_one_holder,
    no_encoder_without_its_job,
    no_job_waits_beside_a_free_worker,
    *QUEUE_RULES,
)


def check(history: History) -> list[Violation]:
    history = with_lost_progress(history)
    return [
        Violation(rule.__name__.replace("_", " "), subject, detail)
        for rule in RULES
        for subject, detail in rule(history)
    ]


def _job_of(event: str, data: Any) -> str:
    return str(data["id"] if event in ("end", "snapshot") else data["job"])

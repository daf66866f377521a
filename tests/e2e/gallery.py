"""Every page of the dashboard with something on it, also with text that means harm.

There is no worker: what workers say and do is said and done by hand, and stays as it is.
"""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from headway.contract.encoding import dumps
from headway.contract.events import EventType
from headway.contract.pauses import Subject
from headway.contract.records import Artifact, artifacts_json
from headway.contract.states import ErrorCode, State
from headway.contract.store import Claim, Report
from headway.sdk.job_type import discover
from tests.support.browser import card, page
from tests.support.manual_jobs import HOSTILE, log, progress, running_by_hand
from tests.support.stack import Stack
from worker.media.ffmpeg import locate

CONTROL = "".join(map(chr, range(1, 32))) + "\x7f\x85\u2028\u2029"
BIDI = "\u202e\u2066\u2067\u061c"
NASTY = f"{HOSTILE}{CONTROL}{BIDI}'\"&amp;%00\u0300\u0301\u0302</title></textarea>--><!--"
TYPE = f"<img/src=x/onerror=window.hacked=1>{CONTROL.replace(chr(32), '')}{BIDI}"
"""As harmful as the name of a job type can be: it has no space."""
LONG = "W" * 1_000_000
LABEL = "W" * 128
ALIVE_S = 3600.0


@dataclass(frozen=True)
class Page:
    """A page, and what is there when it is drawn."""

    name: str
    address: str
    there: str


def furnish(stack: Stack) -> list[Page]:
    """Jobs, job types and workers of all kinds; the pages that show them."""
    _register(stack)
    waiting = stack.submit("simulate", {"duration_s": 1}, group="gallery", labels={"a": "b"})["id"]
    running = _running(stack).ref.id
    unknown = running_by_hand(stack, lease_s=ALIVE_S, group="gallery")
    stack.store.append(unknown, 1, [progress(None, "nobody knows how long")])
    failed, succeeded = _failed(stack), _succeeded(stack)
    hostile_running = _hostile(stack).ref.id
    hostile = _hostile_end(stack, _hostile(stack))
    # Nothing of them could be claimed before.
    for kind, name in (("queue", NASTY), ("type", TYPE), ("worker", "nasty"), ("worker", NASTY)):
        stack.store.pauses.add(Subject(kind, name), NASTY)
    return [
        Page("list", "#/", card(running)),
        Page("nothing found", "#/?q=no-such-thing", "#empty:not([hidden])"),
        Page("waiting", f"#/jobs/{waiting}", f"{page(waiting)} .waiting:not([hidden])"),
        Page("running", f"#/jobs/{running}", f"{page(running)} rate-chart .curve"),
        Page("failed", f"#/jobs/{failed}", f"{page(failed)} job-attempts tr:nth-child(2)"),
        Page("succeeded", f"#/jobs/{succeeded}", f"{page(succeeded)} audio"),
        Page("no job", "#/jobs/0-AAAAAAAAAAAAAAAAAAAAAA", "#notice:not([hidden])"),
        Page("form", f"#/new?from={waiting}", "[data-part=options][open] [data-field=labels]"),
        Page(
            "hostile list",
            f"#/?{urlencode({'group': HOSTILE, 'label': f'{LABEL}:{LABEL * 2}'})}",
            card(hostile),
        ),
        Page("hostile running", f"#/jobs/{hostile_running}", f"{page(hostile_running)} rate-chart .curve"),
        Page("hostile job", f"#/jobs/{hostile}", f"{page(hostile)} .log li:nth-child(3)"),
        Page("hostile form", f"#/new?from={hostile}", "[data-field=long]"),
        Page("workers", "#/workers", "workers-page .held a"),
    ]


def _register(stack: Stack) -> None:
    types = {name: job_type.describe() for name, job_type in discover("worker.tasks").items()}
    about = {"pid": 4242, "concurrency": 1, "started_at": "2026-01-01T00:00:00.000Z"}
    queues = sorted({job_type.queue for job_type in discover("worker.tasks").values()})
    stack.store.registry.register("box:1:a", types, ALIVE_S, {**about, "host": "box", "queues": queues})
    field = {"type": "string", "title": NASTY, "description": NASTY, "default": NASTY}
    schema = {"type": "object", "properties": {NASTY: field, "long": {**field, "title": "W" * 5000}}}
    text = json.dumps({"name": TYPE, "title": NASTY, "queue": NASTY, "params": schema, "max_attempts": 3})
    worker = {**about, "host": f"{NASTY}{'W' * 2000}", "queues": [NASTY, "W" * 2000]}
    stack.store.registry.register("nasty", {TYPE: text}, ALIVE_S, worker)
    # In the worker's name, as its pool's processes do it.
    running_by_hand(stack, lease_s=ALIVE_S, worker="box:1:a:77", type="W" * 128)


def _running(stack: Stack) -> Claim:
    labels = {f"label {n}": f"value {n}" for n in range(8)}
    claim = running_by_hand(stack, lease_s=ALIVE_S, group="gallery", labels=labels)
    for n in range(4):
        body = dumps(
            {
                **{"fraction": n / 10, "current": n * 10, "total": 100, "unit": "frames", "rate": 12.5 + n},
                **{"eta_s": 34, "message": "a message", "data": {"fps": 25.0 + n}},
                "stage": {"name": "encode", "index": 2, "count": 3, "fraction": n / 10},
            }
        )
        reports = [Report(EventType.PROGRESS, body, "progress", body), log(f"line {n}")]
        stack.store.append(claim, n + 1, reports)
    return claim


def _failed(stack: Stack) -> str:
    claim = running_by_hand(stack, lease_s=ALIVE_S, group="gallery", max_attempts=2)
    stack.store.append(claim, 1, [progress(0.4, "half way")])
    stack.store.retry(claim, delay_s=0, reason="the disk was full")
    again = stack.store.claim(claim.ref, token="again", lease_s=ALIVE_S, worker="test")
    assert again is not None
    stack.store.append(again, 1, [progress(0.6), log("it does not look good")])
    stack.store.end(again, State.FAILED, error=(ErrorCode.ERROR, "it broke"))
    return claim.ref.id


def _succeeded(stack: Stack) -> str:
    """With a film, its still, a sound and a text, all of them real."""
    claim = running_by_hand(stack, lease_s=ALIVE_S, group="gallery")
    directory = stack.directory / "artifacts" / claim.ref.id / "1"
    directory.mkdir(parents=True)
    _film(directory / "video.mp4", directory / "poster.jpg", directory / "sound.m4a")
    (directory / "notes.txt").write_text("notes")
    media = {"mp4": "video/mp4", "jpg": "image/jpeg", "m4a": "audio/mp4", "txt": "text/plain"}
    artifacts = [
        Artifact(
            name=path.name,
            media_type=media[path.suffix[1:]],
            size=path.stat().st_size,
            url=f"/jobs/{claim.ref.id}/artifacts/{path.name}",
            attempt=1,
        )
        for path in sorted(directory.iterdir())
    ]
    _add(stack, claim, artifacts)
    stack.store.end(claim, State.SUCCEEDED, result={"frames": 50, "words": ["some", "words"]})
    return claim.ref.id


def _film(video: Path, still: Path, sound: Path) -> None:
    sources = ["-f", "lavfi", "-i", "testsrc2=duration=2:size=320x180:rate=25"]
    sources += ["-f", "lavfi", "-i", "sine=duration=2"]
    command = [locate("ffmpeg"), "-nostdin", "-v", "error", *sources]
    command += [
        "-map",
        "0",
        "-map",
        "1",
        str(video),
        "-map",
        "0",
        "-frames:v",
        "1",
        str(still),
        "-map",
        "1",
    ]
    subprocess.run([*command, str(sound)], check=True, timeout=60)


def _hostile(stack: Stack) -> Claim:
    """All that a job says means harm."""
    labels = {NASTY: NASTY, LABEL: LABEL * 2}
    params = {NASTY: NASTY, "long": LONG[:60_000]}
    claim = running_by_hand(stack, lease_s=ALIVE_S, group=HOSTILE, type=TYPE, labels=labels, params=params)
    artifacts = [
        Artifact(name=name, media_type=NASTY, size=1, url=url, attempt=1)
        for name, url in ((NASTY, "javascript:window.hacked=1"), ("W" * 255, "//elsewhere.example/x"))
    ]
    _add(stack, claim, artifacts)
    stage = {"name": f"{NASTY}{'W' * 5000}", "index": 1, "count": 2}
    for n in range(3):
        body = dumps(
            {
                **{
                    "fraction": 0.5,
                    "message": NASTY + "W" * 10_000,
                    "stage": stage,
                    "rate": 2.0 + n,
                    "current": 1,
                },
                **{"unit": f"{NASTY}{'W' * 1000}", "data": {"fps": 3.0}},
            }
        )
        stack.store.append(claim, n + 2, [Report(EventType.PROGRESS, body, "progress", body)])
    return claim


def _hostile_end(stack: Stack, claim: Claim) -> str:
    """What it says in the end, longer than the service lets it be: 1 MB of one line."""
    lines = [NASTY, LONG, "\n" * 1000, "\x1b[31mred\x1b[2J\r\b\x07", ""]
    levels: list[Any] = ["info", NASTY, "W" * 1000]
    reports = [Report(EventType.LOG, dumps({"level": level, "message": "x"})) for level in levels]
    stack.store.append(claim, 5, [log(line) for line in lines] + reports)
    stack.store.end(
        claim, State.FAILED, error=(ErrorCode.ERROR, NASTY + LONG), result={NASTY: LONG[:10_000]}
    )
    return claim.ref.id


def _add(stack: Stack, claim: Claim, artifacts: list[Artifact]) -> None:
    value = artifacts_json(artifacts)
    reports = [Report(EventType.ARTIFACT, one.model_dump_json(), "artifacts", value) for one in artifacts]
    stack.store.append(claim, 1, reports)

"""`make demo`: encode a clip and watch it over a stream that is cut half-way and resumed.

Everything is seen from outside, as any client sees it. Nothing may be missing, nothing may come twice.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path

from headway.cli.one_line import sanitized
from headway.cli.tracker import JobTracker
from headway.cli.view import viewing
from headway.client import Client, ClientError, Event, Job
from headway.contract.data_dir import DEMO
from headway.contract.events import EventId
from headway.contract.settings import Settings, load_or_exit
from headway.sdk.sandbox import launch

CLIPS_S = (60, 240, 960)
"""Lengths of the clip; the next is tried when a machine was too fast for the bar to move MOVES times."""
MOVES = 20
READY = "Headway is ready at "
READY_S = 60.0
AWAY_S = 1.5
"""How long to stay away after the cut, so that there is something to miss."""
SILENCE_S = 60.0
LIMIT_S = 900.0


class DemoError(Exception):
    """What did not hold, in one line."""


def demo(environ: Mapping[str, str]) -> int:
    """Run the demo at HEADWAY_URL, else in a Headway of its own. Returns the exit status."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    settings = load_or_exit({**environ, "REDIS_URL": environ.get("REDIS_URL") or "redis://127.0.0.1"})
    started = time.monotonic()
    try:
        with contextlib.ExitStack() as stack:
            client = Client(environ.get("HEADWAY_URL") or stack.enter_context(_own_headway(environ)))
            client.types()
            print(f"Headway at {client.url}, ready after {time.monotonic() - started:.1f} s", flush=True)
            job = _encode(client)
            for artifact in job["artifacts"]:
                path = client.download(job, artifact["name"], settings.data_dir / DEMO / job["id"])
                _say("result", f"{path} ({artifact['size']:,} bytes)")
    except (DemoError, ClientError, OSError) as error:
        print(f"headway: the demo failed: {sanitized(error or type(error).__name__)}", file=sys.stderr)
        return 1
    made = job["result"]
    codecs = f"{made['video_codec']}+{made['audio_codec']}, {made['width']}x{made['height']}"
    _say("video", f"{codecs}, {made['duration_s']:.1f} s, as ffprobe reads it")
    _say("done", f"in {time.monotonic() - started:.1f} s")
    return 0


def _say(what: str, text: str) -> None:
    print(f"{what:<8} {text}", flush=True)


def _encode(client: Client) -> Job:
    """Encode a clip that takes long enough for the bar to move. Returns the job."""
    for seconds in CLIPS_S:
        job_id = client.submit("video.encode", {"input": f"sample:{seconds}", "preset": "mp4"})["id"]
        _say("job", f"{job_id}: video.encode of {seconds} s of video")
        since = time.monotonic()
        seen = _watch(client, job_id)
        moves = len({event.data["fraction"] for event in seen if event.event == "progress"})
        _say("bar", f"moved {moves} times in {time.monotonic() - since:.1f} s")
        job: Job = seen[-1].data
        if moves >= MOVES:
            return job
        _say("", "This machine is too fast for that clip: once more, with a longer one.")
    raise DemoError(f"the bar moved less than {MOVES} times, however long the clip")


def _watch(client: Client, job_id: str) -> list[Event]:
    """Watch a job to its end, over a stream that is cut half-way. Returns all events, none missing."""
    tracker = JobTracker(client)
    seen: list[Event] = []
    with contextlib.closing(_shown(client, tracker, job_id, "0")) as stream:
        for event in stream:
            seen.append(event)
            if event.event == "progress" and (event.data["fraction"] or 0) >= 0.5:
                break
    cut_at = seen[-1].id
    _say("cut", f"the stream, after event {cut_at}")
    time.sleep(AWAY_S)
    until = time.monotonic() + SILENCE_S
    while (last := client.job(job_id)["last_event_id"]) == cut_at:
        if time.monotonic() > until or seen[-1].event == "end":
            raise DemoError(f"nothing happened after event {cut_at}, a {seen[-1].event}")
        time.sleep(0.1)
    _say("resume", f"from there; {last} is the last event by now")
    seen += _shown(client, tracker, job_id, cut_at)
    if (job := seen[-1].data)["state"] != "succeeded":
        raise DemoError(f"job {job_id} {job['state']}: {(job['error'] or {}).get('message')}")
    # Of progress, a job that has ended keeps only the newest; until then it has it all.
    stored = list(client.watch(job_id, cursor="0"))
    kept = {event.id for event in stored}
    for got, expected in itertools.zip_longest(
        (event for event in seen if event.id in kept or event.event != "progress"), stored
    ):
        if got != expected:
            raise DemoError(f"saw {got}, but the store has {expected}")
    ids = [EventId.parse(event.id) for event in seen]
    if ids != sorted(set(ids)):
        raise DemoError("the events did not come in order, each once")
    missed = sum(EventId.parse(cut_at) < event_id <= EventId.parse(last) for event_id in ids)
    _say(
        "stream",
        f"{len(seen)} events, with all that the store has kept and in its order: none missing, none "
        f"double; {missed} of them came after the cut, while nobody watched",
    )
    return seen


def _shown(client: Client, tracker: JobTracker, job_id: str, cursor: str) -> Generator[Event, None, None]:
    """Yield the events after the cursor, each drawn. The stream is cut when no more are taken."""
    with (
        client.watch(job_id, cursor=cursor, timeout_s=LIMIT_S) as watch,
        viewing(tracker, watch) as view,
    ):
        for event in watch:
            if event.event == "reset":
                raise DemoError(f"the stream could not be resumed: {event.data['reason']}")
            view.show(event, tracker.happened(event))
            yield event


@contextlib.contextmanager
def _own_headway(environ: Mapping[str, str]) -> Iterator[str]:
    """`make run` on a free port and in a temporary directory. Yields its URL."""
    ours = {name: value for name, value in environ.items() if name.lower() not in Settings.model_fields}
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with (
        tempfile.TemporaryDirectory(prefix="headway-demo-") as directory,
        subprocess.Popen(
            launch(
                [sys.executable, "-m", "service", "run"],
                {"parent": os.getpid(), "signal": int(signal.SIGTERM)},
            ),
            cwd=Path(__file__).parents[2],
            env={**ours, "DATA_DIR": directory, "PORT": str(port)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,  # not read any more once it is ready; it does not wait for readers
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        ) as process,
    ):
        try:
            yield _ready_url(process)
        finally:
            # A second Ctrl-C must not leave processes behind.
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.SIG_IGN)
            process.terminate()
            # Leaving the block waits for its end, but not after a KeyboardInterrupt.
            process.wait()


def _ready_url(process: subprocess.Popen[str]) -> str:
    deadline = threading.Timer(READY_S, process.terminate)
    deadline.start()
    line = "it said nothing"
    try:
        for line in process.stdout or ():
            if line.startswith(READY):
                return line.removeprefix(READY).strip()
    finally:
        deadline.cancel()
    raise DemoError(f"the stack did not start: {line.strip()}")

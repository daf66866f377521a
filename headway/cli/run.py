"""`headway run -- COMMAND`: a job for as long as a command runs, with its output and its exit status."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from types import FrameType
from typing import IO, Any

from headway.cli.commands import complain, describe_error, dump
from headway.client import Attempt, Client, ClientError, Conflict

REPORT_S = 0.5
"""Between two reports while there is something to say."""
MAX_LINES = 100
"""Log lines in one report; what a command says faster is left out, and a line says how much."""
MAX_BYTES = 200_000
"""Of JSON in these: a report of more than 256 KiB is refused."""
MAX_CHARS = 8_192
"""Kept of a line."""
MAX_NUMBER = 2**53
GRACE_S = 10.0
"""From SIGTERM to SIGKILL, for a command whose job was canceled."""
LAST_WORDS_S = 1.0
NOT_FOUND, NOT_STARTED = 127, 126
"""What a shell, too, exits with if a command is not there, and if it is but cannot be started."""
PROGRESS = re.compile(
    r"PROGRESS\s+(?:(?P<current>[\d.]+)/(?P<total>[\d.]+)|(?P<percent>[\d.]+)%|(?P<fraction>[\d.]+))"
    r"(?:\s+(?P<message>.*?))?\s*"
)
"""A line of a command that knows of Headway."""
_LINE_END = re.compile(rb"[\r\n]+")


def pattern(text: str) -> re.Pattern[str]:
    """Return the expression that finds progress in a line."""
    try:
        found = re.compile(text)
    except re.error as error:
        raise argparse.ArgumentTypeError(f"is not a regular expression: {error}") from None
    if not found.groups:
        raise argparse.ArgumentTypeError(
            r"has no group: put the percentage in one, as in '(\d+)%', or name `current` and `total`"
        )
    return found


def progress_in(line: str, own: re.Pattern[str] | None) -> dict[str, Any] | None:
    """Return the progress that a line tells of, or None."""
    found = PROGRESS.fullmatch(line) or (own.search(line) if own else None)
    if found is None:
        return None
    named = {name: text for name, text in found.groupdict().items() if text is not None}
    if not named and found.re is own:
        named = {"percent": found[1] or ""}
    event: dict[str, Any] = {"type": "progress"}
    with contextlib.suppress(ValueError):
        if "current" in named:
            event["current"] = _number(named["current"])
        if "total" in named:
            event["total"] = _number(named["total"])
        if "percent" in named:
            event["fraction"] = min(_number(named["percent"]) / 100, 1.0)
        if "fraction" in named:
            told = _number(named["fraction"])
            event["fraction"] = min(told / 100 if told > 1 else told, 1.0)
        if "message" in named:
            event["message"] = named["message"][:MAX_CHARS]
        return event if len(event) > 1 else None
    return None


def _number(text: str) -> float:
    """Raises ValueError for what the service takes for none: `nan`, -1, more than JavaScript counts."""
    number = float(text)
    if not 0 <= number <= MAX_NUMBER:
        raise ValueError(text)
    return number


class Reporter:
    """Sends what a command says, from a thread of its own: the command never waits for Headway."""

    def __init__(self, attempt: Attempt, process: subprocess.Popen[bytes]) -> None:
        self._attempt = attempt
        self._process = process
        self._lock = threading.Lock()
        self._lines: list[dict[str, Any]] = []
        self._bytes = 0
        self._left_out = 0
        self._progress: dict[str, Any] | None = None
        self._closing = threading.Event()
        self._reported_at = time.monotonic()
        self._complained = False
        self._stop_by: float | None = None
        self.lost = False
        """Whether the job is no longer ours to report on."""
        self._thread = threading.Thread(target=self._run, name="reporter", daemon=True)
        self._thread.start()

    def log(self, level: str, line: str) -> None:
        line = line[:MAX_CHARS]
        size = len(json.dumps(line))
        with self._lock:
            if len(self._lines) < MAX_LINES and self._bytes + size <= MAX_BYTES:
                self._lines.append({"type": "log", "level": level, "message": line})
                self._bytes += size
            else:
                self._left_out += 1

    def progress(self, event: dict[str, Any]) -> None:
        with self._lock:
            self._progress = event

    def close(self) -> None:
        """Send what is left."""
        self._closing.set()
        self._thread.join()

    def _run(self) -> None:
        while not self.lost:
            closing = self._closing.wait(REPORT_S)
            held_back = self._complained
            self._report()
            self._stop_if_canceled()
            if closing:
                if held_back and not self._complained:
                    self._report()
                return

    def _taken(self) -> list[dict[str, Any]]:
        """What there is to say."""
        with self._lock:
            events, self._lines, self._bytes = self._lines, [], 0
            if self._left_out:
                words = f"{self._left_out} lines left out: more than can be kept"
                events.append({"type": "log", "level": "warning", "message": words})
                self._left_out = 0
            if self._progress is not None:
                events.append(self._progress)
                self._progress = None
        return events

    def _report(self) -> None:
        # While Headway is away the attempt keeps what could not be sent, and must not get more of it.
        events = [] if self._complained else self._taken()
        now = time.monotonic()
        if not events and now - self._reported_at < self._attempt.lease_s / 3:
            return
        try:
            self._attempt.report(*events)
            self._reported_at = now
            self._complained = False
        except Conflict:
            self.lost = True
            complain("the job is no longer this command's: it ended, or nothing was heard for too long")
        except ClientError as error:
            self._reported_at = float("-inf")  # soon again
            if not self._complained:
                complain(f"the job hears nothing of the command, which goes on: {describe_error(error)}")
            self._complained = True

    def _stop_if_canceled(self) -> None:
        if not self._attempt.cancel_requested:
            return
        if self._stop_by is None:
            self._stop_by = time.monotonic() + GRACE_S
            self._process.terminate()
        elif time.monotonic() > self._stop_by:
            self._process.kill()


def run(args: argparse.Namespace, client: Client) -> int:
    """Run the command, whether there is a Headway or not. Returns its exit status."""
    if not args.argv:
        raise ClientError("there is no command: give it after --, as in `headway run -- rsync -a here`")
    try:
        attempt = client.begin(
            args.type, {"command": args.argv}, lease_s=args.lease, group=args.group, labels=dict(args.label)
        )
    except ClientError as error:
        complain(f"there is no job, and the command runs all the same: {describe_error(error)}")
        attempt = None
    if attempt is not None and args.json:
        dump(attempt.job)
    elif attempt is not None and args.print_id:
        print(attempt.job["id"], file=sys.stderr, flush=True)
    try:
        process = subprocess.Popen(args.argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    except OSError as error:
        words = f"{args.argv[0]} cannot be started: {error.strerror}"
        _end(attempt, lambda one: one.fail(words))
        complain(words)
        return NOT_FOUND if isinstance(error, FileNotFoundError) else NOT_STARTED
    reporter = Reporter(attempt, process) if attempt else None
    with _passing_on(process):
        status, last = _follow(process, reporter, args.progress)
    if reporter is not None:
        reporter.close()
    if reporter is None or not reporter.lost:
        _end(attempt, lambda one: _outcome(one, args.argv[0], status, last))
    return status if status >= 0 else 128 - status


def _outcome(attempt: Attempt, name: str, status: int, last: str) -> Any:
    if status == 0:
        return attempt.succeed({"exit_status": 0})
    how = f"ended with status {status}"
    if status < 0:
        how = f"was ended by signal {-status}"
        with contextlib.suppress(ValueError):  # those of real time have no names
            how = f"was ended by {signal.Signals(-status).name}"
    return attempt.fail(f"{name} {how}" + (f": {last}" if last else ""))


def _end(attempt: Attempt | None, how: Any) -> None:
    if attempt is None:
        return
    try:
        how(attempt)
    except ClientError as error:
        complain(f"the job could not be ended: {describe_error(error)}")


@contextlib.contextmanager
def _passing_on(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """Hand SIGTERM and SIGHUP on to the command; Ctrl-C reaches it by itself."""

    def pass_on(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        process.send_signal(number)

    before = {number: signal.signal(number, pass_on) for number in (signal.SIGTERM, signal.SIGHUP)}
    before[signal.SIGINT] = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _follow(
    process: subprocess.Popen[bytes], reporter: Reporter | None, own: re.Pattern[str] | None
) -> tuple[int, str]:
    """Pass on what the command says until it ends. Returns its status and the last line of its stderr."""
    last = ""

    def read(pipe: IO[bytes], out: IO[bytes], level: str) -> None:
        nonlocal last
        rest = b""
        while chunk := pipe.read1(65_536):  # type: ignore[attr-defined]
            try:
                out.write(chunk)
                out.flush()
            except BrokenPipeError:
                # As without us: the command hears of it when it writes on.
                os.dup2(os.open(os.devnull, os.O_WRONLY), out.fileno())
                pipe.close()
                break
            except OSError:
                pass
            *lines, rest = _LINE_END.split(rest + chunk)
            if len(rest) > 65_536:
                lines, rest = [*lines, rest], b""
            for raw in lines:
                said(raw, level)
        said(rest, level)

    def said(raw: bytes, level: str) -> None:
        nonlocal last
        line = raw.decode("utf-8", "replace").strip()
        if not line:
            return
        progress = progress_in(line, own)
        if progress is None and level == "warning":
            last = line
        if reporter is not None and progress is not None:
            reporter.progress(progress)
        elif reporter is not None:
            reporter.log(level, line)

    assert process.stdout is not None  # noqa: S101
    assert process.stderr is not None  # noqa: S101
    readers = [
        threading.Thread(target=read, args=which, daemon=True)
        for which in (
            (process.stdout, sys.stdout.buffer, "info"),
            (process.stderr, sys.stderr.buffer, "warning"),
        )
    ]
    for reader in readers:
        reader.start()
    status = process.wait()
    for reader in readers:
        # What it left running in the background may keep its output open for ever.
        reader.join(LAST_WORDS_S)
    return status, last

"""submit, watch, list, cancel, retry, logs, types, download: each is given what was typed and returns
the exit status."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shlex
import sys
from collections.abc import Iterable
from typing import Any

from service.cli.board import Board
from service.cli.lines import JsonLines, Lines
from service.cli.text import line, log_line, shown
from service.client import Client, ClientError, Problem, Watch

USAGE = 2
"""What was asked for is wrong or cannot be done: nothing is said about a job's outcome."""
INTERRUPTED = 130
PIPE_CLOSED = 141


def guarded(args: argparse.Namespace) -> int:
    """Run a command; what can go wrong is a line on stderr."""
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    try:
        status: int = args.does(args, Client(args.url))
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader has enough. Python would complain once more when it flushes at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return PIPE_CLOSED
    except (ClientError, OSError) as error:
        complain(error)
        return USAGE
    return status


def complain(error: Exception) -> None:
    print(f"headway: {shown(error)}", file=sys.stderr)
    if isinstance(error, Problem):
        if len(error.errors) > 1:
            for pointer, detail in error.errors:
                print(f"  {shown(pointer)}: {shown(detail)}", file=sys.stderr)
        known = error.document.get("known_types")
        if known and error.errors and error.errors[0][0] == "/type":
            print(f"  the types are {shown(', '.join(map(str, known)))}", file=sys.stderr)


def dump(value: Any) -> None:
    print(json.dumps(value), flush=True)


# -- submit --------------------------------------------------------------------------------------------


def pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not key=value")
    return name, value


def parameters(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"is no JSON: {error}") from None
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError("is not a JSON object")
    return value


def value_of(text: str) -> Any:
    """JSON if it is that, else the text itself."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def submit(args: argparse.Namespace, client: Client) -> int:
    params = {**args.params, **{name: value_of(text) for name, text in args.pairs}}
    if args.file is not None:
        params["input"] = f"upload:{client.upload(args.file)['id']}"
    job = client.submit(args.type, params, group=args.group, labels=dict(args.label))
    if args.watch:
        return follow(client, [job["id"]], args)
    if args.json:
        dump(job)
    else:
        print(job["id"])
    return 0


# -- watch ---------------------------------------------------------------------------------------------


def watch(args: argparse.Namespace, client: Client) -> int:
    return follow(client, args.jobs, args, group=args.group, cursor=args.after, give_up_s=args.give_up)


def follow(
    client: Client,
    jobs: list[str],
    args: argparse.Namespace,
    *,
    group: str | None = None,
    cursor: str | None = None,
    give_up_s: float | None = None,
) -> int:
    """Show what happens to the jobs until they have ended; the exit status is their outcome."""
    board = Board(client)
    events = client.watch(jobs, group=group, cursor=cursor, give_up_s=give_up_s)
    try:
        if jobs:
            board.learn(jobs)
        if args.json:
            _show(events, board, JsonLines())
        elif sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb":
            from service.cli.bars import Bars  # rich is loaded for those who see it

            with Bars(board, events) as bars:
                _show(events, board, bars)
        else:
            _show(events, board, Lines())
        # What ended while nobody watched is not told by the events after the cursor.
        return board.status() if jobs else 0
    except KeyboardInterrupt:
        what = [*jobs, *(("--group", group) if group is not None else ())]
        url = ["--url", args.url] if args.url else []
        after = ["--after", events.cursor] if events.cursor else []
        words = shlex.join(["watch", *what, *url, *after])
        print(
            f"Detached; what was watched goes on. Come back with: python -m service {words}",
            file=sys.stderr,
        )
        return INTERRUPTED
    finally:
        events.close()


def _show(events: Watch, board: Board, view: Any) -> None:
    for event in events:
        view.show(event, board.happened(event))


# -- the rest ------------------------------------------------------------------------------------------


def list_jobs(args: argparse.Namespace, client: Client) -> int:
    for job in client.list(state=args.state, type=args.type, group=args.group, limit=args.limit):
        if args.json:
            dump(job)
        else:
            print(line(job))
    return 0


def cancel(args: argparse.Namespace, client: Client) -> int:
    for job_id in args.jobs:
        job = client.cancel(job_id)
        if args.json:
            dump(job)
        else:
            print(line(job))
    return 0


def retry(args: argparse.Namespace, client: Client) -> int:
    job = client.retry(args.job)
    if args.watch:
        return follow(client, [job["id"]], args)
    if args.json:
        dump(job)
    else:
        print(job["id"])
    return 0


def logs(args: argparse.Namespace, client: Client) -> int:
    with contextlib.closing(client.logs(args.job, follow=args.follow, cursor=args.after)) as lines:
        for event in lines:
            if args.json:
                dump({"id": event.id, **event.data})
            else:
                print(log_line(event), flush=True)
    return 0


def types(args: argparse.Namespace, client: Client) -> int:
    for job_type in client.types():
        if args.json:
            dump(job_type)
        else:
            served = "" if job_type["alive"] else "  (no worker serves it now)"
            print(f"{shown(job_type['name'])}  {shown(job_type['title'])}{served}")
            for name, schema in job_type["params"].get("properties", {}).items():
                default = f"={json.dumps(schema['default'])}" if "default" in schema else " (required)"
                print(f"    {shown(name)}{shown(default)}")
    return 0


def download(args: argparse.Namespace, client: Client) -> int:
    job = client.job(args.job)
    names: Iterable[str] = args.names or [artifact["name"] for artifact in job["artifacts"]]
    if not names:
        raise ClientError(f"job {job['id']} has no artifacts; it is {job['state']}")
    for name in names:
        path = client.download(job, name, args.output)
        if args.json:
            dump({"name": name, "path": str(path), "size": path.stat().st_size})
        else:
            print(shown(path))
    return 0

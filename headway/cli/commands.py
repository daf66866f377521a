"""The commands of `headway`: each takes the parsed arguments and a client, and returns the exit status."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shlex
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NoReturn

from headway.cli.one_line import USAGE, sanitized
from headway.cli.text import group_line, job_line, log_line, parameter_lines
from headway.cli.tracker import EXIT, JobTracker
from headway.cli.transfer_bar import transfer
from headway.cli.view import redraws, viewing
from headway.client import Client, ClientError, Group, Job, NotFound, Problem

INTERRUPTED = 130
PIPE_CLOSED = 141


def guarded(args: argparse.Namespace) -> int:
    """Run a command; an error becomes one line on stderr."""
    if sys.stdout is None:  # closed by the parent
        sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    try:
        status: int = args.does(args, Client(args.url, token=args.token))
        sys.stdout.flush()
    except BrokenPipeError:
        status = PIPE_CLOSED
    except ClientError as error:
        complain(describe_error(error))
        status = USAGE
    except OSError as error:
        complain(": ".join(str(part) for part in (error.filename, error.strerror or error) if part))
        status = USAGE
    try:
        sys.stdout.flush()
    except OSError:
        # Python would flush again when it exits, and complain again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return status


def complain(words: str) -> None:
    print(f"headway: {sanitized(words)}", file=sys.stderr, flush=True)


def describe_error(error: ClientError) -> str:
    """Return all that the error says, each thing once."""
    parts = [str(error)]
    if isinstance(error, Problem):
        parts += [f"{pointer}: {detail}" for pointer, detail in error.errors if detail not in error.detail]
        known = error.document.get("known_types")
        if known and error.errors and error.errors[0][0] == "/type":
            parts.append(f"the types are {', '.join(map(str, known))}")
        if error.retry_after_s:
            parts.append(f"try again in {error.retry_after_s:.0f} s")
    return "; ".join(parts)


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
        value = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise argparse.ArgumentTypeError(f"is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError("is not a JSON object")
    return value


def _no_constant(name: str) -> NoReturn:
    """NaN and Infinity are not JSON, though Python accepts them."""
    raise ValueError(name)


def value_of(text: str) -> Any:
    """Return the JSON value of the text, or the text itself if it is not JSON."""
    try:
        return json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return text


def identifier(text: str) -> str:
    if not text.strip():
        raise argparse.ArgumentTypeError("is empty")
    return text


def count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 0 < len(text) < 10 and int(text) > 0):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 up")
    return int(text)


def seconds(text: str) -> float:
    return _above_0(text, "number of seconds")


def size(text: str) -> float:
    return _above_0(text, "number")


def priority(text: str) -> int:
    if len(text) != 1 or text not in "0123456789":
        raise argparse.ArgumentTypeError(f"{text!r} is not a priority from 0 to 9")
    return int(text)


def _above_0(text: str, what: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a {what} above 0")
    return value


def submit(args: argparse.Namespace, client: Client) -> int:
    if args.batch is not None:
        return _submit_batch(args, client)
    if args.type is None:
        raise ClientError("name the job's type, or give a --batch")
    if args.events and args.webhook is None:
        raise ClientError("--event needs --webhook")
    if args.unique_while and args.unique is None:
        raise ClientError("--unique-while needs --unique")
    webhook = None if args.webhook is None else {"url": args.webhook, "events": args.events or ["end"]}
    params = {**args.params, **{name: value_of(text) for name, text in args.pairs}}
    if args.file is not None:
        if "input" in params:
            raise ClientError("give --file or input=, not both")
        with transfer(args.file.name) as progress:
            params["input"] = f"upload:{client.upload(args.file, progress=progress)['id']}"
    job = client.submit(
        args.type,
        params,
        group=args.group,
        labels=dict(args.label),
        max_attempts=args.max_attempts,
        timeout_s=args.timeout,
        size=args.size,
        priority=args.priority,
        run_at=args.run_at,
        expires_s=args.expires,
        unique=None if args.unique is None else {"key": args.unique, "while": args.unique_while or "live"},
        webhook=webhook,
        key=args.key,
    )
    return _made(job, args, client)


_OF_ONE_JOB = (
    *("type", "params", "pairs", "file", "group", "label", "max_attempts", "timeout", "size"),
    *("priority", "run_at", "expires", "unique", "unique_while", "webhook", "events", "watch"),
)


def _submit_batch(args: argparse.Namespace, client: Client) -> int:
    given = [getattr(args, name) for name in _OF_ONE_JOB]
    if any(value or (value == 0 and value is not False) for value in given):
        raise ClientError("with --batch the file says all: of the other options only --key and --json fit")
    with contextlib.ExitStack() as opened:
        stdin = args.batch == Path("-")
        lines = sys.stdin if stdin else opened.enter_context(args.batch.open(encoding="utf-8"))
        for item in client.submit_many(_submissions(lines), key=args.key):
            dump(item) if args.json else print(item["id"], flush=True)
    return 0


def _submissions(lines: Iterable[str]) -> Iterator[dict[str, Any]]:
    """Read a job per line. Raises ClientError that names the line."""
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                yield parameters(line)
            except argparse.ArgumentTypeError as error:
                raise ClientError(f"line {number} of the batch {error}") from None


def retry(args: argparse.Namespace, client: Client) -> int:
    return _made(client.retry(args.job), args, client)


def _made(job: Job, args: argparse.Namespace, client: Client) -> int:
    """Print the new job, or watch it."""
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
    """Show the events of the jobs until they end. Returns the exit status for their outcome."""
    tracker = JobTracker(client)
    lost = None if not args.json and redraws() else lambda error: complain(f"{error}; reconnecting")
    events = client.watch(jobs, group=group, cursor=cursor, give_up_s=give_up_s, lost=lost)
    group_ended: Group | None = None
    try:
        if jobs:
            tracker.learn(jobs)
        with viewing(tracker, events, as_json=args.json) as view:
            for event in events:
                view.show(event, tracker.happened(event))
                if event.event == "group-end" and group is not None:
                    group_ended = event.data
        if group_ended is not None:
            return status_of(group_ended)
        # Jobs that ended before the cursor have no event after it: the tracker fetched them.
        return tracker.status() if jobs else 0
    except KeyboardInterrupt:
        what = [*jobs, *(("--group", group) if group is not None else ())]
        _print_how_to_come_back(args, ["watch", *what], events.cursor)
        return INTERRUPTED
    finally:
        events.close()


def _print_how_to_come_back(args: argparse.Namespace, words: list[str], cursor: str | None) -> None:
    words += ["--url", args.url] if args.url else []
    words += ["--after", cursor] if cursor else []
    words += ["--json"] if args.json else []
    print(
        f"Detached; the jobs go on. To come back: headway {shlex.join(words)}",
        file=sys.stderr,
    )


# -- the rest ------------------------------------------------------------------------------------------


def list_jobs(args: argparse.Namespace, client: Client) -> int:
    labels = dict(args.label)
    found = client.list(
        state=args.state,
        type=args.type,
        group=args.group,
        labels=labels,
        older_s=args.older,
        limit=args.limit,
    )
    _print(found, args)
    return 0


def counts(args: argparse.Namespace, client: Client) -> int:
    found = client.counts()
    if args.json:
        dump(found)
        return 0
    for name, by_state in {"all": found["states"], **found["types"]}.items():
        some = [f"{count} {state}" for state, count in by_state.items() if count]
        print(sanitized(f"{name}: {', '.join(some) or 'none'}"))
    return 0


def cancel(args: argparse.Namespace, client: Client) -> int:
    _print(map(client.cancel, args.jobs), args)
    return 0


def many(args: argparse.Namespace, client: Client) -> int:
    job = client.many(
        args.action,
        state=args.state,
        type=args.type,
        group=args.group,
        labels=dict(args.label),
        older_s=args.older,
        dry_run=args.dry_run,
    )
    ended = client.wait(job["id"])
    if args.json:
        dump(ended)
    elif ended["state"] == "succeeded":
        result = ended["result"]
        skipped = f", {result['skipped']} left as they are" if result["skipped"] else ""
        done = "only counted" if result["dry_run"] else f"{result['done']} done{skipped}"
        print(f"{result['matched']} jobs match: {done}")
    else:
        print(job_line(ended))
    return EXIT[ended["state"]]


def send(args: argparse.Namespace, client: Client) -> int:
    event = client.send(
        args.job, args.name, None if args.data is None else value_of(args.data), key=args.key
    )
    if args.json:
        dump({"id": event.id, **event.data})
    else:
        print(event.id)
    return 0


def group(args: argparse.Namespace, client: Client) -> int:
    if args.expected is not None or args.title is not None:
        try:
            now = client.group(args.name)
        except NotFound:
            now = {"expected": None, "title": None}  # type: ignore[typeddict-item]
        expected, title = args.expected or now["expected"], args.title or now["title"]
        found = client.put_group(args.name, expected=expected, title=title)
    elif args.cancel:
        found = client.cancel_group(args.name)
    elif args.retry:
        found = client.retry_group(args.name)
    else:
        found = client.group(args.name)
    dump(found) if args.json else print(group_line(found))
    return 0


def status_of(group: Group) -> int:
    """Return the exit status for the worst outcome in a group."""
    return next((EXIT[state] for state in ("failed", "canceled") if group["counts"][state]), 0)


def _print(jobs: Iterable[Job], args: argparse.Namespace) -> None:
    for job in jobs:
        if args.json:
            dump(job)
        else:
            print(job_line(job))


def logs(args: argparse.Namespace, client: Client) -> int:
    cursor = args.after
    try:
        with contextlib.closing(client.logs(args.job, follow=args.follow, cursor=cursor)) as lines:
            for event in lines:
                if args.json:
                    dump({"id": event.id, **event.data})
                else:
                    print(log_line(event), flush=True)
                cursor = event.id
    except KeyboardInterrupt:
        _print_how_to_come_back(args, ["logs", args.job, *(["-f"] if args.follow else [])], cursor)
        return INTERRUPTED
    return 0


def types(args: argparse.Namespace, client: Client) -> int:
    for job_type in client.types():
        if args.json:
            dump(job_type)
        else:
            served = "" if job_type["alive"] else "  (no worker serves it at the moment)"
            print(f"{sanitized(job_type['name'])}  {sanitized(job_type['title'])}{served}")
            for text in parameter_lines(job_type["params"]):
                print(f"    {text}")
    return 0


def token(args: argparse.Namespace, client: Client) -> int:
    made = client.ticket(args.jobs, group=args.group, artifacts=args.artifacts, ttl_s=args.ttl)
    dump(made) if args.json else print(made["ticket"], flush=True)
    return 0


def download(args: argparse.Namespace, client: Client) -> int:
    job = client.job(args.job)
    names: Iterable[str] = args.names or [artifact["name"] for artifact in job["artifacts"]]
    if not names:
        raise ClientError(f"job {job['id']} has no artifacts ({job['state']})")
    for name in names:
        was_there = Path(args.output, name).exists()
        with transfer(name) as progress:
            path = client.download(job, name, args.output, progress=progress)
        if was_there:
            complain(f"{path} was there before and is replaced")
        if args.json:
            dump({"name": name, "path": str(path), "size": path.stat().st_size})
        else:
            print(sanitized(path))
    return 0


def pause(args: argparse.Namespace, client: Client) -> int:
    return _paused(client.pause(queue=args.queue, type=args.type), args)


def resume(args: argparse.Namespace, client: Client) -> int:
    return _paused(client.resume(queue=args.queue, type=args.type), args)


def _paused(pauses: Iterable[dict[str, str]], args: argparse.Namespace) -> int:
    for one in pauses:
        if args.json:
            dump(one)
        else:
            state = "draining" if one["kind"] == "worker" else "paused"
            by = f" by {one['by']}" if one["by"] else ""
            print(sanitized(f"{one['kind']} {one['name']}: {state} since {one['since']}{by}"))
    return 0


def workers(args: argparse.Namespace, client: Client) -> int:
    if args.action is not None:
        if args.name is None:
            raise ClientError(f"name the worker to {args.action}, as `headway workers` prints it")
        does = client.drain if args.action == "drain" else lambda name: client.resume(worker=name)
        return _paused(does(args.name), args)
    found = client.workers()
    paused = {(one["kind"], one["name"]) for one in found["paused"]}
    if args.json:
        for worker in found["items"]:
            dump(worker)
        return 0
    for worker in found["items"]:
        busy = f"{len(worker['jobs'])} of {worker['concurrency']} busy"
        draining = "  draining" if ("worker", worker["name"]) in paused else ""
        print(sanitized(f"{worker['name']}  {busy}  {', '.join(worker['types'])}{draining}"))
    for queue in found["queues"]:
        held = ", paused" if ("queue", queue["name"]) in paused else ""
        counts = f"{queue['waiting']} waiting, {queue['workers']} workers{held}"
        print(sanitized(f"queue {queue['name']}: {counts}"))
    for kind, name in sorted(paused):
        if kind == "type":
            print(sanitized(f"type {name}: paused"))
    return 0

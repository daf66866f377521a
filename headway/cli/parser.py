"""The commands of `headway`: their arguments, options and help."""

from __future__ import annotations

import argparse
import itertools
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from headway.cli import commands, completion, keys, run, webhooks
from headway.cli.one_line import Parser
from headway.version import __version__

STATES = ["queued", "running", "retrying", "waiting", "succeeded", "failed", "canceled"]
EXIT = """exit status: 0 succeeded; 1 failed; 2 bad usage, or the service refused or cannot be reached;
3 canceled; 130 detached by Ctrl-C"""


class CommandParser(Parser):
    """Accepts options among the other arguments, as in `watch A --json B`."""

    _mixed = False
    takes_command = False
    """Whether all that stands behind `--` is a command line, `argv`."""

    def parse_known_args(self, args: Iterable[str] | None = None, namespace: Any = None) -> Any:
        words = list(args or ())
        if self.takes_command and not self._mixed and "--" in words:
            cut = words.index("--")
            found, unknown = self.parse_known_args(words[:cut], namespace)
            if found.argv or not words[cut + 1 :]:
                self.error("give one command, after --")
            found.argv = words[cut + 1 :]
            return found, unknown
        if self._mixed or self._subparsers:  # by what is called below; by its commands' own parsers
            return super().parse_known_args(args, namespace)
        if "_ARGCOMPLETE" in os.environ:
            # argcomplete looks at how far a plain parse gets.
            return super().parse_known_args(self._options_first(list(args or ())), namespace)
        self._mixed = True
        try:
            found, unknown = self.parse_known_intermixed_args(args, namespace)
        finally:
            self._mixed = False
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return found, unknown

    def _options_first(self, words: list[str]) -> list[str]:
        """Put options first; leave the words alone if the last is an option that still needs its value."""
        takes_value = {
            option: action.nargs != 0
            for action in self._get_optional_actions()
            for option in action.option_strings
        }
        if words and takes_value.get(words[-1]):
            return words
        options: list[str] = []
        others: list[str] = []
        rest = iter(words)
        for word in rest:
            if word.startswith("-"):
                options += [word, *itertools.islice(rest, int(takes_value.get(word, False)))]
            else:
                others.append(word)
        return options + others


def make_parser() -> tuple[Parser, dict[str, argparse.ArgumentParser]]:
    """Return the parser of `headway`, and those of its commands by name."""
    headway_parser = Parser(
        prog="headway",
        description="Submit jobs to a Headway, watch them and fetch their results.",
        epilog="The Headway is the one at --url, else at HEADWAY_URL, else at http://127.0.0.1:8000.",
    )
    headway_parser.add_argument("--version", action="version", version=f"headway {__version__}")
    added = headway_parser.add_subparsers(
        title="commands", metavar="command", required=True, parser_class=CommandParser
    )

    def common(parser: argparse.ArgumentParser, does: Callable[..., int]) -> None:
        parser.add_argument("--url", help="default: HEADWAY_URL, else http://127.0.0.1:8000")
        parser.add_argument("--token", help="an API key or other credential; default: HEADWAY_TOKEN")
        parser.add_argument("--json", action="store_true", help="one JSON object per line")
        parser.set_defaults(command=commands.guarded, does=does)

    def command(name: str, does: Callable[..., int], help: str) -> argparse.ArgumentParser:
        parser: argparse.ArgumentParser = added.add_parser(name, help=help, description=help, epilog=EXIT)
        common(parser, does)
        return parser

    def completed(action: argparse.Action, completer: Callable[..., list[str]]) -> None:
        action.completer = completer  # type: ignore[attr-defined]

    def filters(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--state", choices=STATES)
        completed(parser.add_argument("--type"), completion.types)
        parser.add_argument("--group", type=commands.identifier)
        parser.add_argument(
            "--label",
            metavar="key=value",
            action="append",
            type=commands.pair,
            default=[],
            help="with this label; repeat the option for more",
        )
        parser.add_argument(
            "--older",
            metavar="TIME",
            type=keys.duration,
            help="made at least so long ago, such as 12h or 7d",
        )

    parser = command("submit", commands.submit, "submit a job and print its id")
    completed(parser.add_argument("type", nargs="?", help="see `types`"), completion.types)
    pairs = parser.add_argument(
        "pairs",
        metavar="key=value",
        nargs="*",
        type=commands.pair,
        help="a parameter; the value is JSON if it can be, else text",
    )
    completed(pairs, completion.parameters)
    parser.add_argument("--params", type=commands.parameters, default={}, help="parameters as JSON")
    parser.add_argument("--file", type=Path, help="upload this file as the parameter `input`")
    parser.add_argument(
        "--batch",
        metavar="FILE",
        type=Path,
        help="submit many jobs: a JSON object per line, as POST /jobs takes it; -: standard input",
    )
    parser.add_argument("--watch", action="store_true", help="watch it until it ends")
    parser.add_argument(
        "--group", type=commands.identifier, help="a name by which jobs are watched together"
    )
    parser.add_argument(
        "--label",
        metavar="key=value",
        action="append",
        type=commands.pair,
        default=[],
        help="a label; repeat the option for more",
    )
    parser.add_argument("--max-attempts", metavar="N", type=commands.count, help="default: the type's")
    parser.add_argument(
        "--timeout", metavar="SECONDS", type=commands.seconds, help="for the whole job, retries included"
    )
    parser.add_argument(
        "--size", metavar="N", type=commands.size, help="beside the other jobs of its group; default: 1"
    )
    parser.add_argument(
        "--priority",
        metavar="N",
        type=commands.priority,
        help="0 to 9: which of your jobs is next; default: 4",
    )
    parser.add_argument(
        "--run-at", metavar="TIME", help="not before then, such as 2027-01-31T08:00:00Z (RFC 3339)"
    )
    parser.add_argument(
        "--expires", metavar="SECONDS", type=commands.seconds, help="it fails unless it begins within that"
    )
    parser.add_argument("--unique", metavar="KEY", help="if a job with this key lives, print that one's id")
    parser.add_argument(
        "--unique-while",
        choices=["live", "queued"],
        help="with `queued`, only a job that has not begun counts; default: live",
    )
    parser.add_argument("--key", help="an Idempotency-Key: the same key gives the same job")
    parser.add_argument(
        "--webhook", metavar="RECEIVER", type=commands.identifier, help="an address that is told of its end"
    )
    webhooks.add_event_option(parser)

    parser = command("watch", commands.watch, "follow jobs until they end")
    jobs = parser.add_argument(
        "jobs", metavar="ID", nargs="*", type=commands.identifier, help="default: all jobs"
    )
    completed(jobs, completion.jobs)
    parser.add_argument(
        "--group", type=commands.identifier, help="all jobs of a group, also later ones, until it ends"
    )
    parser.add_argument("--after", metavar="CURSOR", help="resume after this event; 0: all that are kept")
    parser.add_argument(
        "--give-up",
        metavar="SECONDS",
        type=commands.seconds,
        help="end after this long without a connection",
    )

    parser = command("list", commands.list_jobs, "list jobs, newest first")
    filters(parser)
    parser.add_argument("--limit", type=commands.count, default=20, help="default: 20")

    command("counts", commands.counts, "print how many jobs are in which state, by type")

    parser = command("cancel", commands.cancel, "cancel jobs")
    jobs = parser.add_argument("jobs", metavar="ID", nargs="+", type=commands.identifier)
    completed(jobs, completion.live_jobs)

    parser = command("retry", commands.retry, "submit an ended job again and print the new one's id")
    completed(parser.add_argument("job", metavar="ID", type=commands.identifier), completion.jobs)
    parser.add_argument("--watch", action="store_true", help="watch it until it ends")

    parser = command("many", commands.many, "cancel, retry or delete all jobs that match, and wait for it")
    parser.add_argument("action", choices=["cancel", "retry", "delete"])
    filters(parser)
    parser.add_argument("--dry-run", action="store_true", help="only count them")

    parser = command("group", commands.group, "print how far a group is; or change, cancel or retry it")
    parser.add_argument("name", metavar="NAME", type=commands.identifier)
    parser.add_argument(
        "--expected", metavar="N", type=commands.count, help="it ends when N jobs have ended"
    )
    parser.add_argument("--title", type=commands.identifier)
    either = parser.add_mutually_exclusive_group()
    either.add_argument("--cancel", action="store_true", help="cancel all its live jobs")
    either.add_argument(
        "--retry", action="store_true", help="submit its failed and canceled jobs again, in their place"
    )

    parser = command("send", commands.send, "send a message to a job and print its event's id")
    completed(parser.add_argument("job", metavar="ID", type=commands.identifier), completion.live_jobs)
    parser.add_argument("name", metavar="NAME", type=commands.identifier)
    parser.add_argument(
        "data", metavar="DATA", nargs="?", help="JSON if it can be, else text; default: null"
    )
    parser.add_argument("--key", help="an Idempotency-Key: the same key sends it once")

    parser = command("logs", commands.logs, "print the log lines of a job")
    completed(parser.add_argument("job", metavar="ID", type=commands.identifier), completion.jobs)
    parser.add_argument(
        "-f", "--follow", action="store_true", help="wait for more lines, until the job ends"
    )
    parser.add_argument("--after", metavar="CURSOR", default="0", help="only lines after this event")

    command("types", commands.types, "print the job types and their parameters")

    parser = command("workers", commands.workers, "print the living workers and the queues, or drain one")
    parser.add_argument(
        "action",
        nargs="?",
        choices=["drain", "resume"],
        help="drain: it takes no more jobs, and what it is doing goes on; resume: it takes jobs again",
    )
    parser.add_argument("name", metavar="NAME", nargs="?", help="of the worker")

    for parser in (
        command("pause", commands.pause, "let no job of a queue or a type be taken"),
        command("resume", commands.resume, "let jobs of a queue or a type be taken again"),
    ):
        what = parser.add_mutually_exclusive_group(required=True)
        what.add_argument("--queue", type=commands.identifier)
        completed(what.add_argument("--type", type=commands.identifier), completion.types)

    parser = command(
        "run", run.run, "run a command as a job: its output is the log, its exit status the end"
    )
    parser.epilog = "exit status: that of the command; 127 if it is not found, 126 if it cannot be started"
    parser.usage = "headway run [options] -- command [argument ...]"
    parser.add_argument("argv", metavar="command", nargs="*", help="and its arguments, after --")
    parser.takes_command = True  # type: ignore[attr-defined]
    parser.add_argument("--type", default="command", help="the job's type, any name; default: command")
    parser.add_argument("--group", type=commands.identifier)
    parser.add_argument("--label", metavar="key=value", action="append", type=commands.pair, default=[])
    parser.add_argument(
        "--progress",
        metavar="REGEX",
        type=run.pattern,
        help=r"finds progress in the output, as '(\d+)%%' does; lines such as PROGRESS 0.4 or "
        "PROGRESS 3/10 are always understood",
    )
    parser.add_argument(
        "--lease",
        metavar="SECONDS",
        type=commands.seconds,
        default=60.0,
        help="how long the service may hear nothing before the job fails as lost; default: 60",
    )
    parser.add_argument("--print-id", action="store_true", help="print the job's id on stderr")

    parser = command("download", commands.download, "download the artifacts of a job")
    completed(parser.add_argument("job", metavar="ID", type=commands.identifier), completion.jobs)
    parser.add_argument("names", metavar="NAME", nargs="*", help="default: all")
    parser.add_argument("-o", "--output", type=Path, default=Path(), help="directory; default: this one")

    parser = command("token", commands.token, "print a ticket: a short-lived token for reading some jobs")
    jobs = parser.add_argument(
        "jobs", metavar="ID", nargs="*", type=commands.identifier, help="default: all jobs"
    )
    completed(jobs, completion.jobs)
    parser.add_argument("--group", type=commands.identifier, help="all jobs of a group")
    parser.add_argument("--artifacts", action="store_true", help="also the files that the jobs made")
    parser.add_argument(
        "--ttl", metavar="SECONDS", type=commands.count, default=900, help="default: 900; 3600 at most"
    )

    webhooks.add_arguments(
        added.add_parser("webhooks", help="list, make and remove webhooks; see and repeat deliveries"),
        common,
    )

    keys.add_arguments(added.add_parser("keys", help="make, list, rotate and revoke API keys"))

    parser = added.add_parser("completion", help="print the completion script of a shell")
    parser.add_argument("shell", choices=sorted(completion.SCRIPTS))
    parser.set_defaults(command=completion.script)
    return headway_parser, dict(added.choices)

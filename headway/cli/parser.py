"""What may be typed after `python -m service` by those who use a Headway."""

from __future__ import annotations

import argparse
import itertools
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NoReturn

from headway.cli import commands, completion
from headway.cli.text import shown

EXIT = """exit status: 0 succeeded; 1 failed; 2 usage, or the service refused or cannot be reached;
3 canceled; 130 detached by Ctrl-C"""


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(commands.USAGE, f"headway: {shown(message)}; see {self.prog} --help\n")


class CommandParser(Parser):
    """Takes options also in the middle of the other arguments, as in `watch A --json B`."""

    _mixed = False

    def parse_known_args(self, args: Iterable[str] | None = None, namespace: Any = None) -> Any:
        if self._mixed:  # by what is called below
            return super().parse_known_args(args, namespace)
        if "_ARGCOMPLETE" in os.environ:
            # It looks at how far a plain parse comes.
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
        """As they are if the last one is an option whose value is still to come."""
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


def add_commands(added: Any) -> None:
    """Add the commands to the subparsers."""

    def command(name: str, does: Callable[..., int], help: str) -> argparse.ArgumentParser:
        parser: argparse.ArgumentParser = added.add_parser(name, help=help, description=help, epilog=EXIT)
        parser.add_argument("--url", help="default: HEADWAY_URL, else http://127.0.0.1:8000")
        parser.add_argument("--json", action="store_true", help="one JSON object a line")
        parser.set_defaults(command=commands.guarded, does=does)
        return parser

    def completed(action: argparse.Action, completer: Callable[..., list[str]]) -> None:
        action.completer = completer  # type: ignore[attr-defined]

    parser = command("submit", commands.submit, "submit a job and print its id")
    completed(parser.add_argument("type", help="see `types`"), completion.types)
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
    parser.add_argument("--watch", action="store_true", help="watch it, until it has ended")
    parser.add_argument(
        "--group", type=commands.identifier, help="watch them together: watch --group GROUP"
    )
    parser.add_argument(
        "--label",
        metavar="key=value",
        action="append",
        type=commands.pair,
        default=[],
        help="something to know it by; more than once for more of them",
    )
    parser.add_argument("--max-attempts", metavar="N", type=commands.count, help="default: the type's")
    parser.add_argument("--timeout", metavar="SECONDS", type=commands.seconds, help="for the whole job")
    parser.add_argument("--key", help="an Idempotency-Key: with the same one it is the same job")

    parser = command("watch", commands.watch, "follow jobs until they have ended")
    jobs = parser.add_argument(
        "jobs", metavar="ID", nargs="*", type=commands.identifier, help="default: all there are"
    )
    completed(jobs, completion.jobs)
    parser.add_argument(
        "--group", type=commands.identifier, help="the jobs of a group, also those to come: until Ctrl-C"
    )
    parser.add_argument("--after", metavar="CURSOR", help="go on after this event; 0 for all that are kept")
    parser.add_argument(
        "--give-up", metavar="SECONDS", type=commands.seconds, help="after so long without a connection"
    )

    parser = command("list", commands.list_jobs, "list jobs, newest first")
    states = ["queued", "running", "retrying", "succeeded", "failed", "canceled"]
    parser.add_argument("--state", choices=states)
    completed(parser.add_argument("--type"), completion.types)
    parser.add_argument("--group", type=commands.identifier)
    parser.add_argument("--limit", type=commands.count, default=20, help="default: 20")

    parser = command("cancel", commands.cancel, "ask for the end of jobs")
    jobs = parser.add_argument("jobs", metavar="ID", nargs="+", type=commands.identifier)
    completed(jobs, completion.live_jobs)

    parser = command("retry", commands.retry, "submit an ended job again and print the new one's id")
    completed(parser.add_argument("job", metavar="ID", type=commands.identifier), completion.jobs)
    parser.add_argument("--watch", action="store_true", help="watch it, until it has ended")

    parser = command("logs", commands.logs, "print the log lines of a job")
    completed(parser.add_argument("job", metavar="ID", type=commands.identifier), completion.jobs)
    parser.add_argument("-f", "--follow", action="store_true", help="also those to come")
    parser.add_argument("--after", metavar="CURSOR", default="0", help="only what came after this event")

    command("types", commands.types, "print the job types and their parameters")

    parser = command("download", commands.download, "fetch the artifacts of a job")
    completed(parser.add_argument("job", metavar="ID", type=commands.identifier), completion.jobs)
    parser.add_argument("names", metavar="NAME", nargs="*", help="default: all")
    parser.add_argument("-o", "--output", type=Path, default=Path(), help="directory; default: this one")

    parser = added.add_parser("completion", help="print what makes a shell complete all this")
    parser.add_argument("shell", choices=sorted(completion.SCRIPTS))
    parser.set_defaults(command=completion.script)

"""`python -m service <command>`: what the Makefile and the Procfile start, and the client's commands."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from pathlib import Path
from typing import NoReturn

from service.cli.parser import add_commands


def web(_: argparse.Namespace) -> NoReturn:
    """the HTTP service alone, as the Procfile runs it: needs REDIS_URL"""
    from service import config, web

    settings = config.load_or_exit()
    web.check(settings)
    web.serve()


def run(args: argparse.Namespace) -> int:
    """Valkey (unless REDIS_URL is set), web and worker, until Ctrl-C: `make run`"""
    from service import run

    return run.run(args.procfile)


def demo(_: argparse.Namespace) -> int:
    """encode a clip and watch it over a stream that is cut and resumed: `make demo`"""
    from service import demo

    return demo.demo(os.environ)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m service",
        description="Headway shows how far long-running jobs are.",
        epilog="The settings come from the environment; the README has the table.",
    )
    commands = parser.add_subparsers(title="commands", metavar="command", required=True)
    for command in (web, run, demo):
        added = commands.add_parser(command.__name__, help=command.__doc__, description=command.__doc__)
        added.set_defaults(command=command)
        if command is run:
            added.add_argument(
                "-f",
                "--procfile",
                type=Path,
                default=Path(__file__).parent.parent / "Procfile",
                help="the processes to run (default: the Procfile of this checkout)",
            )
    add_commands(commands)
    return parser


def main(arguments: list[str] | None = None) -> int:
    parser = _parser()
    if "_ARGCOMPLETE" in os.environ:
        import argcomplete

        argcomplete.autocomplete(parser)
    args, rest = parser.parse_known_args(arguments)
    # argparse takes no more of a list of arguments once an option came between them.
    if rest and ("pairs" not in args or any(word.startswith("-") or "=" not in word for word in rest)):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    elif rest:
        args.pairs += [(name, value) for name, _, value in (word.partition("=") for word in rest)]
    try:
        status: int = args.command(args)
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    return status


if __name__ == "__main__":
    sys.exit(main())

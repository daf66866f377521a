"""`python -m service <command>`: what the Makefile and the Procfile start."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from pathlib import Path
from typing import NoReturn

from headway.cli.one_line import Parser

OURS = ("web", "run", "demo")
"""Commands of the same name as one of the client's are meant here."""


def web(_: argparse.Namespace) -> NoReturn:
    """the HTTP service alone, as the Procfile runs it: needs REDIS_URL"""
    from headway.contract.settings import load_or_exit
    from service.process import serve

    settings = load_or_exit()
    serve.check(settings)
    serve.serve()


def run(args: argparse.Namespace) -> int:
    """Valkey (unless REDIS_URL is set), web and worker, until Ctrl-C: `make run`"""
    from service.process import run

    return run.run(args.procfile)


def demo(_: argparse.Namespace) -> int:
    """encode a clip and watch it over a stream that is cut and resumed: `make demo`"""
    from service.process import demo

    return demo.demo(os.environ)


def _parser() -> Parser:
    parser = Parser(
        prog="python -m service",
        description="Run Headway. To use one that runs, see `headway --help`.",
        epilog="The settings come from the environment; docs/operators.md has the table.",
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
    return parser


def main(arguments: list[str] | None = None) -> int:
    words = sys.argv[1:] if arguments is None else arguments
    if words and words[0] not in OURS:
        # Not before it is needed: the processes that serve do without the client's commands.
        from headway.cli.main import main as client_main
        from headway.cli.parser import make_parser

        if words[0] in make_parser()[1]:
            print(f"python -m service {words[0]} is now: headway {words[0]}", file=sys.stderr, flush=True)
            return client_main(words)
    args = _parser().parse_args(words)
    try:
        status: int = args.command(args)
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    return status


if __name__ == "__main__":
    sys.exit(main())

"""The command `headway`: what is typed goes to one of the commands, and its exit status comes back."""

from __future__ import annotations

import os
import signal

from headway.cli.parser import make_parser

COMPLETION_S = 3


def main(arguments: list[str] | None = None) -> int:
    """Run the command that `arguments` (default: those of the process) name. Returns its exit status."""
    parser, _ = make_parser()
    if "_ARGCOMPLETE" in os.environ:
        try:
            import argcomplete
        except ImportError:  # it comes with headway[cli]
            return 1
        # A service that does not answer: the shell must not wait for it.
        signal.alarm(COMPLETION_S)
        argcomplete.autocomplete(parser)
    args = parser.parse_args(arguments)
    try:
        status: int = args.command(args)
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    return status

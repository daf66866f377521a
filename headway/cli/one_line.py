"""What a wrong use of a command is answered with: one line, and status 2. Imports nothing of ours."""

from __future__ import annotations

import argparse
from typing import NoReturn

USAGE = 2
"""Exit status of a wrong use, and of a service that refused or cannot be reached."""


def sanitized(text: object) -> str:
    """Return the text on one line, with all that does not print (control characters, escape sequences,
    direction overrides, lone surrogates) replaced by its escape."""
    return "".join(
        c if c.isprintable() else " " if c in "\t\xa0" else c.encode("unicode-escape").decode()
        for c in str(text)
    )


class Parser(argparse.ArgumentParser):
    """Prints an error in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(USAGE, f"headway: {sanitized(message)}; see {self.prog} --help\n")

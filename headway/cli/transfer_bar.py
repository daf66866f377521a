"""A bar on stderr while a file is uploaded or downloaded; nothing where stderr is no terminal."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec

from headway.cli.one_line import sanitized


def can_draw() -> bool:
    """Whether rich is installed: it comes with headway[cli]."""
    return find_spec("rich") is not None


@contextlib.contextmanager
def transfer(name: str) -> Iterator[Callable[[int, int], None]]:
    """Yields a function that is called with the bytes transferred so far and the bytes in all."""
    if not sys.stderr.isatty() or not can_draw():
        yield lambda _, __: None
        return
    from rich import progress  # slow to load
    from rich.console import Console

    from headway.cli.terminal import TerminalGuard

    columns = (
        progress.TextColumn("{task.description}", markup=False),
        progress.BarColumn(),
        progress.DownloadColumn(),
        progress.TimeRemainingColumn(),
    )
    console = Console(stderr=True, highlight=False, markup=False, emoji=False)
    with TerminalGuard(), progress.Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(sanitized(name), total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)

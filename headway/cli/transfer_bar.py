"""A bar on stderr while a file goes up or comes down; nothing where that is no terminal."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator

from headway.cli.text import shown


@contextlib.contextmanager
def transfer(name: str) -> Iterator[Callable[[int, int], None]]:
    """What is to be told how many bytes there are, and how many there will be."""
    if not sys.stderr.isatty():
        yield lambda _, __: None
        return
    from rich import progress  # loaded for those who see it
    from rich.console import Console

    from headway.cli.terminal import Drawing

    columns = (
        progress.TextColumn("{task.description}", markup=False),
        progress.BarColumn(),
        progress.DownloadColumn(),
        progress.TimeRemainingColumn(),
    )
    console = Console(stderr=True, highlight=False, markup=False, emoji=False)
    with Drawing(), progress.Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(shown(name), total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)

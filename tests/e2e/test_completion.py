"""Completion in the real shells, each in a terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from headway.sdk.job_type import discover
from tests.support.checkout import ROOT
from tests.support.fake_worker import create
from tests.support.programs import program
from tests.support.stack import Stack
from tests.support.terminal import Terminal

pytestmark = pytest.mark.long

PROMPT = "ready> "
# None reads anything of the person who runs the tests.
SHELLS = {
    "bash": (("bash", "--norc", "--noprofile"), f"PS1='{PROMPT}'", 'eval "$({})"'),
    "zsh": (("zsh", "-f"), f"PS1='{PROMPT}'; autoload -Uz compinit; compinit -u -D", 'eval "$({})"'),
    "fish": (("fish", "--no-config"), f"function fish_prompt; echo -n '{PROMPT}'; end", "{} | source"),
}


class Shell:
    """A shell in which the completion is set up."""

    def __init__(self, name: str, terminal: Terminal) -> None:
        self.terminal = terminal
        _, prompt, load = SHELLS[name]
        terminal.type(f"{prompt}\r")
        terminal.until(lambda text: text.splitlines()[-1:] == [PROMPT.rstrip()])
        terminal.type(load.format(f"headway completion {name}") + "; echo load''ed\r")
        terminal.until(lambda text: "\nloaded\n" in text)

    def completes(self, typed: str, to: str) -> None:
        """What is typed before a TAB becomes this, and what is typed then stands right behind it."""
        self.terminal.type(f"{typed}\t")
        self.terminal.until(lambda text: f"{PROMPT}{to}".rstrip() in text)
        self.terminal.type("@")
        self.terminal.until(lambda text: f"{PROMPT}{to}@" in text)
        self.terminal.type("\x15")  # the line is taken back
        self.terminal.until(lambda text: f"{to}@" not in text.splitlines()[-1])

    def lists(self, typed: str, *words: str) -> None:
        self.terminal.type(f"{typed}\t\t")
        self.terminal.until(lambda text: all(word in text for word in words))
        self.terminal.type("\x03")


@pytest.fixture(params=list(SHELLS))
def shell(request: pytest.FixtureRequest, own_stack: Stack, tmp_path: Path) -> Iterator[Shell]:
    command = SHELLS[request.param][0]
    program(command[0])
    own_stack.start_web()
    # As `make setup` makes it.
    made = tmp_path / "headway"
    made.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m headway "$@"\n')
    made.chmod(0o755)
    environ = {
        "HEADWAY_URL": own_stack.url,
        "PATH": f"{tmp_path}:{Path(sys.executable).parent}:/usr/bin:/bin",
        "PYTHONPATH": str(ROOT),
        "HOME": str(tmp_path),
        "XDG_CONFIG_HOME": "",
        "XDG_DATA_HOME": "",
    }
    with Terminal(*command, columns=160, lines=40, **environ) as terminal:
        yield Shell(request.param, terminal)


def test_a_shell_completes_commands_options_ids_and_what_the_service_knows(
    shell: Shell, own_stack: Stack, tmp_path: Path
) -> None:
    own_stack.store.registry.register(
        "w", {"simulate": discover("worker.tasks")["simulate"].describe()}, alive_s=600
    )
    ids = [create(own_stack.store) for _ in range(3)]
    (tmp_path / "holiday.mov").touch()
    me = "headway"
    shell.completes(f"{me} wa", f"{me} watch ")
    shell.completes(f"{me} watch --js", f"{me} watch --json ")
    shell.completes(f"{me} watch {ids[0][:12]}", f"{me} watch {ids[0]} ")
    shell.completes(f"{me} cancel {ids[0]} --json {ids[1][:12]}", f"{me} cancel {ids[0]} --json {ids[1]} ")
    shell.completes(f"{me} list --limit 3 --state su", f"{me} list --limit 3 --state succeeded ")
    shell.completes(f"{me} submit --file {tmp_path}/holi", f"{me} submit --file {tmp_path}/holiday.mov ")
    for python in ("python", "python3"):
        shell.completes(f"{python} -m headway completion z", f"{python} -m headway completion zsh ")
        shell.completes(f"{python} -m headway list --sta", f"{python} -m headway list --state ")
    shell.completes(f"python {tmp_path}/holi", f"python {tmp_path}/holiday.mov ")  # as without us
    shell.completes(f"{me} submit si", f"{me} submit simulate ")
    shell.completes(f"{me} submit simulate --group g dur", f"{me} submit simulate --group g duration_s=")
    shell.lists(f"{me} submit simulate ", "duration_s=", "log_every=", "--file")

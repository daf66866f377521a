"""docs/clients.md has every command, every option and every exit status."""

from __future__ import annotations

import re

import pytest

import headway.client
from headway.cli import commands, tracker
from headway.cli.parser import make_parser
from headway.client import Client, ClientError
from tests.support.checkout import ROOT

DOCS = (ROOT / "docs" / "clients.md").read_text()


def options() -> list[tuple[str, str]]:
    _, commands = make_parser()
    return [
        (command, option)
        for command, parser in commands.items()
        for action in parser._actions
        for option in action.option_strings or [""]
        if option not in ("-h", "--help")
    ]


@pytest.mark.parametrize(("command", "option"), options())
def test_every_command_and_option_is_in_the_docs(command: str, option: str) -> None:
    section = DOCS.partition("## The command line")[2]
    assert re.search(rf"headway {command}\b", section)
    assert option in section
    if option not in ("", "--url", "--token", "--json"):
        own = next(
            part for part in section.split("\n### ") if command in part.partition("\n")[0].split(", ")
        )
        assert option in own


def test_every_exit_status_is_in_the_docs() -> None:
    for status in (*tracker.EXIT.values(), commands.USAGE, commands.INTERRUPTED, commands.PIPE_CLOSED):
        assert f"\n| {status} | " in DOCS


def test_every_method_and_error_of_the_client_is_in_the_docs() -> None:
    methods = {name for name in vars(Client) if not name.startswith("_")}
    errors = {
        name
        for name, value in vars(headway.client).items()
        if isinstance(value, type) and issubclass(value, ClientError)
    }
    section = DOCS.partition("## Python")[2].partition("\n## ")[0]
    missing = [name for name in methods | errors if f"`{name}" not in section]
    assert len(methods) >= 11
    assert not missing

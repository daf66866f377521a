"""Hostile texts do nothing but appear."""

from __future__ import annotations

import pytest

from service.cli.text import shown


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("\x1b[2J\x07", r"\x1b[2J\x07"),
        ("a\nb\rc", r"a\nb\rc"),
        ("\x9b31m\x7f", r"\x9b31m\x7f"),
        ("\u202egpj.exe\u2066", r"\u202egpj.exe\u2066"),
        ("\ud800", r"\ud800"),
        ("[red]é ☃ 日本[/red]", "[red]é ☃ 日本[/red]"),
        ("a\tb", "a b"),
    ],
)
def test_what_does_not_print_is_shown_as_its_escape(text: str, expected: str) -> None:
    assert shown(text) == expected

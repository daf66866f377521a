"""docs/state-machine.md, the table of transitions and the Lua scripts say the same."""

from __future__ import annotations

import re
from pathlib import Path

from headway.contract.states import LIVE, TRANSITIONS

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "state-machine.md").read_text()
LUA = ROOT / "headway" / "contract" / "lua"
ROWS = re.findall(r"(?m)^\| (?:`(\w+)`)? ?\| `(\w+)` \| (.*?) \| (.*?) \|$", PAGE)


def test_the_page_has_every_transition_of_the_table_and_no_other() -> None:
    told = {(source, target) for source, target, _, _ in ROWS if source}
    table = {(source, target) for source, targets in TRANSITIONS.items() for target in targets}
    assert told == table


def test_only_ended_jobs_are_without_an_alarm() -> None:
    for _, target, _, alarm in ROWS:
        assert (alarm == "none") == (target not in LIVE), target


def test_every_script_is_told_of_and_those_named_can_do_what_is_said_of_them() -> None:
    reads = {"read", "read_feed", "snapshot_feed", "list", "prelude", "clock", "tally", "upload"}
    reads |= {"claiming", "creation", "entries", "members", "moment", "outcomes", "reports", "search"}
    for path in LUA.glob("*.lua"):
        assert path.stem in reads or f"`{path.name}`" in PAGE, path.name
    for _, target, who, _ in ROWS:
        for name in re.findall(r"`(\w+\.lua)`", who):
            source = (LUA / name).read_text()
            # What it includes belongs to it; end.lua is handed the state it ends in.
            source += "".join((LUA / part).read_text() for part in re.findall(r"--@include (\S+)", source))
            assert f"'{target}'" in source or f'"{target}"' in source or name == "end.lua", (name, target)

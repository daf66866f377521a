"""The counters of web processes in the directory for temporary files."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.stack import Stack


@pytest.mark.long
def test_counters_of_a_killed_web_process_go_with_the_next_start_and_those_of_a_living_one_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    foreign = temporary / "headway-metrics-without-a-lock"
    foreign.mkdir()
    with (
        Stack(tmp_path / "one", DRAIN_S="0", TMPDIR=str(temporary)) as living,
        Stack(tmp_path / "two", DRAIN_S="0", TMPDIR=str(temporary)) as killed,
    ):
        living.start_web()
        (first,) = set(temporary.iterdir()) - {foreign}
        killed.start_web()
        (second,) = set(temporary.iterdir()) - {foreign, first}
        killed.restart_web()  # by SIGKILL
        assert first.is_dir()
        assert not second.exists()
        assert b"headway_" in living.get("/metrics")[1]
        killed.stop("web")
        living.stop("web")
    assert set(temporary.iterdir()) == {foreign}

"""What tests and benchmarks read of /proc."""

from __future__ import annotations

from tests.support.processes import Process, descendants, parse


def stat_line(pid: int, name: str, parent: int, utime: int, stime: int) -> str:
    return f"{pid} ({name}) S {parent} 7 7 0 -1 4194304 0 0 0 0 {utime} {stime} 5 6 20 0 1 0 99 0 0\n"


def test_cpu_time_is_user_and_system_time_and_that_of_ended_children_is_apart() -> None:
    process = parse(stat_line(42, "python", 1, 150, 50), b"python\0-m\0pytest\0", ticks=100)
    assert process == Process(42, 1, 7, "S", 2.0, 0.11, "python -m pytest ")


def test_a_process_name_may_hold_spaces_and_parentheses() -> None:
    assert parse(stat_line(42, "a) S 9 (b", 1, 100, 0), ticks=100).cpu_s == 1.0


def test_descendants_are_all_below_a_process_and_nobody_else() -> None:
    parents = {1: 0, 2: 1, 3: 2, 4: 3, 5: 1}
    table = {pid: parse(stat_line(pid, "p", parent, 0, 0)) for pid, parent in parents.items()}
    assert sorted(process.pid for process in descendants(2, table)) == [3, 4]
    assert descendants(99, table) == []

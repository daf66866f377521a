"""The pure parts of the benchmarks: what they read of /proc, and how they count."""

from __future__ import annotations

import json
import math

import pytest

from tests.bench.figures import Figure, figures
from tests.bench.jobs import NumberedKeys
from tests.bench.process import Memory, parse_io, parse_rollup, parse_schedstat
from tests.bench.publisher import Spec, body
from tests.bench.table import Row, Sample, Spread, cell, number, percentile, rows, text


def test_memory_is_read_from_a_rollup_and_adds_up() -> None:
    rollup = (
        "0000-ffff ---p 00000000 00:00 0    [rollup]\nRss:    2048 kB\nPss:    1024 kB\nPss_Anon: 9 kB\n"
    )
    assert parse_rollup(rollup) == Memory(2048, 1024)
    assert parse_rollup(rollup) + Memory(1, 2) == Memory(2049, 1026)
    assert parse_rollup("") == Memory(0, 0)


def test_writes_are_counted_and_not_the_bytes_written() -> None:
    assert parse_io("rchar: 1\nwchar: 2\nsyscr: 3\nsyscw: 45\nwrite_bytes: 6\n") == 45


def test_waiting_for_a_core_is_told_from_running() -> None:
    assert parse_schedstat("7000000000 2500000000 12\n") == 2.5


@pytest.mark.parametrize(("share", "expected"), [(0, 1), (0.5, 50), (0.99, 99), (1, 100)])
def test_a_percentile_is_the_nearest_rank(share: float, expected: float) -> None:
    assert percentile(list(range(100, 0, -1)), share) == expected


def test_there_is_no_percentile_of_nothing() -> None:
    assert math.isnan(percentile([], 0.5))


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0, "0"), (12345.6, "12,346"), (123.4, "123"), (12.345, "12.3"), (1.0, "1"), (0.01234, "0.0123")],
)
def test_a_number_is_shown_with_three_digits(value: float, expected: str) -> None:
    assert number(value) == expected


def test_runs_become_one_row_with_the_median_and_its_spread() -> None:
    samples = [Sample("s", "case", "who", {"p99 ms": value}) for value in (3.0, 1.0, 2.0)]
    samples.append(Sample("s", "case", "other", {"p50 ms": 5.0}))
    assert rows(samples) == [
        Row("case", "who", {"p99 ms": Spread(2.0, 1.0, 3.0, 3)}),
        Row("case", "other", {"p50 ms": Spread(5.0, 5.0, 5.0, 1)}),
    ]


def test_a_cell_shows_the_spread_only_where_there_is_one() -> None:
    assert cell(Spread(2.0, 1.0, 3.0, 3)) == "2 (1–3)"
    assert cell(Spread(2.0, 2.0, 2.0, 3)) == "2"
    assert cell(None) == "–"


def test_every_line_of_a_table_is_equally_long() -> None:
    samples = [
        Sample("s", "case", "who", {"a": 1.0, "b": 22222.0}),
        Sample("s", "a longer case", "x", {"b": 1}),
    ]
    title, _, *lines = text("Title", rows(samples)).split("\n")
    assert title == "## Title"
    assert len({len(line) for line in lines}) == 1


def fan(who: str, **values: float) -> Sample:
    names = {
        "rate": "deliveries/s",
        "cpu": "CPU µs each",
        "batch": "events a write",
        "write": "CPU µs a write",
    }
    return Sample(
        "fanout", "10,000 readers, 20 events/s", who, {names[name]: value for name, value in values.items()}
    )


def test_figures_are_ratios_to_the_peers_of_the_same_run() -> None:
    samples = [
        fan("headway", rate=200, cpu=6),
        fan("nchan", rate=100, cpu=9),
        fan("write(2) loop", rate=210, cpu=5),
    ]
    assert [(figure.reached, figure.holds) for figure in figures(samples)] == [(2.0, True), (1.2, False)]


def test_a_delivery_that_is_cheap_by_batching_is_shown_beside_the_price_of_a_write() -> None:
    samples = [fan("headway", cpu=2, batch=4, write=8), fan("write(2) loop", cpu=5, write=5)]
    delivery, write = figures(samples)
    assert (delivery.reached, delivery.holds) == (0.4, True)
    assert "4 events a write" in delivery.what
    assert (write.reached, write.holds) == (1.6, False)


def test_without_the_peer_there_is_no_figure() -> None:
    assert figures([fan("headway", rate=200, cpu=6)]) == []


def test_a_figure_says_whether_it_holds() -> None:
    assert str(Figure("lost", 0, 0)).startswith("holds")
    assert str(Figure("appends/s", 9, 10, at_least=True)).startswith("FALLS SHORT")


@pytest.mark.parametrize("kind", ["progress", "log"])
def test_a_published_body_is_json_that_holds_its_number_and_time(kind: str) -> None:
    found = json.loads(body(7, 100, kind))
    mark = found["data"] if kind == "progress" else found
    assert mark["n"] == 7
    assert mark["t"] > 0
    assert len(body(7, 100, kind)) == len(body(7, 0, kind)) + 100


def test_a_spec_survives_the_way_to_the_publisher() -> None:
    spec = Spec(20.0, 5.0, "ready", port=8000, path="/publish/%d")
    assert Spec(**json.loads(spec.argument())) == spec


def test_numbered_keys_give_the_ids_they_were_told_and_accept_them() -> None:
    keys = NumberedKeys(ids=iter(["0-bench-----------000001"]))
    assert keys.holds(keys.new_job_id("anyone"))

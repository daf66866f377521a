"""The figures to reach, and what was reached: from medians, beside the peers of the same run."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tests.bench.table import Row, Sample, number, rows

LOOP = "write(2) loop"
TICKETS = "headway, tickets"


@dataclass(frozen=True, slots=True)
class Figure:
    what: str
    reached: float
    limit: float
    at_least: bool = False

    @property
    def holds(self) -> bool:
        return self.reached >= self.limit if self.at_least else self.reached <= self.limit

    def __str__(self) -> str:
        sign = "≥" if self.at_least else "≤"
        answer = "holds" if self.holds else "FALLS SHORT"
        return f"{answer:11}  {self.what}: {number(self.reached)} ({sign} {number(self.limit)})"


def figures(samples: Iterable[Sample], size: int = 10_000) -> list[Figure]:
    """Those that these samples can say something about."""
    by_scenario: dict[str, list[Sample]] = {}
    for sample in samples:
        by_scenario.setdefault(sample.scenario, []).append(sample)
    found: list[Figure] = []

    def value(scenario: str, case: str, who: str, name: str) -> float | None:
        row = _row(rows(by_scenario.get(scenario, [])), case, who)
        spread = row.values.get(name) if row else None
        return spread.median if spread else None

    def figure(what: str, reached: float | None, limit: float, at_least: bool = False) -> None:
        if reached is not None:
            found.append(Figure(what, reached, limit, at_least))

    def ratio(case: str, who: str, name: str) -> float | None:
        ours, theirs = value("fanout", case, "headway", name), value("fanout", case, who, name)
        return ours / theirs if ours and theirs else None

    # At 20 events/s a peer that delivers more than half of what is published cannot be beaten twofold.
    for rate in (20, 40):
        case = f"{size:,} readers, {rate} events/s"
        times = ratio(case, "nchan", "deliveries/s")
        figure(f"deliveries/s of one job at {rate} events/s, times nchan's", times, 2, True)
    fan = f"{size:,} readers, 20 events/s"
    times = ratio(fan, TICKETS, "CPU µs each")
    figure("CPU a delivery with tickets, times without", 1 / times if times else None, 1.05)
    batch = value("fanout", fan, "headway", "events a write")
    how = f" ({number(batch)} events a write)" if batch else ""
    figure("CPU a delivery, times the bare loop's" + how, ratio(fan, LOOP, "CPU µs each"), 1.15)
    # The loop never puts two events into one write, so only a write compares like with like.
    for case in ("1,000 readers, 20 events/s", f"{size:,} readers, 5 events/s", fan):
        figure(f"CPU a write, {case}, times the bare loop's", ratio(case, LOOP, "CPU µs a write"), 1.15)
    each = f"{size:,} jobs, 5,000 events/s"
    figure("append to client at 5,000 events/s, p99 ms", value("spread", each, "headway", "p99 ms"), 5)
    figure("events lost there", value("spread", each, "headway", "lost"), 0)
    for case in ("a job each", "all of one job"):
        kib = value("memory", f"{size:,} streams, {case}", "headway", "RSS KiB a stream")
        figure(f"KiB an idle stream, {case}", kib, 2)
        storm = f"{size:,} readers, {case}"
        figure(f"storm, {case}: s until all are caught up",
               value("storm", storm, "headway", "caught up all s"), 6)  # fmt: skip
        for name in ("refused", "not 200", "gaps", "doubles", "incomplete"):
            figure(f"storm, {case}: {name}", value("storm", storm, "headway", name), 0)
        without = value("storm", storm, "headway", "caught up all s")
        with_tickets = value("storm", storm, TICKETS, "caught up all s")
        if without and with_tickets:
            figure(f"storm, {case}: s with tickets, times without", with_tickets / without, 1.1)
    for row in rows(by_scenario.get("outage", [])):
        for name in ("closed early", "gaps", "doubles", "resets", "incomplete"):
            figure(f"outage: {name}", row.values[name].median, 0)
    slow_cases = [f"{size // 2:,} readers, {silent} that never read" for silent in (0, 100)]
    p99 = [value("slow", case, "headway", "p99 ms") for case in slow_cases]
    figure(
        "p99 beside 100 that never read, times without", p99[1] / p99[0] if p99[0] and p99[1] else None, 1.1
    )
    rss = [value("slow", case, "headway", "RSS after load MiB") for case in slow_cases]
    figure("MiB that 100 slow readers cost", rss[1] - rss[0] if rss[0] and rss[1] else None, 10)
    for case in ("1 client, pipelined", "2 clients, 50 events a call"):
        per_s = value("store", f"appends, {case}", "headway", "events/s")
        figure(f"appends/s of one Valkey, {case}", per_s, 20_000, True)
    update = value("store", "a report in the task's loop", "stage.update()", "ns a call")
    figure("ns a stage.update()", update, 100)
    return found


def _row(found: Iterable[Row], case: str, who: str) -> Row | None:
    return next((row for row in found if (row.case, row.who) == (case, who)), None)

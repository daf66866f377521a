"""From noted numbers to progress."""

from __future__ import annotations

import json
import logging
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.contract.encoding import dumps
from headway.contract.records import HIGHEST_FRACTION, MAX_MESSAGE_CHARS, Progress
from headway.sdk.meter import Meter, Plan, Stage, StageWeight
from headway.sdk.stopping import JobCanceled, LeaseLost, Stop

numbers = st.none() | st.integers(-10, 10**9) | st.floats()


def stage(total: float | None = 100, weight: StageWeight | None = None, started: float = 0) -> Stage:
    return Stage("work", total, "frames", weight or StageWeight(), started, Stop())


def read(meter: Meter, now: float = 0) -> Progress:
    progress = meter.read(now)
    assert progress is not None
    return progress


def test_before_the_first_stage_there_is_nothing_to_say() -> None:
    assert Meter().read(0) is None
    assert Meter().final(0).fraction == 1


def test_fractions_are_weighted_over_the_stages() -> None:
    plan, meter = Plan({"probe": 1, "encode": 7, "publish": 2}), Meter()
    seen = []
    for name in ("probe", "encode", "publish"):
        meter.stage = stage(100, plan.weight(name))
        meter.stage.update(50)
        progress = read(meter)
        assert progress.stage is not None
        seen.append((progress.stage.index, progress.stage.count, progress.fraction))
    assert seen == [(1, 3, 0.05), (2, 3, 0.45), (3, 3, 0.9)]


def test_a_plan_wants_positive_weights_and_knows_its_stages() -> None:
    for weights in ({}, {"a": 0.0}, {"a": -1.0}, {"a": math.nan}, {"a": math.inf}):
        with pytest.raises(ValueError, match="positive"):
            Plan(weights)
    with pytest.raises(ValueError, match="no stage 'b' in the plan"):
        Plan({"a": 1}).weight("b")


def test_an_unknown_total_is_null_and_never_negative() -> None:
    meter = Meter()
    meter.stage = stage(total=None)
    meter.stage.update(7)
    progress = read(meter)
    assert (progress.fraction, progress.total, progress.current) == (None, None, 7)
    meter.stage.total = 0
    assert read(meter).fraction is None
    meter.stage.total = 14
    assert read(meter).fraction == 0.5


def test_one_comes_only_with_success() -> None:
    meter = Meter()
    meter.stage = stage(100)
    meter.stage.update(1000)
    meter.stage.done = True
    assert read(meter).fraction == HIGHEST_FRACTION
    final = meter.final(1)
    assert final.fraction == 1
    assert final.stage is not None
    assert final.stage.fraction == 1
    assert (final.current, final.eta_s) == (100, None)


@given(st.lists(st.tuples(numbers, numbers), max_size=30))
def test_a_fraction_never_falls_and_all_of_it_is_json(steps: list[tuple[Any, Any]]) -> None:
    meter, plan = Meter(), Plan({"one": 1, "two": 3})
    highest = 0.0
    for n, (current, total) in enumerate(steps):
        if n % 10 == 0:
            meter.stage = stage(None, plan.weight("one" if n < 10 else "two"))
        assert meter.stage is not None
        meter.stage.total = total
        meter.stage.update(current)
        progress = read(meter, n / 4)
        json.loads(dumps(progress.model_dump()))
        if progress.fraction is not None:
            assert highest <= progress.fraction <= HIGHEST_FRACTION
            highest = progress.fraction


def test_eta_is_absent_until_it_means_something() -> None:
    meter = Meter()
    meter.stage = work = stage(1000)
    for quarter in range(200):
        now = quarter / 4
        work.update(now * 5)
        eta = read(meter, now).eta_s
        if now < 4:  # 2 % of 1000 at 5 a second
            assert eta is None, now
        else:
            assert eta == pytest.approx((1000 - now * 5) / 5, abs=0.2)


def test_eta_counts_later_stages_by_their_weights() -> None:
    meter, plan = Meter(), Plan({"encode": 3, "publish": 1})
    meter.stage = work = stage(90, plan.weight("encode"))
    for second in range(46):
        work.update(second)
        progress = read(meter, second)
    assert progress.eta_s == pytest.approx(45 + 30)


def test_no_eta_is_left_once_the_estimate_is_used_up_though_other_stages_follow() -> None:
    meter, plan = Meter(), Plan({"encode": 3, "publish": 1})
    meter.stage = work = stage(20, plan.weight("encode"))
    for second in range(20):
        work.update(second)
        assert read(meter, second).eta_s is not None or second < 2
    work.update(20)
    assert read(meter, 20).eta_s is None


def test_rate_and_eta_look_back_a_window_not_to_the_beginning() -> None:
    meter = Meter()
    meter.stage = work = stage(10_000)
    for second in range(100):
        work.update(second * 10)
        read(meter, second)
    for second in range(100, 120):
        work.update(1000 + (second - 100) * 50)
        progress = read(meter, second)
    assert progress.rate == 50
    for second in range(120, 140):
        progress = read(meter, second)
    assert (progress.rate, progress.eta_s) == (0, None), "it stands still"


def test_data_that_cannot_be_sent_is_left_out_with_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    meter = Meter()
    meter.stage = work = stage()
    for data in ({"x": object()}, {"x": math.nan}, {"x": "y" * 20_000}):
        work.data = {}
        work.update(1, **data)
        with caplog.at_level(logging.WARNING):
            assert read(meter).data == {}
    assert len(caplog.records) == 1
    work.data = {}
    work.update(1, fps=2)
    work.update(2, speed=1.5)
    assert read(meter).data == {"fps": 2, "speed": 1.5}


def test_a_message_is_kept_until_the_next_and_clipped() -> None:
    meter = Meter()
    meter.stage = work = stage()
    work.update(1, "x" * 10_000)
    work.update(2)
    message = read(meter).message
    assert message is not None
    assert len(message) == MAX_MESSAGE_CHARS


def test_noting_a_number_raises_when_the_job_must_end() -> None:
    work = stage()
    stop = work._stop
    with stop.shield():
        stop.request(JobCanceled)
        work.update(1)
        work.advance()
    for note in (lambda: work.update(3), work.advance):
        with pytest.raises(JobCanceled):
            note()
    stop.request(LeaseLost)
    with stop.shield(), pytest.raises(LeaseLost):
        work.update(4)
    assert work.current == 4

"""headway.celery's pure parts: what is kept of values, which tasks are jobs, arguments by name, bars."""

from __future__ import annotations

import datetime
import decimal
import enum
import inspect
import json
import re
import uuid
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery, chain, chord, group, states
from celery.exceptions import Reject, Retry, SoftTimeLimitExceeded
from jsonschema import Draft202012Validator
from pydantic import BaseModel

from headway.celery import instrument
from headway.celery.bars import note_state
from headway.celery.redaction import HIDDEN, Redaction
from headway.celery.run import Canceled, Run, failure, outcome_of
from headway.celery.selection import Selection
from headway.celery.signature import TaskSignature
from headway.celery.task_message import TaskMessage, following
from headway.contract.foreign import job_id_of, placed, task_id_of
from headway.contract.keys import JOB_ID, JobRef, Keys
from headway.contract.layout import Layout
from headway.contract.new_job import NewJob
from headway.contract.settings import ConfigError, load_client
from headway.contract.states import ErrorCode, State
from headway.sdk.stopping import JobCanceled


class Color(enum.Enum):
    RED = "red"


class Point(BaseModel):
    x: int


# -- what is kept -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        (None, None),
        (True, True),
        ("ä\ud800", "ä?"),
        (float("nan"), "nan"),
        ((1, {2}), [1, [2]]),
        ({1: {"a": [None]}}, {"1": {"a": [None]}}),
        (datetime.date(2026, 11, 26), "2026-11-26"),
        (decimal.Decimal("1.50"), "1.50"),
        (Color.RED, "red"),
        (b"abc", "(bytes of 3, not kept)"),
        (object(), "(object, not kept)"),
    ],
)
def test_a_value_is_kept_as_json_has_it(value: Any, kept: Any) -> None:
    params, _ = Redaction().params("t", {"a": value})
    assert params == {"a": kept}
    json.dumps(params, allow_nan=False).encode()


def test_an_argument_that_is_too_large_or_too_deep_is_not_kept_and_not_walked() -> None:
    class Endless(dict[str, Any]):
        def items(self) -> Any:
            while True:
                yield "k", "v"

    deep: list[Any] = []
    for _ in range(100):
        deep = [deep]
    for value in ("x" * 1_030, ["x"] * 10**6, 1 << 10**6, Endless(), deep):
        params, partial = Redaction().params("t", {"a": value, "b": 1})
        assert partial
        assert params["a"].startswith("(not kept")
        assert params["b"] == 1
    assert Redaction().params("t", {"a": "x" * 1_000}) == ({"a": "x" * 1_000}, False)


def test_names_hide_arguments_and_keys_within_arguments_and_results() -> None:
    redaction = Redaction(["password", "*TOKEN*"])
    params, partial = redaction.params("t", {"Password": "x", "user": {"api_token": "y", "name": "z"}})
    assert partial
    assert params == {"Password": HIDDEN, "user": {"api_token": HIDDEN, "name": "z"}}
    assert redaction.result("t", [{"token": 1}]) == [{"token": HIDDEN}]
    assert Redaction("result").result("t", 1) is None


def test_nothing_is_kept_if_all_is_hidden_or_a_function_fails() -> None:
    everything = Redaction(True)
    assert everything.params("t", {"a": 1}) == ({}, True)
    assert everything.result("t", 1) is None
    assert everything.error("t", ValueError("secret")) == "ValueError"

    def fails(task: str, what: str, value: Any) -> Any:
        raise RuntimeError(value)

    broken = Redaction(fails)
    assert broken.params("t", {"a": 1}) == ({}, True)
    assert broken.result("t", 1) is None
    assert broken.error("t", ValueError("secret")) == "ValueError"

    shown = Redaction(lambda task, what, value: value if what == "error" else "hidden")
    assert shown.error("t", ValueError("a\nb")) == "ValueError: a b"
    assert shown.result("t", 1) == "hidden"


@pytest.mark.parametrize("redact", [3, [1], None])
def test_a_redaction_that_is_none_is_refused(redact: Any) -> None:
    with pytest.raises(TypeError):
        Redaction(redact)


# -- which tasks ----------------------------------------------------------------------------------------


def test_tasks_are_chosen_by_name_and_by_share() -> None:
    chosen = Selection(["shop.*"], ["shop.mail.*"], 1)
    assert chosen.takes("shop.add", "r")
    assert not chosen.takes("shop.mail.send", "r")
    assert not chosen.takes("other", "r")
    everything = Selection(None, (), 1)
    assert not everything.takes("celery.chord_unlock", "r")
    assert everything.takes("celery.starmap", "r")
    some = Selection(None, (), 0.25)
    roots = [str(uuid.uuid4()) for _ in range(4_000)]
    taken = [root for root in roots if some.takes("a", root)]
    assert 800 < len(taken) < 1_200
    assert all(some.takes("b", root) for root in taken), "a tree is seen as a whole"


@pytest.mark.parametrize(
    ("given", "error"),
    [((None, (), 1.5), ValueError), ((3, (), 1), TypeError), ((None, (), "0.5"), TypeError)],
)
def test_a_selection_that_is_none_is_refused(given: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        Selection(*given)


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ({"app": "shop"}, TypeError, "takes a Celery app, not 'shop'"),
        ({"owner": "a b/é"}, ValueError, "'a b/é' is not an owner"),
        ({"owner": 3}, ValueError, "3 is not an owner"),
        ({"sample": "0.5"}, TypeError, "sample is a number between 0 and 1, not '0.5'"),
    ],
)
def test_what_cannot_be_instrumented_is_one_clear_sentence(
    given: dict[str, Any], error: type[Exception], words: str
) -> None:
    app = Celery("plain", broker="memory://", set_as_current=False)
    with pytest.raises(error, match=re.escape(words)):
        instrument(**{"app": app, **given})


# -- ids, settings, messages ----------------------------------------------------------------------------


def test_a_tasks_id_and_its_jobs_id_follow_from_one_another() -> None:
    keys = Keys(layout=Layout(3))

    def job_id_here(owner: str, task_id: str) -> str:
        return placed(keys, owner, job_id_of(owner, task_id))

    task_id = str(uuid.uuid4())
    job_id = job_id_here("acme", task_id)
    assert JOB_ID.fullmatch(job_id)
    assert placed(keys, "acme", job_id) == job_id
    assert task_id_of(job_id) == task_id
    assert job_id_here("acme", task_id_of(job_id)) == job_id
    for other in ("nightly", task_id.upper(), "", "ä\ud800"):
        assert JOB_ID.fullmatch(job_id_here("acme", other))
    assert job_id_of("acme", "nightly") != job_id_of("b", "nightly")


def test_only_settings_about_the_store_are_read_and_ours_are_preferred() -> None:
    environ = {"REDIS_URL": "redis://theirs", "HOST": "0.0.0.0", "PORT": "x", "LEASE_S": "4"}
    assert load_client(environ).redis_url == "redis://theirs"
    assert load_client({**environ, "HEADWAY_LEASE_S": "5"}).lease_s == 5
    assert load_client({**environ, "HEADWAY_REDIS_URL": "redis://ours"}).redis_url == "redis://ours"
    assert load_client(environ, "redis://given").redis_url == "redis://given"
    with pytest.raises(ConfigError, match="HEADWAY_REDIS_URL is not set"):
        load_client({})


def test_a_message_of_either_protocol_is_understood_and_no_other() -> None:
    headers = {"id": "i", "task": "t", "root_id": None, "group": "g", "eta": "2030-01-01T00:00:00+00:00"}
    message = TaskMessage.sent(headers, ((1,), {"a": 2}, {}))
    assert message is not None
    assert (message.args, message.kwargs, message.root_id, message.group) == ((1,), {"a": 2}, "i", "g")
    assert message.eta_ms(0) == 1_893_456_000_000
    assert message.eta_ms(1e15) == 0
    old = TaskMessage.sent(None, {"id": "i", "task": "t", "args": [1], "kwargs": {}, "taskset": "g"})
    assert old is not None
    assert (old.args, old.group) == ((1,), "g")
    for bad in (({}, "text"), ({"id": 1, "task": "t"}, ((), {}, {})), (None, ((), {}, {}))):
        assert TaskMessage.sent(*bad) is None  # type: ignore[arg-type]


def test_all_tasks_of_what_comes_next_in_a_chain_go_on_where_its_task_ends() -> None:
    app = Celery("plain", broker="memory://", backend="cache+memory://")

    def one(name: str) -> Any:
        return app.signature("t", task_id=name)

    first, last = [one("b"), chain(one("c"), one("d"))], one("e")
    for header in (first, json.loads(json.dumps(group(first, app=app)))):
        request = SimpleNamespace(chain=[one("z"), chord(header, last, app=app)], chord=None)
        assert following(request).keys() == {"b", "c"}
    found = following(SimpleNamespace(chain=[group(first, app=app, task_id="g")], chord=last))
    assert found == {"b": "g", "c": None, "e": None}
    assert following(SimpleNamespace(chain=None, chord=None)) == {}


# -- arguments by name ----------------------------------------------------------------------------------


def positional(a: int, /, b: Point, *rest: float, c: str | None = None, **more: Any) -> None: ...


def any_of_them(self: Any, *args: Any, **kwargs: Any) -> None: ...


def two(args: Any, kwargs: Any = None) -> None: ...


def plain(x: int, y: "NotThere" = None) -> None: ...  # type: ignore[name-defined]  # noqa: F821, UP037


@pytest.mark.parametrize(
    ("function", "args", "kwargs", "params"),
    [
        (plain, (1,), {}, {"x": 1}),
        (plain, (), {"x": 1, "y": 2}, {"x": 1, "y": 2}),
        (positional, (1, 2, 3.0), {"c": "z", "d": 5}, {"a": 1, "b": 2, "rest": (3.0,), "c": "z", "d": 5}),
        (positional, (1,), {"b": 2}, {"a": 1, "b": 2}),
        (plain, (1, 2, 3), {}, {"args": [1, 2, 3], "kwargs": {}}),
        (None, (1,), {"a": 2}, {"args": [1], "kwargs": {"a": 2}}),
        (any_of_them, ("s", 1), {"z": 2}, {"self": "s", "args": (1,), "z": 2}),
        (any_of_them, ("s",), {"args": [1]}, {"args": ["s"], "kwargs": {"args": [1]}}),
        (any_of_them, ("s",), {"kwargs": {}}, {"args": ["s"], "kwargs": {"kwargs": {}}}),
        (lambda *args, **more: 0, (1,), {"kwargs": {}}, {"args": [1], "kwargs": {"kwargs": {}}}),
        (lambda a, /, **more: 0, (1,), {"a": 2}, {"args": [1], "kwargs": {"a": 2}}),
        (two, ([1], {"z": 2}), {}, {"args": [1], "kwargs": {"z": 2}}),
    ],
)  # fmt: skip
def test_arguments_get_their_names_and_come_back(
    function: Any, args: tuple[Any, ...], kwargs: dict[str, Any], params: dict[str, Any]
) -> None:
    signature = TaskSignature(function)
    assert signature.to_params(args, kwargs) == params
    call = signature.to_call(json.loads(json.dumps(params)))
    if function is not None and function is not plain:
        bound = inspect.signature(function).bind
        assert bound(*call[0], **call[1]) == bound(*args, **kwargs)
    again = signature.to_params(*call)
    assert json.dumps(again, sort_keys=True) == json.dumps(params, sort_keys=True)


def test_parameters_that_could_not_be_args_and_kwargs_are_named() -> None:
    assert TaskSignature(lambda **kwargs: 0).to_call({"args": 5, "kwargs": {}}) == (
        [],
        {"args": 5, "kwargs": {}},
    )


def test_a_signature_is_a_schema() -> None:
    schema = TaskSignature(positional).schema()
    Draft202012Validator.check_schema(schema)
    fits = Draft202012Validator(schema).is_valid
    assert fits({"a": 1, "b": {"x": 2}, "rest": [1.5], "c": None, "other": []})
    assert not fits({"a": "1", "b": {"x": 2}})
    assert not fits({"b": {"x": 2}})
    assert not Draft202012Validator(TaskSignature(plain).schema()).is_valid({"x": 1, "z": 1})


# -- runs -----------------------------------------------------------------------------------------------


def new_run() -> Run:
    task = SimpleNamespace(name="t", acks_late=True)
    new = NewJob("local", "t", {}, "q", 1)
    return Run(task, "id", JobRef("0-x", "local", "q"), 0, lambda: new, lambda run: None)


def test_the_outermost_bar_is_shown_and_a_second_one_has_no_share_of_the_whole() -> None:
    run = new_run()
    assert run.note("outer", 1, 4, name="rows")
    assert not run.note("inner", 3, 3)
    assert not run.note("outer", 2, 4)
    progress = run.meter.read(0)
    assert progress is not None
    assert (progress.fraction, progress.current) == (0.5, 2)
    run.close("outer")
    assert run.note("second", 1, 10)
    progress = run.meter.read(1)
    assert progress is not None
    assert progress.fraction is None
    assert progress.stage is not None
    assert (progress.stage.index, progress.stage.fraction) == (2, 0.1)


@pytest.mark.parametrize(
    ("meta", "current", "total", "message"),
    [
        ({"current": 3, "total": 10, "status": "x"}, 3, 10, "x"),
        ({"done": 3, "total": 10, "message": "y"}, 3, 10, "y"),
        ({"percent": 30}, 30, 100, None),
        ({"percent": 30, "total": 7}, 30, 100, None),
        ({"progress": 3, "total": 10}, 3, 10, None),
        ({"progress": decimal.Decimal(30), "description": "z"}, 30, 100, "z"),
    ],
)
def test_what_update_state_says_is_read(meta: Any, current: float, total: float, message: str) -> None:
    run = new_run()
    assert note_state(run, meta)
    progress = run.meter.read(0)
    assert progress is not None
    assert (progress.current, progress.total, progress.message) == (current, total, message)


@pytest.mark.parametrize("meta", [None, "text", {}, {"current": "three"}, {"total": 3}, {"current": None}])
def test_what_says_nothing_of_progress_is_left_alone(meta: Any) -> None:
    run = new_run()
    assert not note_state(run, meta)
    assert run.meter.stage is None


def test_a_note_of_a_canceled_job_raises() -> None:
    run = new_run()
    run.stop.request(JobCanceled)
    # Elsewhere it would end a thread that the task may wait for.
    with ThreadPoolExecutor(1) as pool:
        pool.submit(run.note, "bar", 1, 2).result()
    with pytest.raises(Canceled):
        run.note("bar", 1, 2)


@pytest.mark.parametrize(
    ("state", "returned", "ended", "code"),
    [
        (states.SUCCESS, 1, State.SUCCEEDED, ErrorCode.ERROR),
        (states.FAILURE, ValueError("x"), State.FAILED, ErrorCode.ERROR),
        (states.FAILURE, SoftTimeLimitExceeded(), State.FAILED, ErrorCode.TIMEOUT),
        (states.RETRY, Retry("r", ValueError("x"), 5), State.RETRYING, ErrorCode.ERROR),
        (states.REJECTED, Reject("r", requeue=True), State.RETRYING, ErrorCode.ERROR),
        (states.REJECTED, Reject("r"), State.FAILED, ErrorCode.ERROR),
        (states.IGNORED, None, State.CANCELED, ErrorCode.ERROR),
    ],
)
def test_each_end_of_celery_has_its_outcome(
    state: str, returned: Any, ended: State, code: ErrorCode
) -> None:
    outcome = outcome_of(new_run(), state, returned, Redaction())
    assert (outcome.state, outcome.code) == (ended, code)
    if state == states.RETRY:
        assert (outcome.delay_s, outcome.message) == (5, "ValueError: x")


def test_a_rejected_message_is_the_same_outcome_from_either_process() -> None:
    rejected = Reject("no", requeue=False)
    from_its_own = outcome_of(new_run(), states.REJECTED, rejected, Redaction())
    assert failure("a.task", rejected, Redaction()) == from_its_own


def test_a_retry_at_a_time_of_day_is_due_then() -> None:
    when = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=60)
    outcome = outcome_of(new_run(), states.RETRY, Retry("r", None, when), Redaction())
    assert 50 < outcome.delay_s <= 60


def test_a_task_that_says_how_it_ended_and_ends_itself_has_ended_so() -> None:
    run = new_run()
    run.said = (states.FAILURE, None)
    assert outcome_of(run, states.IGNORED, None, Redaction()).state is State.FAILED
    run = new_run()
    run.said = (states.SUCCESS, {"rows": 3, "password": "x"})
    outcome = outcome_of(run, states.IGNORED, None, Redaction(["password"]))
    assert (outcome.state, outcome.result) == (State.SUCCEEDED, {"rows": 3, "password": HIDDEN})
    run = new_run()
    run.resent = True
    assert outcome_of(run, states.IGNORED, None, Redaction()).state is State.RETRYING
